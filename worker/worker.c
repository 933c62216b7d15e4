#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/message.h"
#include "ipc/process.h"
#include "worker/facts.h"
#include "worker/post.h"
#include "worker/pump.h"
#include "worker/recorder.h"
#include "worker/session.h"
#include "worker/signer.h"
#include "worker/worker_fsm.h"

enum {
    QUEUE_SIZE = 16, /* requests that wait for the end of the handshake */
    CERTIFICATE_PART = 2048,
    PEER_LINGER_MS = 5000, /* for the peer's end of file after both sides said goodbye */
};

struct worker {
    const struct worker_start *start;
    int mailbox;
    enum worker_state state;
    struct session *session;
    struct pump *pump; /* NULL before the handshake is done */
    int64_t began_at_ms;
    int64_t deadline_ms;
    uint32_t alert_timeout_ms;
    bool close_asked; /* before the handshake was done, or while lingering */
    bool said_bye;
    size_t queue_count;
    struct message queue[QUEUE_SIZE];
    char buffer[MESSAGE_MAX + 1];
};

/* What the manager wants of this handshake; the texts are copies. */
struct order {
    uint32_t timeout_ms;
    enum delivery delivery;
    uint32_t active;
    bool log_alert;
    char server_name[256];
    char verify_name[256];
    int already_read; /* owned; -1: none */
};

static _Noreturn void
leave(enum worker_exit status)
{
    _exit(status);
}

/* In the process title: how far it is, and the TLS version once that is agreed on. */
static void
show_state(const struct worker *w)
{
    const char *version = NULL;

    if (w->session != NULL && w->state >= WORKER_CERTIFY)
        version = gnutls_protocol_get_name(gnutls_protocol_get_version(session_tls(w->session)));
    process_title_append(worker_state_name(w->state), version);
}

/* The only place where w->state changes. */
static void
worker_step(struct worker *w, enum worker_event event)
{
    enum worker_state next = worker_next_state(w->state, event);

    log_debug("conn=%s state=%s event=%s next=%s", w->start->handle, worker_state_name(w->state),
              worker_event_name(event), worker_state_name(next));
    if (next == WORKER_STATE_COUNT)
        return;
    w->state = next;
    show_state(w);
    recorder_note(w->start->page, next, event, 0);
}

static void
on_session_event(void *context, enum worker_event event)
{
    worker_step(context, event);
}

static struct post_bytes
moved(const struct worker *w)
{
    return w->pump != NULL ? pump_bytes(w->pump) : (struct post_bytes){ 0, 0 };
}

/* --- the end ---------------------------------------------------------------------------------- */

/* The last message. */
static void
say_bye(struct worker *w, enum ending how, const struct failure *f)
{
    struct message m;

    if (w->said_bye)
        return;
    w->said_bye = true;
    message_init(&m, MESSAGE_BYE);
    m.as.bye.how = how;
    m.as.bye.in = moved(w).in;
    m.as.bye.out = moved(w).out;
    if (f != NULL) {
        m.as.bye.error = (uint32_t)f->error;
        m.as.bye.has_alert = f->result == RESULT_TLS_ALERT;
        m.as.bye.alert = f->alert;
        m.as.bye.by_peer = f->by_peer;
        m.as.bye.cause = f->cause;
        m.as.bye.detail = f->detail;
    }
    recorder_bytes(w->start->page, m.as.bye.in, m.as.bye.out);
    post_send(w->mailbox, &m);
}

static _Noreturn void
end(struct worker *w, enum ending how, const struct failure *f)
{
    say_bye(w, how, f);
    worker_step(w, EVENT_ENDED);
    leave(WORKER_EXIT_DONE);
}

/* What the socket does not take now, it gets while we linger, if we do. */
static void
send_last(struct worker *w)
{
    if (session_flush(w->session) != RESULT_OK)
        log_debug("conn=%s last bytes wait size=%zu", w->start->handle,
                  records_unsent(session_records(w->session)));
}

/* The peer is told by a reset, and at once: whatever was on its way is lost. */
static _Noreturn void
end_reset(struct worker *w, uint32_t request)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };

    (void)setsockopt(w->start->peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (!w->said_bye)
        post_answer(w->mailbox, request, RESULT_OK, moved(w));
    end(w, ENDING_LOCAL, NULL);
}

/* --- the mailbox before the connection stands --------------------------------------------- */

