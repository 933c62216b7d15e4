#include "worker/post.h"

#include <stddef.h>
#include <unistd.h>

#include "ipc/log.h"
#include "ipc/mailbox.h"

void
post_send(int mailbox, const struct message *m)
{
    enum result result = mailbox_send_wait(mailbox, m, -1);

    if (result == RESULT_OK)
        return;
    if (result == RESULT_CHANNEL_CLOSED)
        _exit(WORKER_EXIT_ORPHANED);
    log_error("a message could not be sent type=%s reason=%s", message_name(m->type),
              result_name(result));
    _exit(WORKER_EXIT_PROTOCOL);
}

void
post_answer(int mailbox, uint32_t request, enum result reason, struct post_bytes bytes)
{
    struct message m;

    message_init(&m, MESSAGE_ANSWER);
    m.as.answer.request = request;
    m.as.answer.reason = reason;
    m.as.answer.in = bytes.in;
    m.as.answer.out = bytes.out;
    post_send(mailbox, &m);
}

void
post_received(int mailbox, uint32_t request, enum result reason, uint64_t in)
{
    struct message m;

    message_init(&m, MESSAGE_RECEIVED);
    m.as.received.request = request;
    m.as.received.reason = reason;
    m.as.received.in = in;
    post_send(mailbox, &m);
}

void
post_sent(int mailbox, uint64_t out)
{
    struct message m;

    message_init(&m, MESSAGE_SENT);
    m.as.sent.out = out;
    post_send(mailbox, &m);
}

void
post_peer_ended(int mailbox, uint64_t in)
{
    struct message m;

    message_init(&m, MESSAGE_PEER_ENDED);
    m.as.peer_ended.in = in;
    post_send(mailbox, &m);
}

enum result
post_receive(int mailbox, char *buffer, struct message *m)
{
    const char *why;
    enum result result = mailbox_receive(mailbox, MANAGER_TO_WORKER, buffer, MESSAGE_MAX, m, &why);

    if (result == RESULT_OK || result == RESULT_WOULD_BLOCK)
        return result;
    if (result == RESULT_CHANNEL_CLOSED)
        _exit(WORKER_EXIT_ORPHANED);
    log_error("a message of the manager cannot be read reason=%s why=\"%s\"", result_name(result),
              why != NULL ? why : "");
    _exit(WORKER_EXIT_PROTOCOL);
}

static void
refuse_certificate(int mailbox, uint32_t request)
{
    struct message m;

    message_init(&m, MESSAGE_CERTIFICATE_PART);
    m.as.certificate_part.request = request;
    post_send(mailbox, &m);
}

void
post_refuse(int mailbox, const struct message *m, enum result reason, struct post_bytes bytes)
{
    switch (m->type) {
    case MESSAGE_ACTIVE:
        post_answer(mailbox, m->as.active.request, reason, bytes);
        break;
    case MESSAGE_SHUTDOWN:
        post_answer(mailbox, m->as.shutdown.request, reason, bytes);
        break;
    case MESSAGE_CLOSE:
        post_answer(mailbox, m->as.close.request, reason, bytes);
        break;
    case MESSAGE_REPORT:
        post_answer(mailbox, m->as.report.request, reason, bytes);
        break;
    case MESSAGE_RECEIVE:
        post_received(mailbox, m->as.receive.request, reason, bytes.in);
        break;
    case MESSAGE_CERTIFICATE_ASK:
        refuse_certificate(mailbox, m->as.certificate_ask.request);
        break;
    default:
        break;
    }
}
