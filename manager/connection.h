/*
 * The inside of a connection, for connection_*.c, connections.c, frames.c and listeners.c.
 */
#ifndef CORDON_MANAGER_CONNECTION_H
#define CORDON_MANAGER_CONNECTION_H

#include <sys/queue.h>
#include <sys/socket.h>
#include <uv.h>

#include "manager/address.h"
#include "manager/channel.h"
#include "manager/connection_fsm.h"
#include "manager/connections.h"
#include "manager/deliver.h"
#include "manager/dial.h"
#include "manager/listeners.h"
#include "manager/log_limit.h"
#include "manager/nurseries.h"
#include "manager/tree.h"

enum {
    CLOSE_LINGER_MS = 5000,
    /* Values of QUESTION_CLOSE. */
    CLOSE_RESET = 1, /* at once, with a TCP reset */
    CLOSE_ALERT = 2, /* with the fatal alert internal_error */
};

struct exec;
struct frames;

/* How it ended, once that is known: an error, or a word for how. */
struct verdict {
    bool is_known;
    const char *how;        /* ssl_closed; NULL: an error */
    struct failure failure; /* ssl_error, or the answer of a handshake */
    uint64_t in, out;
};

enum question_kind {
    QUESTION_REPORT,
    QUESTION_ACTIVE,
    QUESTION_CERTIFICATE,
    QUESTION_SHUTDOWN,
    QUESTION_CLOSE,
};

/* Something a worker is asked, and who waits for it. */
struct question {
    TAILQ_ENTRY(question) entry;
    struct connection *connection;
    enum question_kind kind;
    uint32_t number;    /* 0: not yet sent */
    uint32_t value;     /* credit, or how */
    bool waits_for_end; /* close with timeout */
    bool is_answered;
    uint64_t in, out; /* of the answer */
    uint8_t *bytes;   /* certificate; owned */
    uint32_t size, total;
    struct request *request; /* NULL: nobody waits any more */
    /* result OK: the answer is in q.  Takes q->request. */
    void (*on_answer)(struct question *q, enum result result);
};

/* What `established` said; of a handshake that failed, server_name and alpn as the client offered them. */
struct facts {
    uint32_t version, suite, group, signature, took_ms, peer_certificate;
    bool resumed, verified;
    char *server_name, *alpn; /* owned; NULL */
    size_t alpn_size;
    char *subject, *common_name, *issuer, *serial, *sha256, *public_key; /* owned; NULL */
    int64_t not_before, not_after;
};

enum { CONNECTION_GROWTH = 2 }; /* descriptors, from one (its peer) to three when it is open */

struct connection {
    uint64_t number;
    char handle[40];
    enum connection_state state;
    enum connection_event queued[4];
    unsigned queued_count;
    bool is_stepping;
    bool is_growing; /* it has not got all the descriptors that it needs */

    struct owner *owner; /* NULL: nobody is left, or nobody yet */
    uid_t uid;
    struct listener *listener; /* a reference; NULL */
    bool is_unasked;           /* its listener shook hands by itself */
    bool is_handshake_over;    /* and has been told that it may shake the next */
    enum tls_role role;
    struct connection_options options;
    struct deliver *deliver; /* a reference; NULL: the owner gets the plaintext */
    struct context *context; /* a reference; NULL */
    struct context_load *load;
    struct request *request;           /* who waits for the handshake; NULL */
    int64_t deadline_ms;               /* of that; -1: none */
    int64_t opened_ms, established_ms; /* since 1970 */

    struct dial *dial; /* of the peer, or of the backend */
    char host[256];
    uint16_t port;
    int peer;         /* owned, until hello; -1 */
    int already_read; /* sealed memfd; owned; -1 */
    struct address peername, sockname;
    struct address proxied_by; /* who said so; size 0: the kernel */
    int plain;                 /* DELIVER_CLIENT: who called us; owned, until delivered; -1 */

    struct pair_want pair_want;
    struct spawn_want spawn_want;
    struct pair pair; /* number 0: none; its descriptors are on their way at once */
    struct channel *channel;
    struct worker *worker;
    uint64_t generation; /* of its nursery */
    uint32_t pid;
    unsigned spawns;
    bool has_exited;
    int exit_status;
    const char *last_state;   /* of the worker, from its board */
    const char *failed_state; /* the same, as it said itself; NULL */

