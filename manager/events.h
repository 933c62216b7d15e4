/*
 * Events for subscribers (cordon.subscribe): types connection, listener, client, process, log as the
 * description lists them.  Each subscriber has its own bounded queue; what does not fit is dropped
 * and counted in one `overflow` event.
 */
#ifndef CORDON_MANAGER_EVENTS_H
#define CORDON_MANAGER_EVENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

/* Whether anybody listens for this type: making the JSON can be spared. */
bool events_wanted(const char *type);

/* Takes fields.  uid: whose object it is (only clients of that uid and administrators get it); handle:
 * of the connection or listener, or NULL. */
void events_publish(const char *type, uid_t uid, const char *handle, json_t *fields);

#endif
