#include "worker/pump.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"

enum {
    BATCH = 65536,
    FRAME_HEADER = 4,
    FRAME_MAX = 65536,
    COMPACT_AT = 16384,         /* less room than a record, and as much to gain: move the rest */
    CLOSE_STALL_MS = 30 * 1000, /* a peer that takes nothing of our last bytes for so long */
};

/* The peer's half of the connection. */
enum peer_half {
    PEER_OPEN,
    PEER_CLOSED, /* its close_notify came */
    PEER_FAILED, /* see failure */
};

/* Frames from the owner: where in one we are. */
struct frame_reader {
    uint8_t header[FRAME_HEADER];
    size_t header_size;
    size_t left;
};

struct pump {
    struct session *session; /* borrowed */
    int mailbox;             /* borrowed */
    enum delivery delivery;

    /* The owner. */
    int data; /* owned; -1 before `data`, and with DATA_ECHO */
    enum data_kind kind;
    bool delivered;
    bool owner_readable, owner_writable; /* as far as we know */
    bool owner_ended;                    /* no more bytes will come from it */
    bool owner_hung_up;                  /* both directions are closed */
    bool owner_deaf;                     /* DATA_SOCKET: it takes no more bytes */
    int owner_error;                     /* DATA_SOCKET: errno of what broke it */
    bool owner_broke;                    /* and everything before that is read */
    struct frame_reader frame;
    unsigned frames_unsent; /* complete frames not yet reported with `sent` */

    /* To the owner: [start, end) of buffer, with room for a frame's header before it. */
    size_t start, end;
    size_t delivery_left;    /* bytes of the delivery under way, with its header */
    size_t delivery_payload; /* its plaintext */
    bool delivery_answers;   /* it is the answer to `receive` */
    uint32_t credit;
    bool receiving;
    uint32_t receive_request, receive_length, answered_request;
    bool discard; /* nobody wants what the peer sends */

    /* The peer. */
    enum peer_half peer;
    struct failure failure;
    bool peer_readable, peer_writable;
    bool peer_end_told;
    bool send_failed;
    bool bye_sealed, bye_sent;

    /* Requests to be answered, and the end. */
    bool shutting_down, read_is_shut;
    uint32_t shutdown_request;
    bool closing;
    uint32_t close_request, linger_ms;
    int64_t stall_at_ms;
    bool is_over;
    struct pump_end over;

    uint64_t in, out, sealed;
    uint8_t buffer[FRAME_HEADER + BATCH];
    uint8_t batch[BATCH]; /* from the owner, on its way into records */
};

enum result
pump_new(struct pump **out, struct session *session, int mailbox, enum delivery delivery,
         uint32_t active)
{
    struct pump *p = malloc(sizeof *p);

    if (p == NULL)
        return RESULT_NO_MEMORY;
    /* The buffers stay untouched until there are bytes. */
    memset(p, 0, offsetof(struct pump, buffer));
    p->session = session;
    p->mailbox = mailbox;
    p->delivery = delivery;
    p->credit = active;
    p->data = -1;
    p->start = p->end = FRAME_HEADER;
    p->owner_readable = p->owner_writable = true;
    p->peer_readable = p->peer_writable = true;
    *out = p;
    return RESULT_OK;
}

void
pump_free(struct pump *p)
{
    if (p == NULL)
        return;
    fd_close(&p->data);
    free(p);
}

void
pump_let_go(struct pump *p)
{
    if (p->kind == DATA_SOCKET)
        fd_close(&p->data);
}

struct post_bytes
pump_bytes(const struct pump *p)
{
    return (struct post_bytes){ .in = p->in, .out = p->out };
}

const struct pump_end *
pump_end(const struct pump *p)
{
    return p->is_over ? &p->over : NULL;
}

static size_t
unsent(const struct pump *p)
{
    return records_unsent(session_records(p->session));
}

/* --- towards the peer ----------------------------------------------------------------------- */

/*
 * Strips the frames' headers from the batch, in place; the rest is plaintext.  false: a frame is
 * longer than any.
 */
