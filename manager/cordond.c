/*
 * cordond: the root of Cordon's processes.
 *
 * It starts the others, reaps them, signals them when the manager asks, and keeps copies of their
 * descriptors.  It reads no file, no network and no client: after its own command line, only what
 * the manager says over one mailbox.  When it dies, everything below it ends: its children by
 * PR_SET_PDEATHSIG, the workers because their mailboxes hang up.
 *
 * What it gives up, in this order, and never takes back:
 *
 *   1. descriptors it was started with, but 0 to 2, --ready-fd and --until-closed
 *   2. core files; being looked into by others of its user (not dumpable); open umask
 *   3. the environment, but for a short list
 *   4. names: users are looked up, programs opened, the socket's folder is made; from here on it
 *      opens nothing by name but /proc
 *   5. as root, capabilities but for changing users, signals and ports below 1024
 *
 * and a child, between fork and exec: the session and signal mask, descriptors, resource limits,
 * groups, gid, uid, capabilities, new privileges; then it ties its life to cordond's.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/process.h"
#include "manager/cordond_capabilities.h"
#include "manager/cordond_loop.h"
#include "manager/cordond_programs.h"

#define SOCKET_FOLDER "/run/cordon"
#define SOCKET_NAME   "control.sock"

enum { EXIT_USAGE = 2 };

struct settings {
    char config[PATH_MAX]; /* absolute; "": the default one, if it is there */
    char socket[PATH_MAX];
    bool is_default_socket;
    bool checks_config; /* and does nothing else */
    const char *log_level;
    bool has_log_level; /* named here, so that the configuration file does not count */
    bool has_log_format;
    int ready_fd;
    int until_closed;
    const char *exec_users[EXEC_USERS_MAX];
    size_t exec_user_count;
};

static const char usage[] =
    "Usage: cordond [OPTION]...\n"
    "Runs Cordon, the TLS connection manager, in the foreground. SIGTERM stops it,\n"
    "SIGHUP reads certificates and configuration again.\n"
    "\n"
    "  --config FILE      configuration (default: /etc/cordon/cordon.json, if it is there;\n"
    "                     /dev/null: none)\n"
    "  --check-config     say whether the configuration is right, and do nothing else\n"
    "  --socket PATH      control socket (default: $CORDON_SOCKET;\n"
    "                     " SOCKET_FOLDER "/" SOCKET_NAME " as root,\n"
    "                     else $XDG_RUNTIME_DIR/cordon/" SOCKET_NAME ")\n"
    "  --log-level LEVEL  error, warn, info (default) or debug; the log goes to stderr\n"
    "  --log-format FORM  text (default) or json: one object a line\n"
    "  --exec-user NAME   services' programs may run as this user (repeatable; default: the\n"
    "                     first is cordon-exec, if there is one; not as root: yourself)\n"
    "  --ready-fd N       write a newline to this descriptor when the control socket listens\n"
    "  --until-closed N   stop, as by SIGTERM, when this pipe or socket is closed at its other end\n"
    "  --help             print this\n"
    "  --version          print the version\n";

/* --- The command line ----------------------------------------------------------------------- */

static _Noreturn void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void
refuse(const char *format, ...)
{
    va_list arguments;

    fputs("cordond: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\nTry cordond --help.\n", stderr);
    exit(EXIT_USAGE);
}

static void
set_path(char *out, const char *path, const char *option)
{
    char here[PATH_MAX] = "";
    int length;

    if (path[0] == '\0')
        refuse("%s is empty", option);
    if (path[0] != '/' && getcwd(here, sizeof(here)) == NULL)
        refuse("%s is relative, and the current folder has no name", option);
    length = path[0] == '/' ? snprintf(out, PATH_MAX, "%s", path)
                            : snprintf(out, PATH_MAX, "%s/%s", here, path);
    if (length >= PATH_MAX)
        refuse("%s is too long", option);
}

