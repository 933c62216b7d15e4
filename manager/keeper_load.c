#include "manager/keeper_load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/file_state.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/secret.h"
#include "manager/keeper_channels.h"
#include "manager/keeper_pem.h"

enum {
    FILE_MAX = 1 << 20,
    KEY_BLOCK_MAX = 40000, /* the bound of decode.pem */
    PASSWORD_MAX = 1024,
    DECODER_TIMEOUT_MS = 15000, /* on a busy machine; of processor time it has 5 s */
    LOADS_MAX = 64,
    NAME_MAX_SHOWN = 200,
    FILES = 2, /* certfile, keyfile */
};

/* What key_failed says. */
struct fault {
    const char *option;
    int error;
    char why[500];
};

/* A file that the request names, by path or by descriptor. */
struct source {
    const char *option;
    const char *path;          /* NULL: the descriptor */
    int fd;                    /* borrowed from the message; -1: none */
    char name[NAME_MAX_SHOWN]; /* how sentences call it */
};

struct keeper_load {
    struct keeper_watch watch; /* first; the decoder's mailbox */
    struct keeper_load *next;
    uint64_t request;
    int64_t deadline_ms;
    const char *key_option; /* which option the key came with */
    char key_name[NAME_MAX_SHOWN];
    char *certificates; /* owned */
    size_t certificates_size;
    struct bytes password; /* owned, secret; size 0: none */
    struct file_state files[FILES];
};

/* What the files and the password hold, while a load begins. */
struct material {
    uint8_t *cert_bytes, *key_bytes; /* owned, secret */
    size_t cert_size, key_size;
    uint8_t *password_bytes; /* owned, secret */
    struct bytes password;   /* in password_bytes, in the message or another key's */
    struct keeper_pem cert_pem, key_pem;
    struct file_state files[FILES];
    bool has_paths; /* it can be loaded once more */
};

static bool __attribute__((format(printf, 4, 5)))
fail(struct fault *fault, const char *option, int error, const char *format, ...)
{
    va_list args;

    fault->option = option;
    fault->error = error;
    va_start(args, format);
    vsnprintf(fault->why, sizeof fault->why, format, args);
    va_end(args);
    return false;
}

void
keeper_loads_init(struct keeper_loads *loads)
{
    const struct passwd *user = getpwuid(geteuid());

    if (user)
        snprintf(loads->user, sizeof loads->user, "%s", user->pw_name);
    else
        snprintf(loads->user, sizeof loads->user, "%lu", (unsigned long)geteuid());
}

/* --- reading -------------------------------------------------------------------------- */

static void
source_init(struct source *source, const char *option, const char *path, struct message *m,
            bool has_index, uint32_t index)
{
    size_t size = path ? strlen(path) : 0;

    source->option = option;
    source->path = path;
    source->fd = !path && has_index && index > 0 && index < m->fd_count ? m->fds[index] : -1;
    if (!path) {
        snprintf(source->name, sizeof source->name, "the descriptor for %s", option);
        return;
    }
    if (size < sizeof source->name) {
        memcpy(source->name, path, size + 1);
        return;
    }
    /* The end tells more than the start; not from the middle of a character on. */
    path += size - (sizeof source->name - 4);
    while (((unsigned char)*path & 0xc0) == 0x80)
        path++;
    snprintf(source->name, sizeof source->name, "...%s", path);
}

static bool
is_given(const struct source *source)
{
    return source->path || source->fd >= 0;
}

static bool
open_failed(const struct keeper_loads *loads, const struct source *source, int error,
            struct fault *fault)
{
    bool is_own_user = strcmp(loads->user, "cordon-keeper") == 0;

    if (error == EACCES && is_own_user)
        return fail(fault, source->option, error,
                    "%s: permission denied for user cordon-keeper: chgrp cordon-keeper and chmod "
                    "640 it (and let that group through its folders), or send it as a descriptor",
                    source->name);
    if (error == EACCES)
        return fail(fault, source->option, error,
                    "%s: permission denied for user %s: make it readable for this user, or send "
                    "it as a descriptor",
                    source->name, loads->user);
    if (error == ENOENT)
        return fail(fault, source->option, error, "%s: there is no such file", source->name);
    return fail(fault, source->option, error, "%s: cannot be opened: %s", source->name,
                strerror(error));
}

