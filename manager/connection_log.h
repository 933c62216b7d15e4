/*
 * What the log says of a connection: one line when TLS is agreed (opened) and one when it is over
 * (closed), or, where TLS was never agreed, one line that says why not.  docs/logs.md has the keys.
 */
#ifndef CORDON_MANAGER_CONNECTION_LOG_H
#define CORDON_MANAGER_CONNECTION_LOG_H

#include "ipc/log.h"
#include "manager/connection.h"

void connection_log_opened(const struct connection *c);

/* A line that its worker wrote, if there are not too many of them: 50 a second of each, 5,000 of all
 * workers together; how many were dropped is the next line. */
void connection_log_line(struct connection *c, enum log_level level, const char *line);

/* Once, when the verdict is known. */
void connection_log_ended(struct connection *c);

#endif
