#include "worker/records.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/fd.h"

enum {
    HEADER_SIZE = 5,
    MAX_RECORD = 16384 + 2048, /* RFC 5246 6.2.3; GnuTLS refuses more, by the header alone */
    MESSAGE_HEADER_SIZE = 4,

    TYPE_CCS = 20,
    TYPE_ALERT = 21,
    TYPE_HANDSHAKE = 22,
    TYPE_DATA = 23,
    TYPE_OTHER = 255, /* no TLS record: GnuTLS says so */
};

/* The handshake messages in plaintext records: where in one we are. */
struct message_reader {
    uint8_t header[MESSAGE_HEADER_SIZE];
    size_t header_size;
    size_t left; /* of the body */
};

struct records {
    int socket; /* owned */
    bool at_end;
    bool is_drained; /* the last read took all there was: the next need not ask the kernel */
    bool established;
    bool encrypted; /* the peer's handshake messages are not readable any more */
    bool data_allowed;
    enum records_fault fault;
    const char *plain; /* constant; NULL */
    int error;

    size_t in_start, in_end;
    size_t record_left; /* of the record that is being handed out */
    size_t handshake_size;
    uint8_t plain_alert; /* description of the last record, if it is one; 0 */
    unsigned idle_count;
    struct message_reader message;

    size_t out_start, out_end;

    uint8_t in[RECORDS_IN_SIZE];
    uint8_t out[RECORDS_OUT_SIZE];
};

enum result
records_new(struct records **out, int socket)
{
    struct records *r = malloc(sizeof *r);

    if (r == NULL) {
        close(socket);
        return RESULT_NO_MEMORY;
    }
    /* The buffers stay untouched, so an idle worker has no pages for them. */
    memset(r, 0, offsetof(struct records, in));
    r->socket = socket;
    r->data_allowed = true;
    *out = r;
    return RESULT_OK;
}

void
records_free(struct records *r)
{
    if (r == NULL)
        return;
    fd_close(&r->socket);
    free(r);
}

enum result
records_prefill(struct records *r, const void *bytes, size_t size)
{
    if (size > sizeof r->in - r->in_end)
        return RESULT_LIMIT;
    memcpy(r->in + r->in_end, bytes, size);
    r->in_end += size;
    return RESULT_OK;
}

void
records_attach(struct records *r, gnutls_session_t tls)
{
    gnutls_transport_set_ptr(tls, r);
    gnutls_transport_set_pull_function(tls, records_pull);
    gnutls_transport_set_pull_timeout_function(tls, records_pull_timeout);
    gnutls_transport_set_push_function(tls, records_push);
}

int
records_socket(const struct records *r)
{
    return r->socket;
}

void
records_set_established(struct records *r)
{
    r->established = true;
    r->idle_count = 0;
}

void
records_progress(struct records *r)
{
    r->idle_count = 0;
}

void
records_allow_data(struct records *r, bool allowed)
{
    r->data_allowed = allowed;
}

enum records_fault
records_fault(const struct records *r)
{
    return r->fault;
}

int
records_error(const struct records *r)
{
    return r->error;
}

unsigned
records_plain_alert(const struct records *r)
{
    return r->plain_alert;
}

size_t
records_handshake_size(const struct records *r)
{
    return r->handshake_size;
}

/* --- cutting records ------------------------------------------------------------------------ */

static size_t
buffered(const struct records *r)
{
    return r->in_end - r->in_start;
}

/* An SSL 2.0 ClientHello, which GnuTLS understands: two bytes of length, then its type, 1. */
static bool
is_old_hello(const struct records *r)
{
    const uint8_t *b = r->in + r->in_start;

    return r->handshake_size == 0 && (b[0] & 0x80) != 0 && b[2] == 1;
}

/* The size with its header and the type of the next record; false: not all of it is here. */
static bool
next_record(const struct records *r, size_t *size, int *type)
{
    const uint8_t *b = r->in + r->in_start;

    if (buffered(r) < HEADER_SIZE)
        return false;
    *size = HEADER_SIZE + ((size_t)b[3] << 8 | b[4]);
    *type = b[0];
    if (b[0] < TYPE_CCS || b[0] > TYPE_DATA) {
        *type = TYPE_OTHER;
        *size = is_old_hello(r) ? 2 + ((size_t)(b[0] & 0x7f) << 8 | b[1]) : buffered(r);
    }
    /* Too long by its header: GnuTLS refuses it without the rest. */
    if (*size > HEADER_SIZE + MAX_RECORD)
        *size = buffered(r);
    return *size <= buffered(r);
}

