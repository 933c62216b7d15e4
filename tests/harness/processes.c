#include "tests/harness/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "tests/harness/harness.h"

enum { PROCESSES_MAX = 40000, CHUNK = 1 << 20 };

/* --- Who they are --------------------------------------------------------------------------- */

static bool
read_stat(pid_t pid, struct process *p)
{
    char path[64];
    char *text, *after;
    long parent;
    bool is_read;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    text = harness_read_file(path, NULL);
    after = text != NULL ? strrchr(text, ')') : NULL;
    is_read = after != NULL && sscanf(after + 1, " %c %ld", &p->state, &parent) == 2;
    if (is_read) {
        p->pid = pid;
        p->parent = (pid_t)parent;
    }
    free(text);
    return is_read;
}

/* Not from the owner of /proc/PID: of a process that is not dumpable that is root. */
static uid_t
read_uid(pid_t pid)
{
    char path[64];
    char *text;
    const char *line;
    uid_t uid = (uid_t)-1;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    text = harness_read_file(path, NULL);
    line = text != NULL ? strstr(text, "\nUid:") : NULL;
    if (line != NULL)
        uid = (uid_t)strtoul(line + strlen("\nUid:"), NULL, 10);
    free(text);
    return uid;
}

static void
read_title(struct process *p)
{
    char path[64];
    char *text;
    size_t size = 0;

    p->uid = read_uid(p->pid);
    snprintf(path, sizeof(path), "/proc/%d/cmdline", p->pid);
    text = harness_read_file(path, &size);
    for (size_t i = 0; text != NULL && i + 1 < size; i++)
        text[i] = text[i] == '\0' ? ' ' : text[i];
    snprintf(p->title, sizeof(p->title), "%s", text != NULL ? text : "");
    free(text);
}

static size_t
list_all(struct process *all)
{
    size_t count = 0;
    DIR *proc = opendir("/proc");
    const struct dirent *entry;

    while (proc != NULL && (entry = readdir(proc)) != NULL && count < PROCESSES_MAX) {
        if (isdigit((unsigned char)entry->d_name[0]) && read_stat(atoi(entry->d_name), &all[count]))
            count++;
    }
    if (proc != NULL)
        closedir(proc);
    return count;
}

/* A process is below root if one of those found before is its parent; repeated until none is new. */
size_t
processes_below(pid_t root, struct process *found, size_t room)
{
    struct process *all = calloc(PROCESSES_MAX, sizeof(*all));
    size_t all_count = all != NULL ? list_all(all) : 0, count = 0;
    bool *is_below = calloc(all_count + 1, sizeof(*is_below));
    pid_t *below = calloc(all_count + 1, sizeof(*below));

    for (size_t i = 0; i < all_count; i++) {
        if (all[i].pid == root) {
            is_below[i] = true;
            below[count++] = root;
        }
    }
    for (size_t at = 0; at < count; at++) {
        for (size_t i = 0; i < all_count; i++) {
            if (!is_below[i] && all[i].parent == below[at]) {
                is_below[i] = true;
                below[count++] = all[i].pid;
            }
        }
    }
    for (size_t at = 0; at < count && at < room; at++) {
        for (size_t i = 0; i < all_count; i++) {
            if (all[i].pid == below[at])
                found[at] = all[i];
        }
        read_title(&found[at]);
    }
    free(all);
    free(is_below);
    free(below);
    return count;
}

struct named {
    const char *title;
    pid_t first;
    size_t count;
};

static struct named
find_named(pid_t root, const char *title)
{
    struct named named = { .title = title };
    struct process *found = calloc(PROCESSES_MAX, sizeof(*found));
    size_t count = found != NULL ? processes_below(root, found, PROCESSES_MAX) : 0;

    for (size_t i = 0; i < count; i++) {
        if (found[i].state == 'Z' || strncmp(found[i].title, title, strlen(title)) != 0)
            continue;
        if (named.count++ == 0)
            named.first = found[i].pid;
    }
    free(found);
    return named;
}

pid_t
process_named(pid_t root, const char *title)
{
    return find_named(root, title).first;
}

size_t
processes_named(pid_t root, const char *title)
{
    return find_named(root, title).count;
}

