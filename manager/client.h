/*
 * A control client: one connection to control.sock.  Reads lines with their
 * descriptors, answers in any order, never drops a reply or an owner's event,
 * and never slows anyone else (design: control-api, Wire).
 */
#ifndef CORDON_MANAGER_CLIENT_H
#define CORDON_MANAGER_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct client;

uint64_t client_number(const struct client *c);
const char *client_handle(const struct client *c); /* "k3.7"; belongs to the client */
uid_t client_uid(const struct client *c);
bool client_is_operator(const struct client *c);      /* the manager's uid, or 0 */
bool client_is_administrator(const struct client *c); /* ..., or in admin_group */
struct client *client_by_number(uint64_t number);     /* NULL if gone */

/* Called once the line is wholly with the kernel (ok), or the client is gone before (not ok). */
typedef void (*client_written_cb)(void *data, bool ok);

/*
 * An owner's event: notification `method`.  Takes params.  Borrows fd (-1: none); it is
 * duplicated until written.  Never dropped; on_written may be NULL.
 */
void client_event(struct client *c, const char *method, json_t *params, int fd,
                  client_written_cb on_written, void *data);

/*
 * Whether data events, and connections accepted unasked, should wait: true while more than 256 KiB or
 * 64 descriptors are queued towards the client.
 * client_on_drained calls back once when it is below again (one waiter a key; NULL callback: forget).
 */
bool client_is_full(const struct client *c);
void client_on_drained(struct client *c, const void *key, void (*on_drained)(void *data),
                       void *data);

#endif