static int
parse_fd(const char *text, const char *option)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (end == text || *end != '\0' || number < 3 || number > INT_MAX ||
        fcntl((int)number, F_GETFD) < 0)
        refuse("%s: %s is not an open descriptor above 2", option, text);
    return (int)number;
}

static void
set_log_level(struct settings *s, const char *text)
{
    enum log_level level;

    if (!log_level_parse(text, &level))
        refuse("--log-level: there is no level %s", text);
    log_set_level(level);
    s->log_level = log_level_name(level);
}

static void
set_log_format(struct settings *s, const char *text)
{
    enum log_format format;

    if (!log_format_parse(text, &format))
        refuse("--log-format: there is no format %s", text);
    log_set_format(format);
    s->has_log_format = true;
}

static void
add_exec_user(struct settings *s, const char *name)
{
    if (s->exec_user_count == EXEC_USERS_MAX)
        refuse("--exec-user: there are at most %d", EXEC_USERS_MAX);
    s->exec_users[s->exec_user_count++] = name;
}

static void
parse_arguments(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "check-config", no_argument, NULL, 'k' },
        { "socket", required_argument, NULL, 's' },
        { "log-level", required_argument, NULL, 'l' },
        { "log-format", required_argument, NULL, 'f' },
        { "exec-user", required_argument, NULL, 'e' },
        { "ready-fd", required_argument, NULL, 'r' },
        { "until-closed", required_argument, NULL, 'u' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            set_path(s->config, optarg, "--config");
            break;
        case 'k':
            s->checks_config = true;
            break;
        case 's':
            set_path(s->socket, optarg, "--socket");
            break;
        case 'l':
            set_log_level(s, optarg);
            s->has_log_level = true;
            break;
        case 'f':
            set_log_format(s, optarg);
            break;
        case 'e':
            add_exec_user(s, optarg);
            break;
        case 'r':
            s->ready_fd = parse_fd(optarg, "--ready-fd");
            break;
        case 'u':
            s->until_closed = parse_fd(optarg, "--until-closed");
            break;
        case 'h':
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        case 'v':
            puts("cordond " CORDON_VERSION);
            exit(EXIT_SUCCESS);
        default: /* getopt_long has said what is wrong */
            fputs("Try cordond --help.\n", stderr);
            exit(EXIT_USAGE);
        }
    }
    if (optind < argc)
        refuse("%s: there are no arguments but options", argv[optind]);
}

/* The place that clients look at, too. */
static void
choose_default_socket(struct settings *s)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char path[PATH_MAX + 32];

    s->is_default_socket = true;
    if (geteuid() == 0) {
        set_path(s->socket, SOCKET_FOLDER "/" SOCKET_NAME, "the socket's path");
        return;
    }
    if (runtime == NULL || runtime[0] != '/')
        refuse("$XDG_RUNTIME_DIR is not set: name a control socket with --socket");
    snprintf(path, sizeof(path), "%s/cordon/" SOCKET_NAME, runtime);
    set_path(s->socket, path, "$XDG_RUNTIME_DIR");
}

static void
choose_socket(struct settings *s)
{
    const char *named = getenv("CORDON_SOCKET");

    if (s->socket[0] == '\0' && named != NULL && named[0] != '\0')
        set_path(s->socket, named, "$CORDON_SOCKET");
    else if (s->socket[0] == '\0')
        choose_default_socket(s);
    if (strlen(s->socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        refuse("%s: too long for a Unix socket", s->socket);
}

/* --- Giving up ------------------------------------------------------------------------------ */

/* 0 to 2 are open, whoever started us. */
static bool
have_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    fd_close(&fd);
    return fcntl(STDERR_FILENO, F_GETFD) >= 0;
}

static bool
limit_ourselves(void)
{
    struct rlimit no_core = { 0, 0 }, files;

    umask(077);
    if (setrlimit(RLIMIT_CORE, &no_core) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0)
        return false;
    files.rlim_cur = files.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &files) == 0;
}