bool
process_wait_end(pid_t pid, int64_t deadline_ms)
{
    int pidfd = pidfd_open(pid, 0);
    bool has_ended = pidfd < 0 || harness_wait_fd(pidfd, POLLIN, deadline_ms);

    fd_close(&pidfd);
    return has_ended;
}

bool
process_signal(pid_t root, pid_t pid, int number)
{
    int pidfd = pidfd_open(pid, 0);
    struct process p = { .parent = pid };
    bool is_sent = false;

    while (pidfd >= 0 && p.parent > 1 && p.parent != root && read_stat(p.parent, &p)) {}
    if (pidfd >= 0 && p.parent == root)
        is_sent = pidfd_send_signal(pidfd, number, NULL, 0) == 0;
    fd_close(&pidfd);
    return is_sent;
}

/* --- Descriptors ---------------------------------------------------------------------------- */

/* The inodes of all SOCK_SEQPACKET sockets, sorted. */
struct inodes {
    unsigned long *of;
    size_t count, room;
};

static int
compare_inodes(const void *a, const void *b)
{
    unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

    return x < y ? -1 : x > y;
}

static struct inodes
list_mailboxes(void)
{
    struct inodes inodes = { 0 };
    char *line = NULL;
    size_t line_room = 0;
    FILE *table = fopen("/proc/net/unix", "re");

    while (table != NULL && getline(&line, &line_room, table) > 0) {
        unsigned type;
        unsigned long inode;

        if (sscanf(line, "%*s %*s %*s %*s %x %*s %lu", &type, &inode) != 2 || type != 5)
            continue;
        if (inodes.count == inodes.room) {
            inodes.room = 2 * inodes.room + 64;
            inodes.of = realloc(inodes.of, inodes.room * sizeof(*inodes.of));
            if (inodes.of == NULL)
                abort();
        }
        inodes.of[inodes.count++] = inode;
    }
    free(line);
    if (table != NULL)
        fclose(table);
    if (inodes.count > 0)
        qsort(inodes.of, inodes.count, sizeof(*inodes.of), compare_inodes);
    return inodes;
}

static bool
is_mailbox(const struct inodes *inodes, const char *link)
{
    unsigned long inode;

    return sscanf(link, "socket:[%lu]", &inode) == 1 && inodes->count > 0 &&
           bsearch(&inode, inodes->of, inodes->count, sizeof(inode), compare_inodes) != NULL;
}

/* Calls each with every descriptor's link; false: the folder cannot be read. */
static bool
for_each_descriptor(pid_t pid, void (*each)(const char *number, const char *link, void *context),
                    void *context)
{
    char path[64];
    DIR *entries;
    const struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    entries = opendir(path);
    if (entries == NULL)
        return false;
    while ((entry = readdir(entries)) != NULL) {
        char link[256];
        ssize_t size = readlinkat(dirfd(entries), entry->d_name, link, sizeof(link) - 1);

        if (size < 0)
            continue;
        link[size] = '\0';
        each(entry->d_name, link, context);
    }
    closedir(entries);
    return true;
}

struct counting {
    struct descriptors *d;
    struct inodes mailboxes;
};

static void
count_descriptor(const char *number, const char *link, void *context)
{
    struct counting *c = context;

    (void)number;
    c->d->all++;
    if (is_mailbox(&c->mailboxes, link))
        c->d->mailboxes++;
    else if (strncmp(link, "/memfd:", strlen("/memfd:")) == 0)
        c->d->memfds++;
    else
        c->d->others++;
}

bool
process_descriptors(pid_t pid, struct descriptors *d)
{
    struct counting c = { .d = d, .mailboxes = list_mailboxes() };
    bool is_read;

    *d = (struct descriptors){ 0 };
    is_read = for_each_descriptor(pid, count_descriptor, &c);
    free(c.mailboxes.of);
    return is_read;
}

struct describing {
    FILE *out;
    struct inodes mailboxes;
};

static void
describe_descriptor(const char *number, const char *link, void *context)
{
    struct describing *d = context;

    if (!is_mailbox(&d->mailboxes, link))
        fprintf(d->out, "    %s %s\n", number, link);
}

