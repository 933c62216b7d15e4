#include "manager/trust.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/digest.h"
#include "ipc/fd.h"
#include "manager/manager.h"

enum { FILE_MAX = 1 << 20, REMEMBERED = 8 };

static TAILQ_HEAD(, trust) all = TAILQ_HEAD_INITIALIZER(all);

/* Files that were read already and have not changed since: a bundle is large. */
static struct remembered {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
    struct trust *trust; /* a reference; NULL: free */
} remembered[REMEMBERED];
static unsigned next_remembered;

struct trust *
trust_hold(struct trust *t)
{
    t->references++;
    return t;
}

void
trust_release(struct trust *t)
{
    if (t == NULL || --t->references > 0)
        return;
    TAILQ_REMOVE(&all, t, entry);
    fd_close(&t->memfd);
    free(t);
}

static bool
is_same_file(const struct remembered *r, const struct stat *file)
{
    return r->trust != NULL && r->device == file->st_dev && r->inode == file->st_ino &&
           r->size == file->st_size && r->modified.tv_sec == file->st_mtim.tv_sec &&
           r->modified.tv_nsec == file->st_mtim.tv_nsec &&
           r->changed.tv_sec == file->st_ctim.tv_sec && r->changed.tv_nsec == file->st_ctim.tv_nsec;
}

static void
remember(const struct stat *file, struct trust *t)
{
    struct remembered *r = &remembered[next_remembered++ % REMEMBERED];

    trust_release(r->trust);
    *r = (struct remembered){ file->st_dev,  file->st_ino,  file->st_size,
                              file->st_mtim, file->st_ctim, trust_hold(t) };
}

/* The one with this content, or a new one; gives a reference.  NULL: no memfd. */
static struct trust *
trust_of(const uint8_t *bytes, size_t size)
{
    struct digest *digest = digest_new();
    struct trust *t;
    uint8_t sum[DIGEST_SIZE];
    int memfd;

    assert(digest != NULL);
    digest_add(digest, bytes, size);
    digest_end(digest, sum);
    TAILQ_FOREACH(t, &all, entry)
    {
        if (memcmp(t->digest, sum, sizeof(sum)) == 0)
            return trust_hold(t);
    }
    if (memfd_sealed(&memfd, "trust", bytes, size) != RESULT_OK)
        return NULL;
    t = calloc(1, sizeof(*t));
    assert(t != NULL);
    memcpy(t->digest, sum, sizeof(sum));
    t->memfd = memfd;
    t->references = 1;
    TAILQ_INSERT_TAIL(&all, t, entry);
    return t;
}

static bool
holds_private_key(const uint8_t *bytes, size_t size)
{
    static const char mark[] = "PRIVATE KEY-----";

    return memmem(bytes, size, mark, sizeof(mark) - 1) != NULL;
}

/* A file that is not the system's is named by its path, one that came as a descriptor by nothing. */
static enum result
refuse(struct failure *f, const struct option_file *file, const char *why, int error)
{
    json_t *value = file->path != NULL ? json_string(file->path) : NULL;
    char text[400];

    if (file->path == NULL && file->fd < 0)
        snprintf(text, sizeof(text), "the system's CA certificates in %s: %s; name a cacertfile",
                 config.system_trust_file, why);
    else
        snprintf(text, sizeof(text), "%s", why);
    failure_option(f, "cacertfile", value, text);
    if (error != 0)
        json_object_set_new(f->fields, "posix", json_string(posix_name(error)));
    json_decref(value);
    return RESULT_OPTIONS;
}

static enum result
trust_read(int fd, const struct option_file *file, struct trust **trust, struct failure *f)
{
    struct stat found;
    uint8_t *bytes;
    size_t size;
    enum result result;

    if (fstat(fd, &found) < 0)
        return refuse(f, file, strerror(errno), errno);
    if (!S_ISREG(found.st_mode))
        return refuse(f, file, "it is not a regular file", 0);
    for (int i = 0; i < REMEMBERED; i++) {
        if (is_same_file(&remembered[i], &found)) {
            *trust = trust_hold(remembered[i].trust);
            return RESULT_OK;
        }
    }
    errno = 0;
    result = fd_read_all(fd, FILE_MAX, &bytes, &size);
    if (result == RESULT_LIMIT)
        return refuse(f, file, "it is larger than 1 MiB", 0);
    if (result != RESULT_OK)
        return refuse(f, file, errno != 0 ? strerror(errno) : result_text(result), errno);
    if (holds_private_key(bytes, size)) {
        explicit_bzero(bytes, size);
        free(bytes);
        return refuse(f, file, "it holds a private key, which does not belong there", 0);
    }
    *trust = trust_of(bytes, size);
    free(bytes);
    if (*trust == NULL)
        return refuse(f, file, "there is no memory for it", ENOMEM);
    remember(&found, *trust);
    return RESULT_OK;
}

const char *
trust_path(const struct options *o)
{
    if (o->cacertfile.path != NULL)
        return o->cacertfile.path;
    return o->role == ROLE_CLIENT && o->verify && !o->has_cacertfile ? config.system_trust_file
                                                                     : NULL;
}

enum result
trust_load(const struct option_file *file, struct trust **trust, struct failure *f)
{
    const char *path = file->path != NULL ? file->path : config.system_trust_file;
    enum result result;
    int fd;

    if (file->path == NULL && file->fd >= 0)
        return trust_read(file->fd, file, trust, f);
    if (path[0] != '/')
        return refuse(f, file, "the path is not absolute", 0);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return refuse(f, file, strerror(errno), errno);
    result = trust_read(fd, file, trust, f);
    fd_close(&fd);
    return result;
}