static void
close_inherited(struct settings *s)
{
    int keep[2];
    size_t count = 0;

    if (s->ready_fd >= 0)
        keep[count++] = s->ready_fd;
    if (s->until_closed >= 0 && s->until_closed != s->ready_fd)
        keep[count++] = s->until_closed;
    if (count == 2 && keep[0] > keep[1]) {
        keep[0] = s->until_closed;
        keep[1] = s->ready_fd;
    }
    process_keep_only(keep, count);
    for (size_t i = 0; i < count; i++)
        (void)fcntl(keep[i], F_SETFD, FD_CLOEXEC);
}

/* What a process below us may be told by the environment: above all not SSLKEYLOGFILE. */
static bool
is_passed_on(const char *entry)
{
    static const char *const names[] = {
        "PATH=",         "LANG=",           "LC_",           "TZ=",
        "RES_OPTIONS=",  "LOCALDOMAIN=",    "GNUTLS_",       "SSL_CERT_",
        "MALLOC_",       "GLIBC_TUNABLES=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
        "LSAN_OPTIONS=", "JOURNAL_STREAM=",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

static void
clean_environment(void)
{
    char **out = environ;

    for (char **entry = environ; *entry != NULL; entry++) {
        if (is_passed_on(*entry))
            *out++ = *entry;
    }
    *out = NULL;
}

/* --- Names ---------------------------------------------------------------------------------- */

/* The socket's default folder, the manager's own. */
static bool
make_socket_folder(const char *socket, const struct programs *programs)
{
    char folder[PATH_MAX];
    struct stat info;
    uid_t uid = programs->change_user ? programs->of[PROCESS_MANAGER].uid : geteuid();
    mode_t mode = programs->change_user ? 0755 : 0700;
    int fd;

    snprintf(folder, sizeof(folder), "%s", socket);
    dirname(folder);
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        fprintf(stderr, "cordond: cannot make %s: %s\n", folder, strerror(errno));
        return false;
    }
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        fprintf(stderr, "cordond: cannot use %s: %s\n", folder, strerror(errno));
        fd_close(&fd);
        return false;
    }
    if (info.st_uid != uid && info.st_uid != geteuid()) {
        fprintf(stderr,
                "cordond: %s belongs to another user; name a control socket with --socket\n",
                folder);
        fd_close(&fd);
        return false;
    }
    if ((programs->change_user && fchown(fd, uid, programs->of[PROCESS_MANAGER].gid) != 0) ||
        fchmod(fd, mode) != 0) {
        fprintf(stderr, "cordond: cannot give %s to the manager: %s\n", folder, strerror(errno));
        fd_close(&fd);
        return false;
    }
    fd_close(&fd);
    return true;
}

/* <root>/bin/cordond has its programs in <root>/libexec/cordon. */
static bool
open_programs(struct programs *programs)
{
    char self[PATH_MAX], folder[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (size < 0) {
        fprintf(stderr, "cordond: cannot read /proc/self/exe: %s\n", strerror(errno));
        return false;
    }
    self[size] = '\0';
    if (snprintf(folder, sizeof(folder), "%s/../libexec/cordon", dirname(self)) >=
        (int)sizeof(folder)) {
        fputs("cordond: its own path is too long\n", stderr);
        return false;
    }
    return programs_open(programs, folder);
}

/* --- main ----------------------------------------------------------------------------------- */

static void
block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGCHLD);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    sigprocmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* inherited as ignored, it would reap behind our back */
}

static void
add_exec_users(struct programs *programs, char **arguments, size_t *count)
{
    static char option[] = "--exec-user";

    for (size_t i = 0; i < programs->exec_user_count; i++) {
        arguments[(*count)++] = option;
        arguments[(*count)++] = programs->exec_users[i].name;
    }
}