bool
records_has_more(const struct records *r)
{
    size_t size;
    int type;

    return r->record_left > 0 || r->at_end || next_record(r, &size, &type);
}

/*
 * Reads once into the buffer.  OK; CLOSED: end of the stream; WOULD_BLOCK; POSIX.
 *
 * After a read that did not fill the room the next one says WOULD_BLOCK by itself, once: whoever
 * is told so polls, and poll knows better.
 */
static enum result
fill(struct records *r)
{
    size_t room;
    ssize_t got;

    if (r->at_end)
        return RESULT_CLOSED;
    if (r->is_drained) {
        r->is_drained = false;
        return RESULT_WOULD_BLOCK;
    }
    if (r->in_start > 0) {
        memmove(r->in, r->in + r->in_start, buffered(r));
        r->in_end -= r->in_start;
        r->in_start = 0;
    }
    room = sizeof r->in - r->in_end;
    do {
        got = recv(r->socket, r->in + r->in_end, room, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        r->in_end += (size_t)got;
        r->is_drained = (size_t)got < room;
        return RESULT_OK;
    }
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return RESULT_WOULD_BLOCK;
    r->at_end = true;
    if (got == 0)
        return RESULT_CLOSED;
    if (r->error == 0)
        r->error = errno;
    return RESULT_POSIX;
}

bool
records_discard(struct records *r)
{
    enum result result;

    do {
        r->in_start = r->in_end = 0;
        r->record_left = 0;
        r->is_drained = false;
        result = fill(r);
    } while (result == RESULT_OK);
    return result != RESULT_WOULD_BLOCK;
}

/* The first bytes of those who come to the wrong port most often. */
static const char *
recognise(const uint8_t *bytes, size_t size)
{
    static const char http[] = "the peer speaks HTTP, not TLS";
    static const char smtp[] = "the peer speaks SMTP or FTP, not TLS";
    static const char proxy[] = "the peer sends a PROXY header before TLS";
    static const struct {
        const char *start, *says;
    } protocols[] = {
        { "GET ", http },
        { "POST", http },
        { "HEAD", http },
        { "PUT ", http },
        { "OPTI", http },
        { "DELE", http },
        { "PATC", http },
        { "CONN", http },
        { "PRI ", http },
        { "HTTP", http },
        { "SSH-", "the peer speaks SSH, not TLS" },
        { "EHLO", smtp },
        { "HELO", smtp },
        { "220 ", smtp },
        { "220-", smtp },
        { "+OK ", "the peer speaks POP3, not TLS" },
        { "* OK", "the peer speaks IMAP, not TLS" },
        { "PROX", proxy },
        { "\r\n\r\n", proxy },
    };

    for (size_t i = 0; size >= 4 && i < sizeof protocols / sizeof *protocols; i++) {
        if (memcmp(bytes, protocols[i].start, 4) == 0)
            return protocols[i].says;
    }
    return NULL;
}

const char *
records_plain_protocol(const struct records *r)
{
    return r->plain;
}

/* --- limits --------------------------------------------------------------------------------- */

/* false: a message in these plaintext bytes is larger than any honest one. */
static bool
read_messages(struct message_reader *m, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        size_t step = size;

        if (m->left > 0) {
            if (step > m->left)
                step = m->left;
            m->left -= step;
        } else {
            if (step > MESSAGE_HEADER_SIZE - m->header_size)
                step = MESSAGE_HEADER_SIZE - m->header_size;
            memcpy(m->header + m->header_size, bytes, step);
            m->header_size += step;
        }
        if (m->header_size == MESSAGE_HEADER_SIZE) {
            m->left = (size_t)m->header[1] << 16 | (size_t)m->header[2] << 8 | m->header[3];
            m->header_size = 0;
        }
        if (m->left > RECORDS_MAX_MESSAGE)
            return false;
        bytes += step;
        size -= step;
    }
    return true;
}

/* Whether a record before the end of the handshake keeps to the limits. */
static enum records_fault
judge_handshake(struct records *r, const uint8_t *record, size_t size, int type)
{
    r->handshake_size += size;
    if (r->handshake_size > RECORDS_MAX_HANDSHAKE)
        return RECORDS_HANDSHAKE_TOO_LARGE;
    if (type == TYPE_CCS)
        r->encrypted = true;
    /* An encrypted one is longer, or looks like application data. */
    r->plain_alert = type == TYPE_ALERT && size == HEADER_SIZE + 2 ? record[HEADER_SIZE + 1] : 0;
    if (type == TYPE_HANDSHAKE && !r->encrypted &&
        !read_messages(&r->message, record + HEADER_SIZE, size - HEADER_SIZE))
        return RECORDS_MESSAGE_TOO_LARGE;
    return RECORDS_FINE;
}

