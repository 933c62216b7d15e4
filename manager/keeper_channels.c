#include "manager/keeper_channels.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "manager/keeper_policy.h"

enum { NO_KEY = 0 }; /* keys are numbered from 1 */

struct keeper_channel {
    struct keeper_watch watch; /* first */
    struct keeper_node node;
    bool is_bound;
    uint64_t connection;
    uint64_t key;
    struct keeper_grant grant;
};

static struct keeper_channel *
channel_of_watch(struct keeper_watch *watch)
{
    return (struct keeper_channel *)watch;
}

static struct keeper_channel *
channel_of_node(struct keeper_node *node)
{
    return (struct keeper_channel *)((char *)node - offsetof(struct keeper_channel, node));
}

static void
channel_free(struct keeper_channels *channels, struct keeper_io *io, struct keeper_channel *channel)
{
    keeper_table_remove(&channels->table, channel->node.number);
    keeper_io_close(io, &channel->watch);
    free(channel);
}

/* Takes fd. */
static enum result
channel_add(struct keeper_channels *channels, struct keeper_io *io, uint64_t number, int fd)
{
    struct keeper_channel *channel = calloc(1, sizeof *channel);
    enum result result;

    if (!channel) {
        fd_close(&fd);
        return RESULT_NO_MEMORY;
    }
    channel->watch.kind = KEEPER_WATCH_CHANNEL;
    channel->watch.fd = fd;
    channel->node.number = number;
    result = keeper_table_add(&channels->table, &channel->node);
    if (result != RESULT_OK) {
        fd_close(&fd);
        free(channel);
        return result;
    }
    result = keeper_io_watch(io, &channel->watch);
    if (result != RESULT_OK)
        channel_free(channels, io, channel);
    return result;
}

void
keeper_channels_add(struct keeper_channels *channels, struct keeper_io *io, struct message *m)
{
    for (size_t i = 0; i < m->fd_count; i++) {
        uint64_t number = m->as.channels.first + i;
        enum result result = channel_add(channels, io, number, message_take_fd(m, i));

        /* The worker that gets the other end sees that it is closed. */
        if (result != RESULT_OK)
            log_error("channel=%" PRIu64 " not added why=%s", number, result_name(result));
    }
}

/* The worker sees the end at once.  The channel itself goes when the loop gets to it: it may be in
 * the loop's hands at the moment. */
static void
revoke(struct keeper_channel *channel)
{
    channel->is_bound = true;
    channel->key = NO_KEY;
    (void)shutdown(channel->watch.fd, SHUT_RDWR);
}

void
keeper_channels_bind(struct keeper_channels *channels, const struct message *m)
{
    const struct message_channel *binding = &m->as.channel;
    struct keeper_node *node = keeper_table_find(&channels->table, binding->channel);
    struct keeper_node *kept = keeper_table_find(channels->keys, binding->key);
    struct keeper_channel *channel = node ? channel_of_node(node) : NULL;
    const struct keeper_key *key;

    if (!channel) {
        log_debug("channel=%" PRIu64 " is gone, not bound", binding->channel);
        return;
    }
    if (channel->is_bound || !kept) {
        log_error("channel=%" PRIu64 " conn=%" PRIu64 " not bound why=\"%s\"", binding->channel,
                  binding->connection, kept ? "it is bound already" : "there is no such key");
        revoke(channel);
        return;
    }
    key = ((struct keeper_kept_key *)kept)->key;
    channel->is_bound = true;
    channel->connection = binding->connection;
    channel->key = binding->key;
    channel->grant.role = (enum tls_role)binding->role;
    channel->grant.versions = binding->versions;
    channel->grant.budget = binding->budget;
    channel->grant.algorithm = keeper_key_algorithm(key);
    channel->grant.curve = keeper_key_curve(key);
}

bool
keeper_channel_is_bound(const struct keeper_watch *watch)
{
    return ((const struct keeper_channel *)watch)->is_bound;
}

/* --- requests ------------------------------------------------------------------------- */

/* Frees the channel. */
static void
end_for_misuse(struct keeper_channels *channels, struct keeper_io *io,
               struct keeper_channel *channel, const char *why)
{
    struct message m;
    char told[200];

    snprintf(told, sizeof told, "%s", why);
    log_warn("attack channel=%" PRIu64 " conn=%" PRIu64 " why=\"%s\"", channel->node.number,
             channel->connection, told);
    message_init(&m, MESSAGE_MISUSE);
    m.as.misuse.channel = channel->node.number;
    m.as.misuse.connection = channel->connection;
    m.as.misuse.why = told;
    channel_free(channels, io, channel);
    keeper_io_tell(io, &m);
}

/* Signs, and sends the signature.  False: the channel cannot go on. */
static bool
sign_and_send(struct keeper_channel *channel, const struct keeper_key *key,
              const struct keeper_order *order)
{
    uint8_t signature[KEEPER_SIGNATURE_MAX];
    size_t size = sizeof signature;
    struct message m;
    const char *why = NULL;
    enum result result = keeper_key_sign(key, order, signature, &size, &why);

    if (result == RESULT_OK) {
        message_init(&m, MESSAGE_SIGNATURE);
        m.as.signature.value.data = signature;
        m.as.signature.value.size = size;
        result = mailbox_send(channel->watch.fd, &m);
        why = result_text(result);
    }
    if (result == RESULT_OK || result == RESULT_CHANNEL_CLOSED)
        return result == RESULT_OK;
    log_warn("channel=%" PRIu64 " conn=%" PRIu64 " not signed scheme=0x%04x why=\"%s\"",
             channel->node.number, channel->connection, (unsigned)order->scheme, why);
    return false;
}

static void
handle_sign(struct keeper_channels *channels, struct keeper_io *io, struct keeper_channel *channel,
            const struct message_sign *sign)
{
    struct keeper_node *kept;
    struct keeper_order order;
    const char *why;

    if (!channel->is_bound) {
        end_for_misuse(channels, io, channel, "the channel is nobody's yet");
        return;
    }
    kept = keeper_table_find(channels->keys, channel->key);
    if (!kept) {
        log_info("channel=%" PRIu64 " conn=%" PRIu64 " not signed why=\"the key was dropped\"",
                 channel->node.number, channel->connection);
        channel_free(channels, io, channel);
        return;
    }
    if (keeper_policy_judge(&channel->grant, sign->scheme, sign->version, sign->content, &order,
                            &why) != RESULT_OK) {
        end_for_misuse(channels, io, channel, why);
        return;
    }
    /* Used up before it is signed: whatever happens then, it is not asked for twice. */
    channel->grant.budget--;
    if (!sign_and_send(channel, ((struct keeper_kept_key *)kept)->key, &order))
        channel_free(channels, io, channel);
}

void
keeper_channels_serve(struct keeper_channels *channels, struct keeper_io *io,
                      struct keeper_watch *watch)
{
    struct keeper_channel *channel = channel_of_watch(watch);
    struct message m;
    const char *why = NULL;
    enum result result =
        mailbox_receive(watch->fd, WORKER_TO_KEEPER, io->buffer, MESSAGE_MAX_LARGE, &m, &why);

    switch (result) {
    case RESULT_OK:
        handle_sign(channels, io, channel, &m.as.sign);
        message_fini(&m);
        break;
    case RESULT_WOULD_BLOCK:
        break;
    case RESULT_CHANNEL_CLOSED:
    case RESULT_CHANNEL_FAILED:
        channel_free(channels, io, channel);
        break;
    default:
        end_for_misuse(channels, io, channel, why ? why : result_text(result));
    }
}