static void
fill_manager_arguments(struct settings *s, struct programs *programs, char **arguments)
{
    static char option_socket[] = "--socket", option_level[] = "--log-level",
                option_format[] = "--log-format", option_config[] = "--config";
    static char level[16], format[16];
    size_t count = 0;

    arguments[count++] = option_socket;
    arguments[count++] = s->socket;
    if (s->has_log_level) {
        snprintf(level, sizeof(level), "%s", s->log_level);
        arguments[count++] = option_level;
        arguments[count++] = level;
    }
    if (s->has_log_format) {
        snprintf(format, sizeof(format), "%s", log_format_name(log_get_format()));
        arguments[count++] = option_format;
        arguments[count++] = format;
    }
    if (s->config[0] != '\0') {
        arguments[count++] = option_config;
        arguments[count++] = s->config;
    }
    add_exec_users(programs, arguments, &count);
    arguments[count] = NULL;
}

/* The manager reads it, as the user that it will be. */
static int
check_config(struct settings *s, struct programs *programs)
{
    static char option_check[] = "--check-config", option_config[] = "--config",
                title[] = "cordon manager";
    const struct program *manager = &programs->of[PROCESS_MANAGER];
    char *arguments[5 + 2 * EXEC_USERS_MAX] = { title, option_check };
    size_t count = 2;

    if (!programs_find_users(programs) ||
        !programs_find_exec_users(programs, s->exec_users, s->exec_user_count) ||
        !open_programs(programs))
        return EXIT_FAILURE;
    if (s->config[0] != '\0') {
        arguments[count++] = option_config;
        arguments[count++] = s->config;
    }
    add_exec_users(programs, arguments, &count);
    if (programs->change_user &&
        (setgroups(0, NULL) != 0 || setresgid(manager->gid, manager->gid, manager->gid) != 0 ||
         setresuid(manager->uid, manager->uid, manager->uid) != 0)) {
        fprintf(stderr, "cordond: cannot become the manager's user: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    execveat(manager->binary, "", arguments, environ, AT_EMPTY_PATH);
    fprintf(stderr, "cordond: cannot execute the manager: %s\n", strerror(errno));
    return EXIT_FAILURE;
}

/* Where the titles of workers go (process_title): with the nursery's own arguments alone they would be cut
 * when the environment is small. */
static char room[] =
    "                                                                              "
    "                                                                              ";
static char *const title_room[] = { room, NULL };

int
main(int argc, char **argv)
{
    static struct settings settings = { .ready_fd = -1, .until_closed = -1 };
    static struct programs programs;
    char *manager_arguments[9 + 2 * EXEC_USERS_MAX];
    sigset_t signals;

    log_open("cordond");
    set_log_level(&settings, "info");
    if (!have_standard_descriptors())
        return EXIT_FAILURE;
    parse_arguments(&settings, argc, argv);
    if (settings.checks_config) {
        clean_environment();
        return check_config(&settings, &programs);
    }
    choose_socket(&settings);

    close_inherited(&settings);
    if (!limit_ourselves()) {
        fprintf(stderr, "cordond: cannot set its own limits: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    clean_environment();
    if (!programs_find_users(&programs) ||
        !programs_find_exec_users(&programs, settings.exec_users, settings.exec_user_count) ||
        !open_programs(&programs) ||
        (settings.is_default_socket && !make_socket_folder(settings.socket, &programs)))
        return EXIT_FAILURE;
    if (chdir("/") != 0 || capabilities_keep(capabilities_of_cordond) != RESULT_OK) {
        fprintf(stderr, "cordond: cannot give up what it does not need: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    block_signals(&signals);
    fill_manager_arguments(&settings, &programs, manager_arguments);
    programs.of[PROCESS_MANAGER].arguments = manager_arguments;
    programs.of[PROCESS_NURSERY].arguments = title_room;
    return loop_run(&(struct loop_setup){ .programs = &programs,
                                          .signals = &signals,
                                          .ready_fd = settings.ready_fd,
                                          .until_closed = settings.until_closed });
}
