#include "manager/keys.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/secret.h"
#include "manager/channel.h"
#include "manager/connections.h"
#include "manager/contexts.h"
#include "manager/helpers.h"
#include "manager/logging.h"
#include "manager/manager.h"
#include "manager/map.h"
#include "manager/tree.h"

enum {
    LOAD_TIMEOUT_MS = 20000, /* the keeper gives up on a decoder after 15 s */
    CHANNELS_LOW = 8,
    CHANNELS_MAX = CHANNELS_LOW + CHANNELS_PER_MESSAGE,
    SIGNATURES = 1, /* of one connection */
    RESTART_DELAY_MS = 1000,
    QUEUE_MAX = 4096,
};

struct key_load {
    uint64_t number;
    uv_timer_t deadline;
    const struct key_events *events; /* NULL: files are examined */
    void (*on_examined)(void *owner, const struct file_state *certfile,
                        const struct file_state *keyfile);
    void *owner; /* NULL: cancelled */
    TAILQ_ENTRY(key_load) entry;
};

static struct {
    uint64_t generation; /* counts the keepers */
    struct channel *channel;
    struct child *child;
    uv_timer_t restart;
    uint64_t last_channel;
    struct {
        uint64_t number;
        int worker_end; /* owned */
    } channels[CHANNELS_MAX];
    size_t channel_count;
} keeper;

static uint64_t last_load;
static TAILQ_HEAD(, key_load) loads = TAILQ_HEAD_INITIALIZER(loads);
static struct map keys_by_number; /* of the present keeper */

static void keeper_start(void);

/* --- keys --- */

struct key *
key_hold(struct key *key)
{
    key->references++;
    return key;
}

bool
key_is_alive(const struct key *key)
{
    return key->keeper == keeper.generation && keeper.channel != NULL;
}

void
key_release(struct key *key)
{
    if (key == NULL || --key->references > 0)
        return;
    if (key_is_alive(key)) {
        struct message m;

        map_take(&keys_by_number, key->number);
        message_init(&m, MESSAGE_KEY_DROP);
        m.as.key_drop.key = key->number;
        channel_send(keeper.channel, &m);
    }
    free((void *)key->public_key.data);
    free(key);
}

/* The keeper may give one number to equal keys: then they are one here too. */
static struct key *
key_from(const struct message_key_loaded *loaded)
{
    struct key *key = map_get(&keys_by_number, loaded->key);
    uint8_t *public_key;

    if (key != NULL)
        return key_hold(key);
    key = calloc(1, sizeof(*key));
    public_key = malloc(loaded->public_key.size + 1);
    assert(key != NULL && public_key != NULL);
    memcpy(public_key, loaded->public_key.data, loaded->public_key.size);
    key->number = loaded->key;
    key->keeper = keeper.generation;
    key->algorithm = loaded->algorithm;
    key->bits = loaded->bits;
    key->public_key = (struct bytes){ public_key, loaded->public_key.size };
    if (loaded->files.size == 2 * sizeof(struct file_state)) {
        memcpy(&key->certfile, loaded->files.data, sizeof(key->certfile));
        memcpy(&key->keyfile, loaded->files.data + sizeof(key->certfile), sizeof(key->keyfile));
    }
    key->references = 1;
    map_put(&keys_by_number, key->number, key);
    return key;
}

/* --- loading --- */

static void
on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void
load_free(struct key_load *l)
{
    TAILQ_REMOVE(&loads, l, entry);
    uv_close((uv_handle_t *)&l->deadline, on_timer_closed);
}

static void
load_fail(struct key_load *l, struct failure *f)
{
    load_free(l);
    if (l->owner != NULL && l->events != NULL)
        l->events->on_failed(l->owner, f);
    else
        failure_fini(f);
    if (l->owner != NULL && l->on_examined != NULL)
        l->on_examined(l->owner, NULL, NULL);
}

static void
on_load_deadline(uv_timer_t *timer)
{
    struct failure f;

    failure_option(&f, "certfile", NULL, "loading the private key took too long");
    load_fail(timer->data, &f);
}

static void
on_no_keeper(uv_timer_t *timer)
{
    struct failure f;

    failure_set(
        &f, RESULT_INTERNAL,
        "the keeper of the private keys is not running; it is started again, so try once more",
        "{s:s}", "why", "no keeper");
    load_fail(timer->data, &f);
}

static void
on_no_password(uv_timer_t *timer)
{
    struct failure f;

    failure_option(&f, "password", NULL,
                   "the keeper has been restarted, and with it went the password: give it again");
    load_fail(timer->data, &f);
}

/* Names a file in the message: its path, or its descriptor. */
static void
add_file(struct message *m, const struct option_file *file, const char **path, uint32_t *index,
         bool *has_index)
{
    *path = file->path;
    if (file->path != NULL || file->fd < 0)
        return;
    *index = (uint32_t)m->fd_count;
    *has_index = true;
    m->fds[m->fd_count++] = file->fd;
}