/* What a file is that is not a regular one. */
static bool
check_regular(const struct source *source, int fd, struct fault *fault)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return fail(fault, source->option, errno, "%s: %s", source->name, strerror(errno));
    if (S_ISREG(info.st_mode))
        return true;
    return fail(fault, source->option, S_ISDIR(info.st_mode) ? EISDIR : EINVAL,
                "%s: is %s, not a regular file", source->name,
                S_ISDIR(info.st_mode)    ? "a folder"
                : S_ISFIFO(info.st_mode) ? "a pipe"
                : S_ISSOCK(info.st_mode) ? "a socket"
                                         : "a device");
}

static bool
read_descriptor(const struct source *source, int fd, size_t max, uint8_t **bytes, size_t *size,
                struct fault *fault)
{
    enum result result = fd_read_all(fd, max, bytes, size);

    switch (result) {
    case RESULT_OK:
        return true;
    case RESULT_LIMIT:
        return fail(fault, source->option, EFBIG, "%s: is larger than %zu bytes", source->name,
                    max);
    case RESULT_POSIX:
        return fail(fault, source->option, errno, "%s: cannot be read: %s", source->name,
                    strerror(errno));
    default:
        return fail(fault, source->option, result == RESULT_TIMEOUT ? ETIMEDOUT : ENOMEM,
                    "%s: cannot be read: %s", source->name, result_text(result));
    }
}

