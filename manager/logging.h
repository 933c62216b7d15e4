/*
 * How the tree logs: the manager decides (command line, configuration, cordon.log_level), and
 * cordond, the keeper and the nurseries follow; workers have what their nursery had when it forked
 * them.
 */
#ifndef CORDON_MANAGER_LOGGING_H
#define CORDON_MANAGER_LOGGING_H

#include "ipc/log.h"
#include "ipc/message.h"

/* From now on, everywhere. */
void logging_set(enum log_level level, enum log_format format);

/* What a process that has just been started is told first. */
void logging_message(struct message *m);

#endif