static void
send_load(const struct key_load *l, const struct options *o, int decoder)
{
    struct message m;
    struct message_key_load *load = &m.as.key_load;

    message_init(&m, MESSAGE_KEY_LOAD);
    load->request = l->number;
    m.fds[m.fd_count++] = decoder;
    add_file(&m, &o->certfile, &load->certfile, &load->certfile_index, &load->has_certfile_index);
    add_file(&m, &o->keyfile, &load->keyfile, &load->keyfile_index, &load->has_keyfile_index);
    if (o->password != NULL) {
        load->password.data = (const uint8_t *)o->password;
        load->password.size = strlen(o->password);
    } else if (o->password_fd >= 0) {
        load->password_index = (uint32_t)m.fd_count;
        load->has_password_index = true;
        m.fds[m.fd_count++] = o->password_fd;
    } else if (o->password_key != NULL) {
        load->password_of = o->password_key->number;
        load->has_password_of = true;
    }
    channel_send(keeper.channel, &m);
}

static struct key_load *
load_new(void *owner)
{
    struct key_load *l = calloc(1, sizeof(*l));
    int status;

    assert(l != NULL);
    status = uv_timer_init(manager_loop, &l->deadline);
    assert(status == 0);
    l->number = ++last_load;
    l->owner = owner;
    l->deadline.data = l;
    TAILQ_INSERT_TAIL(&loads, l, entry);
    return l;
}

/* The keeper of the key whose password is meant is gone, and nobody else knows it. */
static bool
has_lost_password(const struct options *o)
{
    return o->password == NULL && o->password_fd < 0 && o->password_key != NULL &&
           !key_is_alive(o->password_key);
}

struct key_load *
key_load(const struct options *options, const struct key_events *events, void *owner)
{
    struct key_load *l = load_new(owner);
    int decoder;

    l->events = events;
    if (keeper.channel != NULL && has_lost_password(options)) {
        uv_timer_start(&l->deadline, on_no_password, 0, 0);
        return l;
    }
    if (keeper.channel == NULL || helper_key_decoder(&decoder) != RESULT_OK) {
        uv_timer_start(&l->deadline, on_no_keeper, 0, 0);
        return l;
    }
    uv_timer_start(&l->deadline, on_load_deadline, LOAD_TIMEOUT_MS, 0);
    send_load(l, options, decoder);
    fd_close(&decoder);
    return l;
}

struct key_load *
keys_examine(const char *certfile, const char *keyfile,
             void (*on_examined)(void *owner, const struct file_state *certfile,
                                 const struct file_state *keyfile),
             void *owner)
{
    struct key_load *l = load_new(owner);
    struct message m;

    l->on_examined = on_examined;
    if (keeper.channel == NULL) {
        uv_timer_start(&l->deadline, on_no_keeper, 0, 0);
        return l;
    }
    uv_timer_start(&l->deadline, on_load_deadline, LOAD_TIMEOUT_MS, 0);
    message_init(&m, MESSAGE_EXAMINE);
    m.as.examine.request = l->number;
    m.as.examine.certfile = certfile;
    m.as.examine.keyfile = keyfile;
    channel_send(keeper.channel, &m);
    return l;
}

/* The keeper's answer still comes, and its key must be dropped then. */
void
key_load_cancel(struct key_load *l)
{
    if (l != NULL)
        l->owner = NULL;
}

static struct key_load *
load_by_number(uint64_t number)
{
    struct key_load *l;

    TAILQ_FOREACH(l, &loads, entry)
    {
        if (l->number == number)
            return l;
    }
    return NULL;
}

static void
handle_key_loaded(struct message *m)
{
    struct key_load *l = load_by_number(m->as.key_loaded.request);
    struct key *key = key_from(&m->as.key_loaded);

    if (l == NULL || l->events == NULL) {
        key_release(key);
        return;
    }
    load_free(l);
    if (l->owner != NULL)
        l->events->on_loaded(l->owner, key, message_take_fd(m, 0));
    else
        key_release(key);
}

static void
handle_key_failed(const struct message_key_failed *failed)
{
    struct key_load *l = load_by_number(failed->request);
    struct failure f;

    if (l == NULL)
        return;
    failure_option(&f, failed->option, NULL, failed->why);
    if (failed->has_error && failed->error != 0)
        json_object_set_new(f.fields, "posix", json_string(posix_name((int)failed->error)));
    load_fail(l, &f);
}

static void
handle_examined(const struct message_examined *examined)
{
    struct key_load *l = load_by_number(examined->request);
    struct file_state files[2];

    if (l == NULL || l->on_examined == NULL || examined->files.size != sizeof(files))
        return;
    memcpy(files, examined->files.data, sizeof(files));
    load_free(l);
    if (l->owner != NULL)
        l->on_examined(l->owner, &files[0], &files[1]);
}

/* --- channels for workers --- */

static void
forget_channels(void)
{
    for (size_t i = 0; i < keeper.channel_count; i++)
        fd_close(&keeper.channels[i].worker_end);
    keeper.channel_count = 0;
}

