/*
 * A control client, for client*.c alone: what it is, and how they hand it to each other.
 *
 *   client.c        who is there; coming and going
 *   client_poll.c   what it waits for, and what it does next
 *   client_read.c   lines from it
 *   client_write.c  lines to it
 */
#ifndef CORDON_MANAGER_CLIENT_PARTS_H
#define CORDON_MANAGER_CLIENT_PARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

#include "manager/control.h"
#include "manager/in_flight.h"

struct out_line;
struct waiter;

enum client_state {
    CLIENT_OPEN,
    CLIENT_HALF_CLOSED, /* it has shut its write side; its last replies go out */
    CLIENT_ENDING,      /* what it says is not heard any more; what is queued goes out */
    CLIENT_LINGERING,   /* all is out; it may say the rest before it notices */
    CLIENT_GONE,        /* only its requests and handles are left */
};

struct client {
    TAILQ_ENTRY(client) in_order;
    LIST_ENTRY(client) in_bucket;
    uint64_t number;
    char handle[40];
    char name[80]; /* escaped; empty: it has not said one */
    uid_t uid;
    pid_t pid;
    bool is_in_admin_group;
    int64_t opened_ms; /* since 1970 */
    int fd;            /* owned */

    enum client_state state;
    uv_poll_t poll;
    uv_timer_t timer; /* no progress, or a moment to wait before the next try */
    unsigned handles_open;
    int polled;      /* what poll waits for */
    bool is_blocked; /* the kernel takes nothing more */
    struct in_flight in_flight;
    uint64_t retry_ms; /* 0: no descriptor waits for others to be read */
    uint64_t stalled_ms; /* since when one waits */
    bool is_waking;  /* in the list of those to be flushed */
    TAILQ_ENTRY(client) in_waking;

    struct line_reader reader;
    STAILQ_HEAD(, out_line) out;
    size_t out_bytes, reply_bytes, out_fds;
    size_t must_count;
    LIST_HEAD(, waiter) waiters;

    struct request_list requests; /* owned by request.c */
    size_t request_count;
    int discards; /* reads since it was ended */
};

/* --- client.c --- */

/* Only from the loop's callbacks: see control.h. */
void client_gone(struct client *c, const char *why);

/* --- client_poll.c --- */

void client_poll_open(void);

/* What a client whose queue has moved may do next: end, or be read again. */
void client_settle(struct client *c);
void client_update_poll(struct client *c);
/* It is gone: nobody is to wake it any more. */
void client_unwake(struct client *c);

/* --- client_read.c --- */

bool client_is_reading(const struct client *c);
/* It was refused, and may finish what it is writing. */
bool client_is_discarding(const struct client *c);
/* The socket is readable. */
void client_read(struct client *c);
/* Those that have been received already. */
void client_handle_lines(struct client *c);

/* --- client_write.c --- */

/* Sends what the kernel takes. */
void client_flush(struct client *c);
/* What waits to be written, or for that, will not be. */
void client_forget_output(struct client *c);

#endif