/* *state: of a file that was named by path, as it was before it was read. */
static bool
read_file(const struct keeper_loads *loads, const struct source *source, uint8_t **bytes,
          size_t *size, struct file_state *state, struct fault *fault)
{
    int opened = -1;
    int fd = source->fd;
    bool is_read;

    if (source->path && source->path[0] != '/')
        return fail(fault, source->option, EINVAL, "%s: the path is not absolute", source->name);
    if (source->path) {
        /* A pipe without a writer must not hold up the signatures of everybody else. */
        opened = open(source->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (opened < 0)
            return open_failed(loads, source, errno, fault);
        fd = opened;
        file_state_of_fd(fd, state);
    }
    is_read = check_regular(source, fd, fault) &&
              read_descriptor(source, fd, FILE_MAX, bytes, size, fault);
    fd_close(&opened);
    return is_read;
}

static bool
split(const struct source *source, const uint8_t *bytes, size_t size, struct keeper_pem *pem,
      struct fault *fault)
{
    const char *why = NULL;
    enum result result = keeper_pem_split(pem, bytes, size, &why);

    if (result == RESULT_OK)
        return true;
    return fail(fault, source->option, 0, "%s: %s", source->name, why ? why : result_text(result));
}

/* A password as an editor or echo writes it ends with a newline that is not part of it. */
static void
trim_newline(struct bytes *password)
{
    if (password->size > 0 && password->data[password->size - 1] == '\n')
        password->size--;
    if (password->size > 0 && password->data[password->size - 1] == '\r')
        password->size--;
}

/* What the keeper remembers for this key; size 0 if nothing. */
static struct bytes
password_of(const struct keeper_loads *loads, uint64_t number)
{
    const struct keeper_kept_key *kept =
        (const struct keeper_kept_key *)keeper_table_find(loads->keys, number);

    return kept ? kept->password : (struct bytes){ NULL, 0 };
}

static bool
read_password(const struct keeper_loads *loads, struct message *m, struct material *material,
              struct fault *fault)
{
    const struct message_key_load *load = &m->as.key_load;
    struct source source;

    material->password = load->has_password_of ? password_of(loads, load->password_of)
                                               : load->password;
    if (!load->has_password_index)
        return true;
    source_init(&source, "password", NULL, m, true, load->password_index);
    if (source.fd < 0)
        return fail(fault, "password", EBADF, "%s is missing", source.name);
    if (!read_descriptor(&source, source.fd, PASSWORD_MAX + 2, &material->password_bytes,
                         &material->password.size, fault))
        return false;
    material->password.data = material->password_bytes;
    trim_newline(&material->password);
    if (material->password.size > PASSWORD_MAX)
        return fail(fault, "password", EFBIG, "the password is longer than %d bytes", PASSWORD_MAX);
    return true;
}

/* --- the rules for what is in the files ------------------------------------------------ */

static bool
check_key_blocks(const struct source *source, const struct keeper_pem *pem, struct fault *fault)
{
    if (pem->key_count + pem->foreign_key_count > 1)
        return fail(fault, source->option, 0,
                    "%s: holds %zu private keys, so it is not clear which one is meant: leave one",
                    source->name, pem->key_count + pem->foreign_key_count);
    if (pem->foreign_key_count == 1)
        return fail(
            fault, source->option, 0,
            "%s: holds a private key of a kind that TLS does not use: it must be RSA, ECDSA "
            "or Ed25519, as PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY in PEM",
            source->name);
    if (pem->key_count == 0)
        return fail(fault, source->option, 0,
                    "%s: holds no private key (a PEM block named ... PRIVATE KEY)%s", source->name,
                    strcmp(source->option, "certfile") == 0
                        ? ": add it to the file, or name its file with keyfile"
                        : "");
    if (pem->key.size > KEY_BLOCK_MAX)
        return fail(fault, source->option, 0, "%s: the private key is longer than %d bytes",
                    source->name, KEY_BLOCK_MAX);
    return true;
}

/* Reads and checks everything a load needs.  *key is the source of the key. */
static bool
gather(const struct keeper_loads *loads, struct message *m, struct material *material,
       struct source *key, struct fault *fault)
{
    const struct message_key_load *load = &m->as.key_load;
    struct source cert;

    source_init(&cert, "certfile", load->certfile, m, load->has_certfile_index,
                load->certfile_index);
    source_init(key, "keyfile", load->keyfile, m, load->has_keyfile_index, load->keyfile_index);
    if (!is_given(&cert))
        return fail(fault, "certfile", 0, "there is no certificate file");
    if (load->has_keyfile_index && !is_given(key))
        return fail(fault, "keyfile", EBADF, "%s is missing", key->name);

    material->has_paths = cert.path && (key->path || !is_given(key));

    if (!read_file(loads, &cert, &material->cert_bytes, &material->cert_size, &material->files[0],
                   fault) ||
        !split(&cert, material->cert_bytes, material->cert_size, &material->cert_pem, fault))
        return false;
    if (material->cert_pem.certificate_count == 0)
        return fail(fault, "certfile", 0,
                    "%s: holds no certificate (a PEM block named CERTIFICATE)", cert.name);
    if (!is_given(key)) {
        *key = cert;
        return check_key_blocks(&cert, &material->cert_pem, fault) &&
               read_password(loads, m, material, fault);
    }
    return read_file(loads, key, &material->key_bytes, &material->key_size, &material->files[1],
                     fault) &&
           split(key, material->key_bytes, material->key_size, &material->key_pem, fault) &&
           check_key_blocks(key, &material->key_pem, fault) &&
           read_password(loads, m, material, fault);
}

static void
material_fini(struct material *material)
{
    keeper_pem_fini(&material->cert_pem);
    keeper_pem_fini(&material->key_pem);
    secret_free(material->cert_bytes);
    secret_free(material->key_bytes);
    secret_free(material->password_bytes);
}

/* --- answers -------------------------------------------------------------------------- */

static void
tell_failed(struct keeper_loads *loads, uint64_t request, const struct fault *fault)
{
    struct message m;

    message_init(&m, MESSAGE_KEY_FAILED);
    m.as.key_failed.request = request;
    m.as.key_failed.option = fault->option;
    m.as.key_failed.error = (uint32_t)fault->error;
    m.as.key_failed.why = fault->why;
    keeper_io_tell(loads->io, &m);
}

/* Takes key, also on failure, and password on success. */
static enum result
keep_key(struct keeper_loads *loads, struct keeper_key *key, struct bytes *password,
         uint64_t *number)
{
    struct keeper_kept_key *kept = calloc(1, sizeof *kept);
    enum result result = RESULT_NO_MEMORY;

    if (kept) {
        kept->key = key;
        kept->node.number = loads->last_key + 1;
        result = keeper_table_add(loads->keys, &kept->node);
    }
    if (result != RESULT_OK) {
        keeper_key_free(key);
        free(kept);
        return result;
    }
    kept->password = *password;
    *password = (struct bytes){ NULL, 0 };
    *number = ++loads->last_key;
    return RESULT_OK;
}

/* Takes key. */
static bool
tell_loaded(struct keeper_loads *loads, struct keeper_load *load, struct keeper_key *key,
            struct fault *fault)
{
    uint8_t public_key[KEEPER_PUBLIC_KEY_MAX];
    size_t size = sizeof public_key;
    int certificates = -1;
    struct message m;
    enum result result = keeper_key_public(key, public_key, &size);

    if (result == RESULT_OK)
        result = memfd_sealed(&certificates, "cordon certificates", load->certificates,
                              load->certificates_size);
    if (result != RESULT_OK) {
        keeper_key_free(key);
        return fail(fault, load->key_option, 0, "%s: %s", load->key_name, result_text(result));
    }
    message_init(&m, MESSAGE_KEY_LOADED);
    m.as.key_loaded.request = load->request;
    m.as.key_loaded.algorithm = keeper_key_algorithm(key);
    m.as.key_loaded.bits = keeper_key_bits(key);
    m.as.key_loaded.public_key.data = public_key;
    m.as.key_loaded.public_key.size = size;
    m.as.key_loaded.files.data = (const uint8_t *)load->files;
    m.as.key_loaded.files.size = sizeof load->files;
    m.fds[0] = certificates;
    m.fd_count = 1;
    result = keep_key(loads, key, &load->password, &m.as.key_loaded.key);
    if (result == RESULT_OK)
        keeper_io_tell(loads->io, &m);
    fd_close(&certificates);
    return result == RESULT_OK ||
           fail(fault, load->key_option, 0, "%s: %s", load->key_name, result_text(result));
}

/* --- the load ------------------------------------------------------------------------- */

/* Takes the load out of the list and frees it. */
static void
load_free(struct keeper_loads *loads, struct keeper_load *load)
{
    struct keeper_load **place = &loads->first;

    while (*place && *place != load)
        place = &(*place)->next;
    if (*place) {
        *place = load->next;
        loads->count--;
    }
    keeper_io_close(loads->io, &load->watch);
    free(load->certificates);
    secret_free((void *)load->password.data);
    free(load);
}

/* A password is kept only where it is needed once more. */
static bool
keep_password(struct keeper_load *load, const struct material *material)
{
    size_t size = material->has_paths ? material->password.size : 0;
    uint8_t *bytes = size > 0 ? malloc(size) : NULL;

    if (size > 0 && !bytes)
        return false;
    if (bytes)
        memcpy(bytes, material->password.data, size);
    load->password = (struct bytes){ bytes, size };
    return true;
}

static enum result
send_decode(int decoder, struct bytes pem, struct bytes password)
{
    struct message m;

    message_init(&m, MESSAGE_DECODE);
    m.as.decode.pem = pem;
    m.as.decode.password = password;
    return mailbox_send(decoder, &m);
}

/* Takes the certificates out of material, and decoder. */
static bool
hand_to_decoder(struct keeper_loads *loads, uint64_t request, int decoder, const struct source *key,
                struct material *material, struct fault *fault)
{
    struct bytes pem = material->key_bytes ? material->key_pem.key : material->cert_pem.key;
    struct keeper_load *load = calloc(1, sizeof *load);
    struct keeper_load **place = &loads->first;
    enum result result = load && keep_password(load, material) ? RESULT_OK : RESULT_NO_MEMORY;

    if (result == RESULT_OK)
        result = send_decode(decoder, pem, material->password);
    if (result == RESULT_OK) {
        load->watch.kind = KEEPER_WATCH_LOAD;
        load->watch.fd = decoder;
        result = keeper_io_watch(loads->io, &load->watch);
    }
    if (result != RESULT_OK) {
        fd_close(&decoder);
        if (load)
            secret_free((void *)load->password.data);
        free(load);
        return fail(fault, key->option, 0, "%s: the key decoder cannot be asked: %s", key->name,
                    result_text(result));
    }
    load->request = request;
    load->deadline_ms = clock_now_ms() + DECODER_TIMEOUT_MS;
    load->key_option = key->option;
    memcpy(load->key_name, key->name, sizeof load->key_name);
    load->certificates = material->cert_pem.certificates;
    load->certificates_size = material->cert_pem.certificates_size;
    material->cert_pem.certificates = NULL;
    memcpy(load->files, material->files, sizeof load->files);
    while (*place)
        place = &(*place)->next;
    *place = load;
    loads->count++;
    return true;
}

void
keeper_load_begin(struct keeper_loads *loads, struct message *m)
{
    uint64_t request = m->as.key_load.request;
    int decoder = message_take_fd(m, 0);
    struct material material = { 0 };
    struct source key;
    struct fault fault = { 0 };
    bool is_begun = false;

    if (loads->count >= LOADS_MAX)
        (void)fail(&fault, "certfile", EAGAIN, "%d keys are being loaded at the moment", LOADS_MAX);
    else if (gather(loads, m, &material, &key, &fault)) {
        is_begun = hand_to_decoder(loads, request, decoder, &key, &material, &fault);
        decoder = -1;
    }
    fd_close(&decoder);
    material_fini(&material);
    if (!is_begun)
        tell_failed(loads, request, &fault);
}

void
keeper_load_examine(struct keeper_loads *loads, const struct message *m)
{
    struct file_state files[FILES];
    struct message answer;

    file_state_of_path(m->as.examine.certfile, &files[0]);
    file_state_of_path(m->as.examine.keyfile, &files[1]);
    message_init(&answer, MESSAGE_EXAMINED);
    answer.as.examined.request = m->as.examine.request;
    answer.as.examined.files.data = (const uint8_t *)files;
    answer.as.examined.files.size = sizeof files;
    keeper_io_tell(loads->io, &answer);
}

/* What the decoder's answer comes to. */
static bool
settle(struct keeper_loads *loads, struct keeper_load *load, const struct message *m,
       struct fault *fault)
{
    struct keeper_key *key = NULL;
    const char *why = NULL;

    if (m->type == MESSAGE_DECODE_FAILED)
        return fail(fault, m->as.decode_failed.password ? "password" : load->key_option, 0,
                    "%s: %s", load->key_name, m->as.decode_failed.why);
    if (keeper_key_new(&key, &m->as.decoded, &why) != RESULT_OK)
        return fail(fault, load->key_option, 0, "%s: the private key cannot be used: %s",
                    load->key_name, why);
    return tell_loaded(loads, load, key, fault);
}

void
keeper_load_finish(struct keeper_loads *loads, struct keeper_watch *watch)
{
    struct keeper_load *load = (struct keeper_load *)watch;
    struct fault fault = { 0 };
    struct message m;
    bool is_loaded;
    enum result result = mailbox_receive(watch->fd, DECODER_TO_KEEPER, loads->io->buffer,
                                         MESSAGE_MAX_LARGE, &m, NULL);

    if (result == RESULT_WOULD_BLOCK)
        return;
    if (result == RESULT_OK) {
        is_loaded = settle(loads, load, &m, &fault);
        message_fini(&m);
    } else if (result == RESULT_CHANNEL_CLOSED) {
        is_loaded = fail(&fault, load->key_option, 0,
                         "%s: the key decoder ended without an answer: decoding the key takes too "
                         "much time or memory",
                         load->key_name);
    } else {
        is_loaded = fail(&fault, load->key_option, 0, "%s: the key decoder failed: %s",
                         load->key_name, result_text(result));
    }
    secret_wipe(loads->io->buffer, sizeof loads->io->buffer);
    if (!is_loaded)
        tell_failed(loads, load->request, &fault);
    load_free(loads, load);
}

void
keeper_loads_expire(struct keeper_loads *loads, int64_t now_ms)
{
    while (loads->first && loads->first->deadline_ms <= now_ms) {
        struct keeper_load *load = loads->first;
        struct fault fault = { 0 };

        (void)fail(&fault, load->key_option, ETIMEDOUT,
                   "%s: decoding the key took longer than %d s", load->key_name,
                   DECODER_TIMEOUT_MS / 1000);
        tell_failed(loads, load->request, &fault);
        load_free(loads, load);
    }
}

int64_t
keeper_loads_deadline(const struct keeper_loads *loads)
{
    return loads->first ? loads->first->deadline_ms : -1;
}