static void
make_channels(void)
{
    struct message m;

    message_init(&m, MESSAGE_CHANNELS);
    m.as.channels.first = keeper.last_channel + 1;
    while (m.fd_count < CHANNELS_PER_MESSAGE) {
        int pair[2];

        if (mailbox_pair(pair, MESSAGE_MAX_LARGE) != RESULT_OK)
            break;
        m.fds[m.fd_count++] = pair[0];
        keeper.channels[keeper.channel_count].number = ++keeper.last_channel;
        keeper.channels[keeper.channel_count].worker_end = pair[1];
        keeper.channel_count++;
    }
    if (m.fd_count > 0)
        channel_send(keeper.channel, &m);
    for (size_t i = 0; i < m.fd_count; i++)
        fd_close(&m.fds[i]);
}

enum result
keys_channel(const struct key *key, uint64_t connection, enum tls_role role, unsigned versions,
             int *channel)
{
    struct message m;

    if (!key_is_alive(key))
        return RESULT_CHANNEL_CLOSED;
    if (keeper.channel_count < CHANNELS_LOW)
        make_channels();
    if (keeper.channel_count == 0)
        return RESULT_POSIX;
    keeper.channel_count--;
    message_init(&m, MESSAGE_CHANNEL);
    m.as.channel.channel = keeper.channels[keeper.channel_count].number;
    m.as.channel.connection = connection;
    m.as.channel.key = key->number;
    m.as.channel.role = role;
    m.as.channel.has_role = true;
    m.as.channel.versions = versions;
    m.as.channel.budget = SIGNATURES;
    channel_send(keeper.channel, &m);
    *channel = keeper.channels[keeper.channel_count].worker_end;
    return RESULT_OK;
}

/* --- the process --- */

static void
on_message(void *owner, struct message *m)
{
    (void)owner;
    if (m->type == MESSAGE_KEY_LOADED)
        handle_key_loaded(m);
    else if (m->type == MESSAGE_KEY_FAILED)
        handle_key_failed(&m->as.key_failed);
    else if (m->type == MESSAGE_EXAMINED)
        handle_examined(&m->as.examined);
    else if (m->type == MESSAGE_MISUSE)
        connection_misuse(m->as.misuse.connection, m->as.misuse.why);
    else if (m->type == MESSAGE_LOG)
        log_forward((enum log_level)m->as.log.level, "keeper", m->as.log.line);
}

static void
on_restart(uv_timer_t *timer)
{
    (void)timer;
    keeper_start();
}

/* Its keys are gone with it: who holds one finds out by key_is_alive. */
static void
keeper_lost(const char *why)
{
    struct key_load *l, *next;

    if (keeper.channel == NULL)
        return;
    log_error("keeper ended, and the private keys with it why=\"%s\"", why);
    channel_close(keeper.channel);
    keeper.channel = NULL;
    child_forget(keeper.child);
    keeper.child = NULL;
    forget_channels();
    map_fini(&keys_by_number);
    for (l = TAILQ_FIRST(&loads); l != NULL; l = next) {
        next = TAILQ_NEXT(l, entry);
        uv_timer_start(&l->deadline, on_no_keeper, 0, 0);
    }
    if (!manager_is_stopping())
        uv_timer_start(&keeper.restart, on_restart, RESTART_DELAY_MS, 0);
}

static void
on_end(void *owner, enum result result, const char *why)
{
    (void)owner, (void)result;
    keeper_lost(why);
}

static void
on_started(void *owner, uint32_t pid, int board)
{
    (void)owner;
    fd_close(&board);
    log_info("keeper started pid=%u", pid);
}

static void
on_ended(void *owner, int error, int status)
{
    (void)owner;
    keeper.child = NULL;
    log_error("keeper process ended error=%s status=%d", error != 0 ? posix_name(error) : "none",
              status);
    if (error != 0)
        keeper_lost("it could not be started");
}

static void
keeper_start(void)
{
    static const struct channel_kind kind = { .name = "keeper",
                                              .receives = KEEPER_TO_MANAGER,
                                              .message_max = MESSAGE_MAX_LARGE,
                                              .queue_max = QUEUE_MAX,
                                              .on_message = on_message,
                                              .on_end = on_end };
    static const struct child_events events = { on_started, on_ended };
    struct message m;
    int pair[2];

    if (mailbox_pair(pair, MESSAGE_MAX_LARGE) != RESULT_OK) {
        log_error("keeper has no mailbox error=%s", posix_name(errno));
        uv_timer_start(&keeper.restart, on_restart, RESTART_DELAY_MS, 0);
        return;
    }
    keeper.generation++;
    keeper.channel = channel_open(pair[0], &kind, &keeper);
    logging_message(&m);
    channel_send(keeper.channel, &m);
    keeper.child = tree_start(PROCESS_KEEPER, 0, pair[1], &events, &keeper);
    if (keeper.generation > 1)
        contexts_reload_keys();
}

void
keys_tell(const struct message *m)
{
    if (keeper.channel != NULL)
        channel_send(keeper.channel, m);
}

void
keys_open(void)
{
    int status = uv_timer_init(manager_loop, &keeper.restart);

    assert(status == 0);
    keeper_start();
}