static void
enqueue(struct worker *w, struct message *m)
{
    if (w->queue_count == QUEUE_SIZE) {
        post_refuse(w->mailbox, m, RESULT_BAD_STATE, moved(w));
        message_fini(m);
        return;
    }
    /* None of those that may come now has text: nothing points into the buffer. */
    w->queue[w->queue_count++] = *m;
}

/* Takes m. */
static void
handle_early(struct worker *w, struct message *m)
{
    switch (m->type) {
    case MESSAGE_REPORT:
        post_answer(w->mailbox, m->as.report.request, RESULT_OK, moved(w));
        break;
    case MESSAGE_CLOSE:
        if (m->as.close.reset)
            end_reset(w, m->as.close.request);
        post_answer(w->mailbox, m->as.close.request, RESULT_OK, moved(w));
        w->close_asked = true;
        break;
    case MESSAGE_GO:
        log_warn("conn=%s a second go", w->start->handle);
        break;
    default:
        enqueue(w, m);
        return;
    }
    message_fini(m);
}

static void
serve_early(struct worker *w)
{
    struct message m;

    while (post_receive(w->mailbox, w->buffer, &m) == RESULT_OK)
        handle_early(w, &m);
}

/*
 * Waits for fd until the deadline, and serves the mailbox meanwhile.  OK: fd is ready.  TIMEOUT;
 * CANCELLED: the manager wants the end.
 */
static enum result
worker_wait(struct worker *w, int fd, short events)
{
    for (;;) {
        struct pollfd fds[2] = { { fd, events, 0 }, { w->mailbox, POLLIN, 0 } };
        int count = poll(fds, 2, clock_poll_timeout(w->deadline_ms));

        if (count < 0 && errno != EINTR)
            leave(WORKER_EXIT_PROTOCOL);
        if (count == 0)
            return RESULT_TIMEOUT;
        if (count > 0 && fds[1].revents != 0)
            serve_early(w);
        if (w->close_asked)
            return RESULT_CANCELLED;
        if (count > 0 && fds[0].revents != 0)
            return RESULT_OK;
    }
}

static enum result
wait_for_keeper(void *context, int fd)
{
    return worker_wait(context, fd, POLLIN);
}

/* --- the mailbox and the socket when there is no connection any more ------------------------- */

/* Requests that come then. */
static void
serve_late(struct worker *w)
{
    struct message m;

    while (post_receive(w->mailbox, w->buffer, &m) == RESULT_OK) {
        if (m.type == MESSAGE_CLOSE && m.as.close.reset)
            end_reset(w, m.as.close.request);
        if (m.type == MESSAGE_CLOSE)
            w->close_asked = true;
        if (!w->said_bye && (m.type == MESSAGE_CLOSE || m.type == MESSAGE_REPORT))
            post_refuse(w->mailbox, &m, RESULT_OK, moved(w));
        else if (!w->said_bye)
            post_refuse(w->mailbox, &m, RESULT_CLOSED, moved(w));
        message_fini(&m);
    }
}

/*
 * Sends what is still to be sent and throws away what comes, so that no reset overtakes our last
 * bytes, until the peer's end of file, at most for timeout_ms.  shut: tell the peer that nothing
 * more comes.
 */
static void
linger(struct worker *w, uint32_t timeout_ms, bool shut)
{
    struct records *r = session_records(w->session);
    int64_t deadline_ms = clock_now_ms() + timeout_ms;
    bool is_shut = false;

    while (!w->close_asked && !records_discard(r) && clock_now_ms() < deadline_ms) {
        struct pollfd fds[2] = { { records_socket(r), POLLIN, 0 }, { w->mailbox, POLLIN, 0 } };

        if (records_flush(r) == RESULT_WOULD_BLOCK) {
            fds[0].events |= POLLOUT;
        } else if (shut && !is_shut) {
            records_shutdown(r);
            is_shut = true;
        }
        if (poll(fds, 2, clock_poll_timeout(deadline_ms)) > 0 && fds[1].revents != 0)
            serve_late(w);
    }
}

/* --- a handshake that fails ------------------------------------------------------------------- */

