/*
 * cordon.reload and SIGHUP: configuration, certificates, keys and CA sets are read again.  All or
 * nothing; one at a time.
 */
#ifndef CORDON_MANAGER_RELOAD_H
#define CORDON_MANAGER_RELOAD_H

/* Once, when the configuration has been read. */
void reload_open(void);

/* SIGHUP.  Says in the log what comes of it. */
void reload_by_signal(void);

#endif