static bool
unframe(struct pump *p, size_t *size)
{
    size_t kept = 0;

    for (size_t i = 0; i < *size;) {
        size_t step = *size - i;

        if (p->frame.header_size < FRAME_HEADER) {
            p->frame.header[p->frame.header_size++] = p->batch[i++];
            if (p->frame.header_size < FRAME_HEADER)
                continue;
            p->frame.left = (size_t)p->frame.header[0] << 24 | (size_t)p->frame.header[1] << 16 |
                            (size_t)p->frame.header[2] << 8 | p->frame.header[3];
            if (p->frame.left > FRAME_MAX)
                return false;
            step = 0;
        }
        if (step > p->frame.left)
            step = p->frame.left;
        memmove(p->batch + kept, p->batch + i, step);
        kept += step;
        i += step;
        p->frame.left -= step;
        if (p->frame.left == 0) {
            p->frame.header_size = 0;
            p->frames_unsent++;
        }
    }
    *size = kept;
    return true;
}

static void
fail_inside(struct pump *p, const char *detail)
{
    log_error("the connection ends by a fault of ours why=\"%s\"", detail);
    p->peer = PEER_FAILED;
    p->failure = (struct failure){
        .result = RESULT_TLS_BROKEN, .error = EPROTO, .cause = "internal", .detail = detail
    };
}

static void
seal_batch(struct pump *p, size_t size)
{
    if (p->delivery == DELIVERY_MESSAGES && !unframe(p, &size)) {
        fail_inside(p, "a frame from the manager is too long");
        return;
    }
    if (session_send(p->session, p->batch, size) != RESULT_OK) {
        fail_inside(p, session_failure(p->session)->detail);
        return;
    }
    p->sealed += size;
}

/* One batch at a time: nothing is read before the last one is with the kernel. */
static bool
can_take(const struct pump *p)
{
    return p->data >= 0 && p->delivered && !p->owner_ended && !p->owner_broke && unsent(p) == 0 &&
           !p->send_failed && p->peer != PEER_FAILED;
}

static void
hang_up(struct pump *p)
{
    if (p->owner_hung_up)
        return;
    p->owner_hung_up = true;
    p->stall_at_ms = clock_now_ms() + CLOSE_STALL_MS;
}

/*
 * The owner's pair ends when its owner does, whatever was unread.  A backend that resets has not
 * said everything; when sending was told so first, reading sees only an end of file.
 */
static void
note_owner_end(struct pump *p, int error)
{
    if (p->kind == DATA_SOCKET && p->owner_error == 0)
        p->owner_error = error;
    p->owner_broke = p->owner_error != 0 && !p->closing;
    p->owner_ended = !p->owner_broke;
    if (p->owner_ended && p->owner_deaf)
        hang_up(p);
}