char *
process_describe_descriptors(pid_t pid)
{
    char *text = NULL;
    size_t size;
    struct describing d = { .out = open_memstream(&text, &size), .mailboxes = list_mailboxes() };

    if (d.out == NULL)
        return strdup("");
    if (!for_each_descriptor(pid, describe_descriptor, &d))
        fputs("    cannot be read\n", d.out);
    free(d.mailboxes.of);
    fclose(d.out);
    return text;
}

/* --- Memory --------------------------------------------------------------------------------- */

static long
field_kib(pid_t pid, const char *file, const char *field)
{
    char path[64];
    char *text;
    const char *at;
    long kib = -1;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    text = harness_read_file(path, NULL);
    at = text != NULL ? strstr(text, field) : NULL;
    if (at != NULL)
        kib = strtol(at + strlen(field), NULL, 10);
    free(text);
    return kib;
}

long
process_private_dirty_kib(pid_t pid)
{
    return field_kib(pid, "smaps_rollup", "Private_Dirty:");
}

long
process_rss_anon_kib(pid_t pid)
{
    return field_kib(pid, "status", "RssAnon:");
}

long
process_peak_kib(pid_t pid)
{
    return field_kib(pid, "status", "VmHWM:");
}

static long
count_in(const uint8_t *bytes, size_t size, const void *wanted, size_t wanted_size)
{
    long count = 0;
    const uint8_t *at = bytes;

    while ((at = memmem(at, size - (size_t)(at - bytes), wanted, wanted_size)) != NULL) {
        count++;
        at++;
    }
    return count;
}

/* One map, in chunks that overlap by one byte less than what is looked for. */
static long
count_in_map(int memory, uint64_t from, uint64_t to, const void *wanted, size_t wanted_size,
             uint8_t *chunk)
{
    long count = 0;

    while (from < to) {
        size_t room = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t got = pread(memory, chunk, room, (off_t)from);

        if (got <= 0) {
            from += room; /* [vvar] and its kind cannot be read */
            continue;
        }
        count += count_in(chunk, (size_t)got, wanted, wanted_size);
        from += (size_t)got;
        if (from < to && (size_t)got >= wanted_size)
            from -= wanted_size - 1;
    }
    return count;
}

long
process_memory_count(pid_t pid, const void *bytes, size_t size)
{
    char path[64];
    char *line = NULL;
    size_t line_room = 0;
    uint8_t *chunk = malloc(CHUNK);
    long count = 0;
    FILE *maps;
    int memory;

    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    memory = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    while (chunk != NULL && memory >= 0 && maps != NULL && getline(&line, &line_room, maps) > 0) {
        uint64_t from, to;
        char readable;

        /* The ledger is 64 MiB of mostly nothing: reading it makes no pages, it is a memfd. */
        if (sscanf(line, "%lx-%lx %c", &from, &to, &readable) == 3 && readable == 'r')
            count += count_in_map(memory, from, to, bytes, size, chunk);
    }
    if (memory < 0 || maps == NULL)
        count = -1;
    free(line);
    free(chunk);
    if (maps != NULL)
        fclose(maps);
    fd_close(&memory);
    return count;
}

/* Of its own uid and gid, since root may not without CAP_SYS_RESOURCE. */
static bool
limit_as(uid_t uid, gid_t gid, pid_t pid, unsigned count)
{
    struct rlimit limit;

    if (geteuid() == 0 && (setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0))
        return false;
    if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) != 0)
        return false;
    limit.rlim_cur = count > 0 ? count : limit.rlim_max;
    return prlimit(pid, RLIMIT_NOFILE, &limit, NULL) == 0;
}

bool
process_limit_descriptors(pid_t pid, unsigned count)
{
    char path[64];
    char *status, *ids;
    unsigned uid = 0, gid = 0;
    int ended = -1;
    pid_t child;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    status = harness_read_file(path, NULL);
    ids = status != NULL ? strstr(status, "\nUid:") : NULL;
    if (ids == NULL || sscanf(ids, " Uid: %u %*u %*u %*u Gid: %u", &uid, &gid) != 2) {
        free(status);
        return false;
    }
    free(status);
    child = fork();
    if (child == 0)
        _exit(limit_as(uid, gid, pid, count) ? 0 : 1);
    return waitpid(child, &ended, 0) == child && ended == 0;
}
