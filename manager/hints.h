/*
 * What a person can do about a TLS failure.  The one table of it, for log lines, errors and events.
 */
#ifndef CORDON_MANAGER_HINTS_H
#define CORDON_MANAGER_HINTS_H

#include <stdbool.h>

#include "ipc/message.h"
#include "ipc/result.h"

/*
 * Of a handshake or connection that a fatal alert ended.  by_peer: the peer sent it, and alert is all we
 * know; otherwise we sent it, because of cause (worker/alerts.c).  role is ours.  NULL: nothing can be
 * said.
 */
const char *hint_for_alert(const char *alert, const char *cause, bool by_peer, enum tls_role role);

/* Of a handshake that ended without an alert.  NULL likewise. */
const char *hint_for_reason(enum result reason, enum tls_role role);

/* Of a worker that its system call filter has killed. */
#define HINT_FORBIDDEN_CALL                                                                  \
    "The connection's process made a system call that none of them makes, and was killed: an " \
    "attack through its TLS library, or an assertion of ours. The kernel's log names the call."

#endif