static void
tell_failed(struct worker *w, const struct failure *f, enum worker_state state)
{
    struct message m;

    message_init(&m, MESSAGE_FAILED);
    m.as.failed.reason = f->result == RESULT_TRUNCATED ? RESULT_CLOSED : f->result;
    m.as.failed.error = (uint32_t)f->error;
    m.as.failed.has_alert = f->result == RESULT_TLS_ALERT;
    m.as.failed.alert = f->alert;
    m.as.failed.by_peer = f->by_peer;
    m.as.failed.state = state;
    m.as.failed.cause = f->cause;
    m.as.failed.detail = f->detail;
    if (w->session != NULL && session_server_name(w->session)[0] != '\0')
        m.as.failed.server_name = session_server_name(w->session);
    if (w->session != NULL && session_alpn_offered(w->session)[0] != '\0')
        m.as.failed.alpn_offered = session_alpn_offered(w->session);
    post_send(w->mailbox, &m);
}

static _Noreturn void
end_failed(struct worker *w, const struct failure *f)
{
    bool has_alert = w->session != NULL && session_send_alert(w->session);
    enum worker_state state = w->state;

    if (has_alert) {
        send_last(w);
        worker_step(w, EVENT_ALERT_SENT);
    }
    tell_failed(w, f, state);
    if (has_alert)
        linger(w, w->alert_timeout_ms, false);
    end(w, ENDING_FAILED, f);
}

static _Noreturn void
end_failed_by(struct worker *w, enum result result)
{
    struct failure f = { .result = result,
                         .cause = result_name(result),
                         .detail = result_text(result) };

    end_failed(w, &f);
}

/* There is nobody behind us for the peer: a fatal alert, so that it takes nothing for a clean end. */
static _Noreturn void
end_refused(struct worker *w, uint32_t alert, enum ending how, const struct failure *f)
{
    session_refuse(w->session, alert);
    send_last(w);
    worker_step(w, EVENT_ALERT_SENT);
    say_bye(w, how, f);
    linger(w, w->alert_timeout_ms, true);
    end(w, how, f);
}

/* The manager asked for the end before the connection stood. */
static _Noreturn void
end_cancelled(struct worker *w)
{
    if (w->session != NULL) {
        session_bye(w->session);
        send_last(w);
    }
    end(w, ENDING_LOCAL, NULL);
}

/* --- go --------------------------------------------------------------------------------------- */

static void
copy_text(char out[256], const char *text)
{
    out[0] = '\0';
    if (text != NULL)
        memcpy(out, text, strlen(text) + 1);
}

/* m has at most 255 bytes in each text (ipc/messages.def). */
static void
read_order(struct worker *w, struct message *m, struct order *order)
{
    const struct message_go *go = &m->as.go;

    order->timeout_ms = go->timeout_ms;
    order->delivery = (enum delivery)go->delivery;
    order->active = go->active;
    order->log_alert = go->log_alert != 0;
    copy_text(order->server_name, go->server_name);
    copy_text(order->verify_name, go->verify_name);
    order->already_read = message_take_fd(m, 0);
    w->alert_timeout_ms = go->alert_timeout_ms;
}

static void
wait_for_go(struct worker *w, struct order *order)
{
    for (;;) {
        struct pollfd fd = { w->mailbox, POLLIN, 0 };
        struct message m;

        if (post_receive(w->mailbox, w->buffer, &m) != RESULT_OK) {
            (void)poll(&fd, 1, -1);
            continue;
        }
        if (m.type == MESSAGE_GO) {
            read_order(w, &m, order);
            message_fini(&m);
            return;
        }
        handle_early(w, &m);
        if (w->close_asked)
            end_cancelled(w);
    }
}

/* Gives *records: over the peer's socket, with what was read before in front. */
static enum result
open_records(struct worker *w, struct order *order, struct records **records)
{
    uint8_t *bytes;
    size_t size;
    enum result result = records_new(records, w->start->peer);

    if (result != RESULT_OK || order->already_read < 0)
        return result;
    result = memfd_read(order->already_read, RECORDS_IN_SIZE, &bytes, &size);
    fd_close(&order->already_read);
    if (result == RESULT_OK) {
        result = records_prefill(*records, bytes, size);
        free(bytes);
    }
    if (result != RESULT_OK)
        records_free(*records);
    return result;
}