static enum records_fault
judge(struct records *r, const uint8_t *record, size_t size, int type)
{
    bool is_idle = r->established || type == TYPE_CCS || type == TYPE_ALERT || size <= HEADER_SIZE;

    r->idle_count = is_idle ? r->idle_count + 1 : 0;
    if (r->idle_count > RECORDS_MAX_IDLE)
        return RECORDS_TOO_MANY_IDLE;
    return r->established ? RECORDS_FINE : judge_handshake(r, record, size, type);
}

/* Makes record_left the next record.  OK; CLOSED; WOULD_BLOCK; POSIX; LIMIT. */
static enum result
begin_record(struct records *r)
{
    enum result result;
    size_t size;
    int type;

    if (r->fault != RECORDS_FINE)
        return RESULT_LIMIT;
    while (!next_record(r, &size, &type)) {
        result = fill(r);
        if (result != RESULT_OK)
            return result;
    }
    if (type == TYPE_DATA && !r->data_allowed)
        return RESULT_WOULD_BLOCK;
    if (type == TYPE_OTHER && r->handshake_size == 0)
        r->plain = recognise(r->in + r->in_start, size);
    r->fault = judge(r, r->in + r->in_start, size, type);
    if (r->fault != RECORDS_FINE)
        return RESULT_LIMIT;
    r->record_left = size;
    return RESULT_OK;
}

/* --- GnuTLS' functions ---------------------------------------------------------------------- */

static ssize_t
pull_failed(struct records *r, enum result result)
{
    switch (result) {
    case RESULT_CLOSED:
        return 0;
    case RESULT_WOULD_BLOCK:
        errno = EAGAIN;
        return -1;
    case RESULT_LIMIT:
        errno = EPROTO;
        return -1;
    default:
        errno = r->error;
        return -1;
    }
}

ssize_t
records_pull(gnutls_transport_ptr_t ptr, void *bytes, size_t size)
{
    struct records *r = ptr;

    if (r->record_left == 0) {
        enum result result = begin_record(r);

        if (result != RESULT_OK)
            return pull_failed(r, result);
    }
    if (size > r->record_left)
        size = r->record_left;
    memcpy(bytes, r->in + r->in_start, size);
    r->in_start += size;
    r->record_left -= size;
    return (ssize_t)size;
}

int
records_pull_timeout(gnutls_transport_ptr_t ptr, unsigned timeout_ms)
{
    struct records *r = ptr;

    /* It never waits: whoever calls GnuTLS polls the socket first. */
    (void)timeout_ms;
    r->is_drained = false;
    if (!records_has_more(r))
        (void)fill(r);
    return records_has_more(r) ? 1 : 0;
}

ssize_t
records_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t size)
{
    struct records *r = ptr;

    if (sizeof r->out - r->out_end < size) {
        if (records_flush(r) == RESULT_POSIX) {
            errno = r->error;
            return -1;
        }
        memmove(r->out, r->out + r->out_start, records_unsent(r));
        r->out_end -= r->out_start;
        r->out_start = 0;
    }
    if (size > sizeof r->out - r->out_end)
        size = sizeof r->out - r->out_end;
    if (size == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(r->out + r->out_end, bytes, size);
    r->out_end += size;
    return (ssize_t)size;
}

size_t
records_unsent(const struct records *r)
{
    return r->out_end - r->out_start;
}

enum result
records_flush(struct records *r)
{
    while (records_unsent(r) > 0) {
        ssize_t sent =
            send(r->socket, r->out + r->out_start, records_unsent(r), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return RESULT_WOULD_BLOCK;
        if (sent < 0) {
            if (r->error == 0)
                r->error = errno;
            r->out_start = r->out_end = 0;
            r->is_drained = false; /* the peer may have said why */
            return RESULT_POSIX;
        }
        r->out_start += (size_t)sent;
    }
    r->out_start = r->out_end = 0;
    return RESULT_OK;
}

void
records_shutdown(struct records *r)
{
    (void)shutdown(r->socket, SHUT_WR);
}