static void
take_from_owner(struct pump *p)
{
    ssize_t got;

    if (!p->owner_readable || !can_take(p))
        return;
    do {
        got = recv(p->data, p->batch, sizeof p->batch, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    /* What did not fill the batch was all there was; poll says when there is more. */
    if (got > 0)
        p->owner_readable = (size_t)got == sizeof p->batch;
    if (got > 0)
        seal_batch(p, (size_t)got);
    else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        p->owner_readable = false;
    else
        note_owner_end(p, got < 0 ? errno : 0);
}

static void
report_sent(struct pump *p)
{
    for (; p->frames_unsent > 0; p->frames_unsent--)
        post_sent(p->mailbox, p->out);
}

static void
note_all_sent(struct pump *p)
{
    p->out = p->sealed;
    report_sent(p);
    if (!p->bye_sealed || p->bye_sent)
        return;
    p->bye_sent = true;
    if (p->shutting_down) {
        p->shutting_down = false;
        post_answer(p->mailbox, p->shutdown_request, RESULT_OK, pump_bytes(p));
    }
}

static void
flush(struct pump *p)
{
    size_t before = unsent(p);

    if (p->send_failed || !p->peer_writable)
        return;
    switch (session_flush(p->session)) {
    case RESULT_OK:
        note_all_sent(p);
        break;
    case RESULT_WOULD_BLOCK:
        p->peer_writable = false;
        break;
    default:
        p->send_failed = true;
        p->peer_readable = true; /* the peer may have said why */
        break;
    }
    if (unsent(p) != before)
        p->stall_at_ms = clock_now_ms() + CLOSE_STALL_MS;
}

/* After the owner's last byte comes our close_notify. */
static void
say_bye(struct pump *p)
{
    if (!p->owner_ended || p->bye_sealed || p->peer == PEER_FAILED)
        return;
    session_bye(p->session);
    p->bye_sealed = true;
}

/* --- from the peer -------------------------------------------------------------------------- */

static bool
is_empty(const struct pump *p)
{
    return p->start == p->end;
}

static void
move_to_front(struct pump *p)
{
    memmove(p->buffer + FRAME_HEADER, p->buffer + p->start, p->end - p->start);
    p->end -= p->start - FRAME_HEADER;
    p->start = FRAME_HEADER;
}

/* Room at the end of the buffer. */
static size_t
make_room(struct pump *p)
{
    size_t gap = p->start > FRAME_HEADER ? p->start - FRAME_HEADER : 0;
    bool too_late = p->receiving && p->start + p->receive_length > sizeof p->buffer;

    if (is_empty(p))
        p->start = p->end = FRAME_HEADER;
    else if (gap > 0 && (too_late || (sizeof p->buffer - p->end < COMPACT_AT && gap >= COMPACT_AT)))
        move_to_front(p);
    return sizeof p->buffer - p->end;
}

static bool
wants_peer(struct pump *p)
{
    return p->peer == PEER_OPEN && unsent(p) <= RECORDS_OUT_SIZE - RECORDS_OUT_SPARE &&
           make_room(p) > 0;
}

static void
note_peer_failure(struct pump *p)
{
    p->peer = PEER_FAILED;
    p->failure = *session_failure(p->session);
    if (session_send_alert(p->session))
        flush(p);
}

/* false: enough for now. */
static bool
read_record(struct pump *p, size_t *budget)
{
    size_t size = make_room(p);
    enum result result;

    result = session_receive(p->session, p->buffer + p->end, &size);
    switch (result) {
    case RESULT_OK:
        *budget -= size < *budget ? size : *budget;
        if (!p->discard)
            p->end += size;
        return *budget > 0;
    case RESULT_WOULD_BLOCK:
        p->peer_readable = false;
        return false;
    case RESULT_CLOSED:
        p->peer = PEER_CLOSED;
        return false;
    default:
        note_peer_failure(p);
        return false;
    }
}

static bool
can_read_peer(struct pump *p)
{
    return wants_peer(p) && (p->peer_readable || session_has_more(p->session));
}

static void
read_peer(struct pump *p)
{
    size_t budget = BATCH;

    while (can_read_peer(p) && read_record(p, &budget)) {}
    /* Writing failed and there is nothing to read that says why. */
    if (p->send_failed && p->peer == PEER_OPEN && !p->peer_readable &&
        !session_has_more(p->session)) {
        int error = records_error(session_records(p->session));

        p->peer = PEER_FAILED;
        p->failure = (struct failure){ .result = RESULT_POSIX,
                                       .error = error,
                                       .cause = posix_name(error),
                                       .detail = "the connection to the peer broke" };
    }
}

/* --- to the owner --------------------------------------------------------------------------- */

/* Plaintext of the next delivery; 0: none is due. */
static size_t
next_delivery(const struct pump *p)
{
    size_t there = p->end - p->start;

    if (there == 0)
        return 0;
    if (p->receiving) {
        if (p->receive_length == 0)
            return there;
        return there >= p->receive_length ? p->receive_length : 0;
    }
    return p->credit > 0 ? there : 0;
}

static bool
begin_delivery(struct pump *p)
{
    size_t size = next_delivery(p);

    if (size == 0)
        return false;
    p->delivery_payload = size;
    p->delivery_left = size;
    p->delivery_answers = p->receiving;
    if (p->receiving) {
        p->receiving = false;
        p->answered_request = p->receive_request;
    } else if (p->credit != ACTIVE_ALWAYS) {
        p->credit--;
    }
    if (p->delivery == DELIVERY_MESSAGES) {
        p->start -= FRAME_HEADER;
        p->delivery_left += FRAME_HEADER;
        p->buffer[p->start] = (uint8_t)(size >> 24);
        p->buffer[p->start + 1] = (uint8_t)(size >> 16);
        p->buffer[p->start + 2] = (uint8_t)(size >> 8);
        p->buffer[p->start + 3] = (uint8_t)size;
    }
    return true;
}

static void
note_delivered_bytes(struct pump *p, size_t size)
{
    p->start += size;
    p->delivery_left -= size;
    if (p->delivery == DELIVERY_DESCRIPTOR)
        p->in += size;
    else if (p->delivery_left == 0)
        p->in += p->delivery_payload;
    if (p->delivery_left == 0 && p->delivery_answers)
        post_received(p->mailbox, p->answered_request, RESULT_OK, p->in);
}

static void
drop_undelivered(struct pump *p)
{
    /* What was begun is a frame, which somebody waits for to its end. */
    p->end = p->start + p->delivery_left;
}

static void
stop_delivering(struct pump *p)
{
    p->discard = true;
    p->delivery_left = 0;
    p->start = p->end = FRAME_HEADER;
}

/* The backend takes no more; what it said before that is still read.  EPIPE: it has closed. */
static void
note_deaf(struct pump *p, int error)
{
    stop_delivering(p);
    if (p->kind != DATA_SOCKET)
        return; /* whether the owner is gone, poll says */
    p->owner_deaf = true;
    p->owner_readable = true;
    if (p->owner_ended)
        hang_up(p);
    else if (error != EPIPE)
        p->owner_error = error;
}

static bool
can_echo(const struct pump *p)
{
    return p->kind == DATA_ECHO && p->delivered && unsent(p) == 0 && !p->send_failed &&
           !p->owner_ended && p->peer != PEER_FAILED && (!is_empty(p) || p->peer == PEER_CLOSED);
}

/* The whole buffer is one batch; the peer's goodbye comes back to it like its bytes. */
static void
echo(struct pump *p)
{
    size_t size = p->end - p->start;

    if (!can_echo(p))
        return;
    if (size == 0) {
        p->owner_ended = true;
        say_bye(p);
    } else if (session_send(p->session, p->buffer + p->start, size) != RESULT_OK) {
        fail_inside(p, session_failure(p->session)->detail);
    } else {
        p->start += size;
        p->in += size;
        p->sealed += size;
    }
}

static void
deliver(struct pump *p)
{
    if (p->discard)
        drop_undelivered(p);
    echo(p);
    if (p->data < 0 || !p->delivered)
        return;
    while (p->owner_writable && (p->delivery_left > 0 || begin_delivery(p))) {
        ssize_t sent =
            send(p->data, p->buffer + p->start, p->delivery_left, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent >= 0)
            note_delivered_bytes(p, (size_t)sent);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            p->owner_writable = false;
        else if (errno != EINTR)
            note_deaf(p, errno);
    }
}

/* No more bytes will come for a `receive`. */
static void
end_receive(struct pump *p)
{
    if (!p->receiving || (p->peer == PEER_OPEN && !p->discard) || next_delivery(p) > 0)
        return;
    p->receiving = false;
    post_received(p->mailbox, p->receive_request, RESULT_CLOSED, p->in);
}

/* --- the end -------------------------------------------------------------------------------- */

static void
finish(struct pump *p, enum ending how)
{
    p->is_over = true;
    p->over.how = how;
    p->over.failure = p->failure;
    p->over.linger_ms = p->linger_ms;
    if (p->shutting_down)
        post_answer(p->mailbox, p->shutdown_request, RESULT_CLOSED, pump_bytes(p));
    if (p->receiving)
        post_received(p->mailbox, p->receive_request, RESULT_CLOSED, p->in);
    if (p->closing)
        post_answer(p->mailbox, p->close_request, RESULT_OK, pump_bytes(p));
    p->shutting_down = p->receiving = p->closing = false;
}

static enum ending
ending_of_failure(const struct failure *f)
{
    switch (f->result) {
    case RESULT_TRUNCATED:
        return ENDING_TRUNCATED;
    case RESULT_TLS_ALERT:
        return ENDING_ALERT;
    default:
        return ENDING_TRANSPORT;
    }
}

/* From here on, closing the backend's socket is a clean end. */
static void
end_socket(struct pump *p)
{
    const struct linger off = { .l_onoff = 0 };

    if (p->kind == DATA_SOCKET && !p->owner_deaf)
        (void)setsockopt(p->data, SOL_SOCKET, SO_LINGER, &off, sizeof off);
    if (p->data >= 0)
        (void)shutdown(p->data, SHUT_WR);
}

/* The peer's close_notify is passed on when everything before it is. */
static void
tell_peer_end(struct pump *p)
{
    if (p->peer != PEER_CLOSED || p->peer_end_told || !p->delivered || !is_empty(p))
        return;
    p->peer_end_told = true;
    if (p->delivery == DELIVERY_DESCRIPTOR)
        end_socket(p);
    post_peer_ended(p->mailbox, p->in);
}

/* Somebody on our side wants the end, whatever the peer does. */
static bool
is_leaving(const struct pump *p)
{
    return p->closing || p->owner_hung_up;
}

/* The peer takes nothing of what has to go before we leave. */
static bool
is_stalled(const struct pump *p)
{
    return is_leaving(p) && !p->bye_sent && clock_now_ms() >= p->stall_at_ms;
}

static enum ending
leaving_how(const struct pump *p)
{
    if (p->closing)
        return ENDING_LOCAL;
    return p->peer_end_told ? ENDING_PEER : ENDING_OWNER_GONE;
}

/* The peer's side broke: what it sent before that is delivered first. */
static void
settle_failed(struct pump *p)
{
    if (p->closing && p->bye_sent)
        finish(p, ENDING_LOCAL);
    else if (is_empty(p) || p->discard || is_leaving(p))
        finish(p, ending_of_failure(&p->failure));
}

/* The peer has said goodbye and does not take our last bytes any more. */
static void
settle_unsent(struct pump *p)
{
    if (p->out == p->sealed) {
        finish(p, p->closing ? ENDING_LOCAL : ENDING_PEER);
        return;
    }
    p->failure = (struct failure){ .result = RESULT_POSIX,
                                   .error = records_error(session_records(p->session)),
                                   .detail = "the peer did not take the last bytes" };
    finish(p, ENDING_TRANSPORT);
}

static void
settle_broken(struct pump *p)
{
    p->failure = (struct failure){ .result = RESULT_POSIX,
                                   .error = p->owner_error,
                                   .cause = posix_name(p->owner_error),
                                   .detail = "the backend broke the connection off" };
    finish(p, ENDING_BACKEND);
}

static void
settle(struct pump *p)
{
    end_receive(p);
    tell_peer_end(p);
    if (p->peer == PEER_FAILED)
        settle_failed(p);
    else if (p->owner_broke)
        settle_broken(p);
    else if (p->send_failed && p->peer == PEER_CLOSED && (p->peer_end_told || p->discard))
        settle_unsent(p);
    else if (is_leaving(p) && (p->bye_sent || is_stalled(p)))
        finish(p, leaving_how(p));
    else if (p->peer_end_told && p->bye_sent)
        finish(p, ENDING_PEER);
    else if (p->read_is_shut && p->bye_sent)
        finish(p, ENDING_LOCAL);
}

bool
pump_work(struct pump *p)
{
    take_from_owner(p);
    say_bye(p);
    flush(p);
    read_peer(p);
    deliver(p);
    flush(p);
    settle(p);
    return !p->is_over && ((p->owner_readable && can_take(p)) || can_read_peer(p) || can_echo(p));
}

int64_t
pump_deadline(const struct pump *p)
{
    return is_leaving(p) && !p->bye_sent ? p->stall_at_ms : -1;
}

/* --- waiting -------------------------------------------------------------------------------- */

void
pump_poll(struct pump *p, struct pollfd fds[PUMP_POLLFDS])
{
    bool watch_owner;
    short peer = 0;
    short owner = 0;

    if (!p->peer_readable && wants_peer(p))
        peer |= POLLIN;
    if (!p->peer_writable && unsent(p) > 0 && !p->send_failed)
        peer |= POLLOUT;
    if (!p->owner_readable && can_take(p))
        owner |= POLLIN;
    if (!p->owner_writable && (p->delivery_left > 0 || next_delivery(p) > 0))
        owner |= POLLOUT;
    /* An error or a hang-up is always reported: who has nothing to do about it does not ask. */
    watch_owner = p->delivered && (owner != 0 || !p->owner_hung_up);
    fds[0] =
        (struct pollfd){ peer != 0 ? records_socket(session_records(p->session)) : -1, peer, 0 };
    if (p->kind == DATA_SOCKET)
        watch_owner = owner != 0;
    fds[1] = (struct pollfd){ watch_owner ? p->data : -1, owner, 0 };
}

void
pump_ready(struct pump *p, const struct pollfd fds[PUMP_POLLFDS])
{
    const short broken = POLLERR | POLLHUP;

    if (fds[0].revents & (POLLIN | broken))
        p->peer_readable = true;
    if (fds[0].revents & (POLLOUT | broken))
        p->peer_writable = true;
    if (fds[1].revents & (POLLIN | broken))
        p->owner_readable = true;
    if (fds[1].revents & (POLLOUT | broken))
        p->owner_writable = true;
    /* What a broken socket still has to say, reading and writing it will tell. */
    if ((fds[1].revents & broken) && p->kind != DATA_SOCKET && !p->owner_hung_up) {
        hang_up(p);
        if (!p->peer_end_told)
            stop_delivering(p);
    }
}

/* --- what the manager says ------------------------------------------------------------------ */

void
pump_data(struct pump *p, int data, enum data_kind kind)
{
    fd_close(&p->data);
    p->data = data;
    p->kind = kind;
    p->delivered = false;
}

void
pump_delivered(struct pump *p)
{
    p->delivered = p->data >= 0 || p->kind == DATA_ECHO;
}

void
pump_active(struct pump *p, uint32_t request, uint32_t credit)
{
    p->credit = credit;
    deliver(p);
    post_answer(p->mailbox, request, RESULT_OK, pump_bytes(p));
}

void
pump_receive(struct pump *p, uint32_t request, uint32_t length)
{
    if (p->receiving) {
        post_received(p->mailbox, request, RESULT_BAD_STATE, p->in);
        return;
    }
    p->receiving = true;
    p->receive_request = request;
    p->receive_length = length;
}

void
pump_receive_cancel(struct pump *p, uint32_t request)
{
    if (!p->receiving || p->receive_request != request)
        return;
    p->receiving = false;
    post_received(p->mailbox, request, RESULT_CANCELLED, p->in);
}

/* The owner's bytes end here: what is in the socket is still read, what comes later is refused. */
static void
end_owner(struct pump *p)
{
    if (p->data >= 0 && p->delivered) {
        (void)shutdown(p->data, SHUT_RD);
        p->owner_readable = true;
    } else {
        p->owner_ended = true;
    }
}

static void
shut_reading(struct pump *p)
{
    p->discard = true;
    p->read_is_shut = true;
    if (p->data >= 0 && p->delivery == DELIVERY_DESCRIPTOR)
        (void)shutdown(p->data, SHUT_WR);
}

void
pump_shutdown(struct pump *p, uint32_t request, enum shutdown_how how)
{
    if (p->shutting_down) {
        post_answer(p->mailbox, request, RESULT_BAD_STATE, pump_bytes(p));
        return;
    }
    if (how != SHUTDOWN_WRITE)
        shut_reading(p);
    if (how == SHUTDOWN_READ || p->bye_sent) {
        post_answer(p->mailbox, request, RESULT_OK, pump_bytes(p));
        return;
    }
    p->shutting_down = true;
    p->shutdown_request = request;
    end_owner(p);
}

void
pump_close(struct pump *p, uint32_t request, uint32_t linger_ms)
{
    if (p->closing) {
        post_answer(p->mailbox, request, RESULT_BAD_STATE, pump_bytes(p));
        return;
    }
    p->closing = true;
    p->close_request = request;
    p->linger_ms = linger_ms;
    p->discard = true;
    p->stall_at_ms = clock_now_ms() + CLOSE_STALL_MS;
    end_owner(p);
}