    bool has_hello, has_goodbye, is_given, is_forgotten, is_killed, is_lingering;
    bool is_close_asked, peer_ended, is_write_shut;
    struct log_limit log_limit; /* of its worker's lines */
    const char *close_how; /* why we close it: "local", "owner_gone" */
    struct facts facts;
    struct verdict verdict;
    uint64_t in, out; /* as the worker said last */
    uint64_t data_cookie;
    struct frames *frames; /* delivery messages; owned */
    struct exec *exec;     /* DELIVER_EXEC: its program */
    TAILQ_HEAD(, question) questions;
    uint32_t last_question;
    unsigned question_count;
    int ledger_slot;

    uv_timer_t timer; /* of the state */
    uv_timer_t stuck; /* of questions that are answered at once */
    int closing_handles;
    TAILQ_ENTRY(connection) entry, owner_entry, listener_entry, linger_entry;
};

/* --- connections.c --- */

/* Borrows listener (may be NULL), and holds it; client NULL: the manager itself, for its services.
 * Takes peer (-1: none yet).  said: what a proxy says of it; borrowed; NULL: none. */
struct connection *connection_new(struct client *client, enum tls_role role,
                                  const struct connection_options *options,
                                  struct listener *listener, int peer,
                                  const struct proxy_input *said);
int64_t clock_unix_ms(void);
void connection_set_context(struct connection *c, struct context *context);
struct connection *connection_by_number(uint64_t number);
void connection_free(struct connection *c);
/* It has ended: its handle answers closed from now on. */
void connection_keep_handle(struct connection *c);
bool connection_is_over(const struct connection *c); /* for its owner: there is a verdict */
struct client *owner_client(const struct owner *o);
uint64_t owner_number(const struct owner *o);
void owner_add_listener(struct client *client, struct listener *l);
void owner_remove_listener(struct listener *l);

/* The result of cordon.connections: what client may see and fits, behind number `after`.  Gives it. */
json_t *connections_page(const struct client *client, uint64_t after, size_t limit,
                         bool (*fits)(const struct connection *c, const void *filter),
                         const void *filter);

struct totals {
    uint64_t opened, established, failed, closed, worker_died;
};
extern struct totals totals;

/* --- connection_state.c --- */

/* The only place where c->state changes. */
void connection_step(struct connection *c, enum connection_event event);
/* Its timer: what happens then depends on the state. */
void connection_wait(struct connection *c, int64_t timeout_ms);
/* Ends it; how: "local", "owner_gone".  *f: what its waiting request is told, taken. NULL: closed. */
void connection_end(struct connection *c, const char *how, struct failure *f);
/* Ends it at once: its peer sees a TCP reset; a worker that does not do that in time is killed. */
void connection_reset(struct connection *c);
/* SIGKILL, through cordond. */
void connection_kill(struct connection *c, const char *why);

/* --- connection_verdict.c --- */

/* How it ended; takes f (an error), or how is a word.  Tells the request, the owner and subscribers, once.  */
/* State and counts as the worker left them on its page. */
void connection_read_board(struct connection *c);
void connection_decide(struct connection *c, const char *how, struct failure *f);
void failure_worker_died(struct connection *c, struct failure *f);
void failure_from_failed(const struct connection *c, const struct message_failed *failed,
                         struct failure *f);
void failure_from_bye(const struct connection *c, const struct message_bye *bye, struct failure *f);
json_t *connection_ending(const struct connection *c); /* "ending" of api/cordon.api.json; gives */
void failure_closed(const struct connection *c, struct failure *f);

/* --- connection_worker.c --- */

extern const struct channel_kind worker_channel;
extern const struct worker_events worker_events;

/* --- connection_ask.c --- */

/* Asks the worker, now or when its turn comes.  Takes r (NULL, only for a close: nobody waits). */
void connection_ask(struct connection *c, enum question_kind kind, uint32_t value,
                    struct request *r, int64_t timeout_ms,
                    void (*on_answer)(struct question *q, enum result result));
/* Sends what may be sent now. */
void connection_ask_next(struct connection *c);
void connection_answered(struct connection *c, const struct message_answer *answer);
void connection_certificate_part(struct connection *c, const struct message_certificate_part *p);
/* It is over: everybody who waits is told.  is_gone: the process too. */
void connection_questions_end(struct connection *c, bool is_gone);
void question_done(struct question *q, enum result result);
bool connection_is_closing(const struct connection *c);

/* --- connection_facts.c --- */

void facts_from(struct facts *facts, const struct message_established *m);
void facts_from_failed(struct facts *facts, const struct message_failed *m);
void facts_fini(struct facts *facts);
json_t *connection_info(const struct connection *c); /* "info"; gives */
json_t *connection_row(const struct connection *c);            /* gives */
const char *connection_state_word(const struct connection *c); /* the reference's */
json_t *suite_json(uint32_t code);                             /* "cipher_suite"; gives */

#endif
