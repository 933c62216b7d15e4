/*
 * Messages: what our processes say to each other, described once in
 * ipc/messages.def, which gives the enum, the structs, the flat JSON reader and
 * writer, the number of descriptors, the routes and the names.
 *
 * One message is one JSON object in one packet: {"type":"spawn","connection":3,...}.
 * The reader knows fixed fields, 64-bit numbers and bounded text; no nesting,
 * no allocation.  Text and bytes fields point into the packet's buffer, which
 * is decoded in place.  Descriptors belong to their message until taken.
 */
#ifndef CORDON_IPC_MESSAGE_H
#define CORDON_IPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/result.h"

enum {
    MESSAGE_MAX = 4096,        /* bytes in a packet on a mailbox */
    MESSAGE_MAX_LARGE = 65536, /* on a keeper's or key decoder's channel */
    MESSAGE_MAX_FDS = 128,
    CHANNELS_PER_MESSAGE = 32,
    PAIRS_PER_MESSAGE = 64,
    BOARD_PAGES = 10000,
    EXEC_USERS_MAX = 16,
    LAUNCH_MAX = 128 * 1024, /* arguments and environment of a program */
};

#define ACTIVE_ALWAYS 0xffffffffU

/* Who sends to whom; a bit each. */
enum route {
    CORDOND_TO_MANAGER = 1 << 0,
    MANAGER_TO_CORDOND = 1 << 1,
    MANAGER_TO_KEEPER = 1 << 2,
    KEEPER_TO_MANAGER = 1 << 3,
    MANAGER_TO_NURSERY = 1 << 4,
    NURSERY_TO_MANAGER = 1 << 5,
    MANAGER_TO_WORKER = 1 << 6,
    WORKER_TO_MANAGER = 1 << 7,
    WORKER_TO_KEEPER = 1 << 8,
    KEEPER_TO_WORKER = 1 << 9,
    KEEPER_TO_DECODER = 1 << 10,
    DECODER_TO_KEEPER = 1 << 11,
    MANAGER_TO_CHECKER = 1 << 12,
    CHECKER_TO_MANAGER = 1 << 13,
    MANAGER_TO_RESOLVER = 1 << 14,
    RESOLVER_TO_MANAGER = 1 << 15,
    MANAGER_TO_LAUNCHER = 1 << 16,
    LAUNCHER_TO_MANAGER = 1 << 17,
    ANY_TO_MANAGER = KEEPER_TO_MANAGER | NURSERY_TO_MANAGER | WORKER_TO_MANAGER |
                     CHECKER_TO_MANAGER | RESOLVER_TO_MANAGER | LAUNCHER_TO_MANAGER,
    MANAGER_TO_ALL = MANAGER_TO_CORDOND | MANAGER_TO_KEEPER | MANAGER_TO_NURSERY,
};

/* Values of fields. */
enum process_kind {
    PROCESS_KEEPER,
    PROCESS_NURSERY,
    PROCESS_RESOLVER,
    PROCESS_CHECKER,
    PROCESS_KEY_DECODER,
    PROCESS_MANAGER,
    PROCESS_LAUNCHER,
    PROCESS_KIND_COUNT
};
enum kept_kind { KEPT_PAIR, KEPT_LISTENER, KEPT_CLIENT };
enum tls_role { ROLE_SERVER, ROLE_CLIENT };
enum tls_version { TLS_1_0 = 1, TLS_1_1 = 2, TLS_1_2 = 4, TLS_1_3 = 8 };
enum key_algorithm { KEY_RSA, KEY_ECDSA, KEY_ED25519, KEY_RSA_PSS };
enum delivery { DELIVERY_DESCRIPTOR, DELIVERY_MESSAGES };
enum data_kind {
    DATA_PAIR,   /* a Unix pair of ours: its end is the owner's goodbye, however it came */
    DATA_SOCKET, /* a backend's, with linger 0: a reset is a failure, both ways */
    DATA_ECHO,   /* no descriptor: back to the peer */
};
enum shutdown_how { SHUTDOWN_READ, SHUTDOWN_WRITE, SHUTDOWN_BOTH };
enum check_what { CHECK_CHAIN, CHECK_TRUST };
enum ending {
    ENDING_LOCAL,      /* we closed: ssl.close, or both halves were shut down here */
    ENDING_OWNER_GONE, /* the owner closed its data descriptor */
    ENDING_PEER,       /* the peer's close_notify, and ours */
    ENDING_TRUNCATED,  /* end of file without close_notify */
    ENDING_ALERT,      /* a fatal alert, either side's */
    ENDING_TRANSPORT,  /* errno from the peer's socket */
    ENDING_FAILED,     /* after failed: the handshake */
    ENDING_ORPHANED,   /* the manager closed the mailbox */
    ENDING_BACKEND,    /* errno from a service's backend; the peer got a fatal alert */
};