static void
open_session(struct worker *w, struct order *order)
{
    struct session_options options = {
        .credentials = w->start->credentials,
        .server_name = order->server_name[0] != '\0' ? order->server_name : NULL,
        .verify_name = order->verify_name[0] != '\0' ? order->verify_name : NULL,
        .log_alert = order->log_alert,
        .handle = w->start->handle,
        .on_event = on_session_event,
        .context = w,
    };
    struct records *records;
    enum result result = open_records(w, order, &records);

    if (result == RESULT_OK)
        result = session_new(&w->session, records, &options);
    if (result != RESULT_OK) {
        log_error("conn=%s no session reason=%s", w->start->handle, result_name(result));
        end_failed_by(w, RESULT_TLS_BROKEN);
    }
    signer_open(w->start->keeper, session_tls(w->session), options.credentials->role,
                wait_for_keeper, w);
}

static void
shake_hands(struct worker *w)
{
    struct records *r = session_records(w->session);
    enum result result;

    while ((result = session_handshake(w->session)) == RESULT_WOULD_BLOCK) {
        short events = records_unsent(r) > 0 ? POLLIN | POLLOUT : POLLIN;

        result = worker_wait(w, records_socket(r), events);
        if (result != RESULT_OK)
            break;
    }
    signer_close();
    if (w->close_asked)
        end_cancelled(w);
    if (result == RESULT_TIMEOUT || signer_failure() == RESULT_TIMEOUT)
        end_failed_by(w, RESULT_TIMEOUT);
    if (result != RESULT_OK)
        end_failed(w, session_failure(w->session));
    worker_step(w, EVENT_TLS_AGREED);
}

static void
tell_established(struct worker *w)
{
    struct facts facts;
    struct message m;

    message_init(&m, MESSAGE_ESTABLISHED);
    facts_fill(&facts, w->session, &m);
    m.as.established.took_ms = (uint32_t)(clock_now_ms() - w->began_at_ms);
    post_send(w->mailbox, &m);
}

/* --- the connection --------------------------------------------------------------------------- */

static void
send_certificate(struct worker *w, uint32_t request)
{
    struct bytes der = facts_peer_certificate(w->session);
    size_t offset = 0;

    do {
        size_t step = der.size - offset;
        struct message m;

        if (step > CERTIFICATE_PART)
            step = CERTIFICATE_PART;
        message_init(&m, MESSAGE_CERTIFICATE_PART);
        m.as.certificate_part.request = request;
        m.as.certificate_part.offset = (uint32_t)offset;
        m.as.certificate_part.total = (uint32_t)der.size;
        if (step > 0)
            m.as.certificate_part.part = (struct bytes){ der.data + offset, step };
        post_send(w->mailbox, &m);
        offset += step;
    } while (offset < der.size);
}

static void
handle_data(struct worker *w, struct message *m)
{
    pump_data(w->pump, message_take_fd(m, 0), (enum data_kind)m->as.data.kind);
}

static void
handle_delivered(struct worker *w, struct message *m)
{
    (void)m;
    pump_delivered(w->pump);
}

static void
handle_active(struct worker *w, struct message *m)
{
    pump_active(w->pump, m->as.active.request, m->as.active.credit);
}

static void
handle_receive(struct worker *w, struct message *m)
{
    pump_receive(w->pump, m->as.receive.request, m->as.receive.length);
}

static void
handle_receive_cancel(struct worker *w, struct message *m)
{
    pump_receive_cancel(w->pump, m->as.receive_cancel.request);
}

static void
handle_shutdown(struct worker *w, struct message *m)
{
    pump_shutdown(w->pump, m->as.shutdown.request, (enum shutdown_how)m->as.shutdown.how);
}

static void
handle_close(struct worker *w, struct message *m)
{
    if (m->as.close.reset)
        end_reset(w, m->as.close.request);
    if (m->as.close.alert != 0) {
        post_answer(w->mailbox, m->as.close.request, RESULT_OK, moved(w));
        end_refused(w, m->as.close.alert, ENDING_LOCAL, NULL);
    }
    pump_close(w->pump, m->as.close.request, m->as.close.linger_ms);
}

static void
handle_report(struct worker *w, struct message *m)
{
    post_answer(w->mailbox, m->as.report.request, RESULT_OK, moved(w));
}

static void
handle_certificate_ask(struct worker *w, struct message *m)
{
    send_certificate(w, m->as.certificate_ask.request);
}

