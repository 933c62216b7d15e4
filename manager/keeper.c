/*
 * The keeper: holds the private keys, signs for workers, gives no key away.
 *
 * One thread, one loop over the manager's mailbox, a channel for each worker
 * and the decoders of keys that are being loaded.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <gnutls/gnutls.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/process.h"
#include "ipc/sandbox.h"
#include "ipc/secret.h"
#include "manager/keeper_channels.h"
#include "manager/keeper_io.h"
#include "manager/keeper_keys.h"
#include "manager/keeper_load.h"
#include "manager/keeper_table.h"

enum { EVENTS_PER_TURN = 64 };

static struct keeper_io io;
static struct keeper_table keys;
static struct keeper_channels channels = { .keys = &keys };
static struct keeper_loads loads = { .io = &io, .keys = &keys };

static void
handle_key_load(struct message *m)
{
    keeper_load_begin(&loads, m);
    secret_wipe(io.buffer, sizeof io.buffer); /* a password was in it */
}

static void
handle_key_drop(struct message *m)
{
    struct keeper_node *node = keeper_table_remove(&keys, m->as.key_drop.key);
    struct keeper_kept_key *kept = (struct keeper_kept_key *)node;

    if (!kept)
        return;
    keeper_key_free(kept->key);
    secret_free((void *)kept->password.data);
    free(kept);
}

static void
handle_examine(struct message *m)
{
    keeper_load_examine(&loads, m);
}

static void
handle_channels(struct message *m)
{
    keeper_channels_add(&channels, &io, m);
}

static void
handle_channel(struct message *m)
{
    keeper_channels_bind(&channels, m);
}

static void
handle_logging(struct message *m)
{
    log_set_level((enum log_level)m->as.logging.level);
}

static void (*const handlers[MESSAGE_TYPE_COUNT])(struct message *m) = {
    [MESSAGE_LOGGING] = handle_logging,   [MESSAGE_KEY_LOAD] = handle_key_load,
    [MESSAGE_KEY_DROP] = handle_key_drop, [MESSAGE_EXAMINE] = handle_examine,
    [MESSAGE_CHANNELS] = handle_channels, [MESSAGE_CHANNEL] = handle_channel,
};

/* One message from the manager; false if there was none. */
static bool
serve_manager(void)
{
    struct message m;
    const char *why = NULL;
    enum result result =
        mailbox_receive(io.manager, MANAGER_TO_KEEPER, io.buffer, MESSAGE_MAX_LARGE, &m, &why);

    switch (result) {
    case RESULT_OK:
        if (handlers[m.type])
            handlers[m.type](&m);
        message_fini(&m);
        return true;
    case RESULT_WOULD_BLOCK:
        return false;
    case RESULT_CHANNEL_CLOSED:
        exit(EXIT_SUCCESS);
    case RESULT_CHANNEL_FAILED:
        log_error("manager's mailbox failed errno=%s", posix_name(errno));
        exit(EXIT_FAILURE);
    default:
        log_error("manager sent what cannot be read: %s", why ? why : result_text(result));
        return true;
    }
}

static void
serve_channel(struct keeper_watch *watch)
{
    /* The manager binds a channel before it gives its other end to a worker; but the loop may
     * meet the worker's message first. */
    if (!keeper_channel_is_bound(watch)) {
        while (serve_manager())
            ;
    }
    keeper_channels_serve(&channels, &io, watch);
}

static void
serve(struct keeper_watch *watch)
{
    switch (watch->kind) {
    case KEEPER_WATCH_MANAGER:
        (void)serve_manager();
        break;
    case KEEPER_WATCH_CHANNEL:
        serve_channel(watch);
        break;
    case KEEPER_WATCH_LOAD:
        keeper_load_finish(&loads, watch);
        break;
    }
}

static void
turn(void)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(io.epoll, events, EVENTS_PER_TURN,
                           clock_poll_timeout(keeper_loads_deadline(&loads)));

    if (count < 0 && errno != EINTR) {
        log_error("epoll_wait failed errno=%s", posix_name(errno));
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < count; i++)
        serve(events[i].data.ptr);
    keeper_loads_expire(&loads, clock_now_ms());
}

/* A channel for each worker: as many descriptors as we may have. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("descriptor limit not raised errno=%s", posix_name(errno));
}

int
main(int argc, char **argv)
{
    static struct keeper_watch manager = { KEEPER_WATCH_MANAGER, PROCESS_MAILBOX };

    keeper_keys_init();
    process_begin("keeper", false, PROCESS_MAILBOX);
    process_title_init(argc, argv);
    raise_descriptor_limit();
    keeper_loads_init(&loads);
    (void)mlock(&io, sizeof io);
    keeper_keys_protect_heap();

    io.manager = PROCESS_MAILBOX;
    io.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (io.epoll < 0 || keeper_io_watch(&io, &manager) != RESULT_OK) {
        log_error("no loop errno=%s", posix_name(errno));
        return EXIT_FAILURE;
    }
    sandbox_enter_or_end(SANDBOX_KEEPER);
    for (;;)
        turn();
}