enum message_type {
#define MESSAGE(NAME, name, routes, fds_min, fds_max, text) MESSAGE_##NAME,
#define FIELD(name, kind, field, presence, bound, text)
#define END(name)
#include "ipc/messages.def"
#undef MESSAGE
#undef FIELD
#undef END
    MESSAGE_TYPE_COUNT
};

struct bytes {
    const uint8_t *data;
    size_t size;
};

#define MESSAGE_KIND_u64(field) \
    uint64_t field;             \
    bool has_##field
#define MESSAGE_KIND_i64(field) \
    int64_t field;              \
    bool has_##field
#define MESSAGE_KIND_u32(field) \
    uint32_t field;             \
    bool has_##field
#define MESSAGE_KIND_text(field)   const char *field
#define MESSAGE_KIND_bytes(field)  struct bytes field
#define MESSAGE_KIND_secret(field) struct bytes field

#define MESSAGE(NAME, name, routes, fds_min, fds_max, text) struct message_##name {
#define FIELD(name, kind, field, presence, bound, text)     MESSAGE_KIND_##kind(field);
#define END(name) \
    char end_;    \
    }             \
    ;
#include "ipc/messages.def"
#undef MESSAGE
#undef FIELD
#undef END

struct message {
    enum message_type type;
    size_t fd_count;
    int fds[MESSAGE_MAX_FDS]; /* received: owned, -1 once taken; to be sent: borrowed */
    union {
#define MESSAGE(NAME, name, routes, fds_min, fds_max, text) struct message_##name name;
#define FIELD(name, kind, field, presence, bound, text)
#define END(name)
#include "ipc/messages.def"
#undef MESSAGE
#undef FIELD
#undef END
    } as;
};

/* An empty message to fill in and send.  In a message to be sent, an optional number counts as
 * present when it is not 0 or its has_ is set; empty text is NULL. */
void message_init(struct message *m, enum message_type type);

/* Closes the descriptors that nobody took. For received messages only. */
void message_fini(struct message *m);

/* The caller owns it from here; -1 if there is no such descriptor or it was taken. */
int message_take_fd(struct message *m, size_t index);

/* Writes m into buffer; *size is the room there, then what was used. MESSAGE_TOO_LONG if it does
 * not fit; MESSAGE_MALFORMED if a field is over its bound (our own mistake, or a text too long). */
MUST_CHECK enum result message_encode(const struct message *m, char *buffer, size_t *size);

/*
 * Reads one packet of size bytes; buffer has room for one byte more and is changed: fields point
 * into it.  Takes fds, also on failure.  MESSAGE_MALFORMED, MESSAGE_UNEXPECTED (not one of route's)
 * or MESSAGE_DESCRIPTORS on failure; then *m holds nothing, and why (if not NULL) is a constant
 * text that says what is wrong.
 */
MUST_CHECK enum result message_decode(struct message *m, enum route route, char *buffer,
                                      size_t size, const int *fds, size_t fd_count,
                                      const char **why);

/* "spawn".  Never NULL. */
const char *message_name(enum message_type type);

/* For logs: the message in one line with secrets redacted, cut to size. */
void message_describe(const struct message *m, char *line, size_t size);

#endif