static void (*const handlers[MESSAGE_TYPE_COUNT])(struct worker *, struct message *) = {
    [MESSAGE_DATA] = handle_data,
    [MESSAGE_DELIVERED] = handle_delivered,
    [MESSAGE_ACTIVE] = handle_active,
    [MESSAGE_RECEIVE] = handle_receive,
    [MESSAGE_RECEIVE_CANCEL] = handle_receive_cancel,
    [MESSAGE_SHUTDOWN] = handle_shutdown,
    [MESSAGE_CLOSE] = handle_close,
    [MESSAGE_REPORT] = handle_report,
    [MESSAGE_CERTIFICATE_ASK] = handle_certificate_ask,
};

/* Takes m. */
static void
handle(struct worker *w, struct message *m)
{
    if (handlers[m->type] != NULL)
        handlers[m->type](w, m);
    else
        log_warn("conn=%s a message is not expected now type=%s", w->start->handle,
                 message_name(m->type));
    message_fini(m);
}

static void
serve(struct worker *w)
{
    struct message m;

    while (pump_end(w->pump) == NULL && post_receive(w->mailbox, w->buffer, &m) == RESULT_OK)
        handle(w, &m);
}

static void
serve_queue(struct worker *w)
{
    for (size_t i = 0; i < w->queue_count; i++)
        handle(w, &w->queue[i]);
    w->queue_count = 0;
}

static void
relay(struct worker *w)
{
    for (;;) {
        bool has_more = pump_work(w->pump);
        struct pollfd fds[PUMP_POLLFDS + 1];
        int timeout_ms = has_more ? 0 : clock_poll_timeout(pump_deadline(w->pump));

        recorder_bytes(w->start->page, moved(w).in, moved(w).out);
        if (pump_end(w->pump) != NULL)
            return;
        pump_poll(w->pump, fds);
        fds[PUMP_POLLFDS] = (struct pollfd){ w->mailbox, POLLIN, 0 };
        if (poll(fds, PUMP_POLLFDS + 1, timeout_ms) < 0)
            continue;
        pump_ready(w->pump, fds);
        if (fds[PUMP_POLLFDS].revents != 0)
            serve(w);
    }
}

/* Who waits for a close wants the peer's end too; everybody else is told at once. */
static _Noreturn void
end_relay(struct worker *w, const struct pump_end *over)
{
    const struct failure *f = &over->failure;

    pump_let_go(w->pump);
    switch (over->how) {
    case ENDING_LOCAL:
        worker_step(w, EVENT_CLOSE_SENT);
        linger(w, over->linger_ms, true);
        break;
    case ENDING_OWNER_GONE:
    case ENDING_PEER:
        worker_step(w, EVENT_CLOSE_SENT);
        say_bye(w, over->how, NULL);
        linger(w, PEER_LINGER_MS, true);
        break;
    case ENDING_BACKEND:
        end_refused(w, GNUTLS_A_INTERNAL_ERROR, over->how, f);
    case ENDING_ALERT:
        if (!f->by_peer) {
            worker_step(w, EVENT_ALERT_SENT);
            say_bye(w, over->how, f);
            linger(w, w->alert_timeout_ms, false);
        }
        break;
    default:
        break;
    }
    end(w, over->how, f->result != RESULT_OK ? f : NULL);
}

static _Noreturn void
live(struct worker *w)
{
    struct order order = { .already_read = -1 };
    struct message hello;

    message_init(&hello, MESSAGE_HELLO);
    post_send(w->mailbox, &hello);
    wait_for_go(w, &order);
    w->began_at_ms = clock_now_ms();
    w->deadline_ms = order.timeout_ms != 0 ? w->began_at_ms + order.timeout_ms : -1;
    worker_step(w, EVENT_GO);
    open_session(w, &order);
    shake_hands(w);
    tell_established(w);
    if (pump_new(&w->pump, w->session, w->mailbox, order.delivery, order.active) != RESULT_OK)
        leave(WORKER_EXIT_NO_MEMORY);
    serve_queue(w);
    relay(w);
    end_relay(w, pump_end(w->pump));
}

_Noreturn void
worker_run(const struct worker_start *start)
{
    /* Its pages are nobody's until they are written to: most of the queue never is. */
    static struct worker worker;
    struct worker *w = &worker;

    w->start = start;
    w->mailbox = start->mailbox;
    w->deadline_ms = -1;
    recorder_note(start->page, WORKER_SPAWNED, EVENT_NONE, 0);
    live(w);
}
