/* Signals as something to read. */
#ifndef API_SIGNALS_H
#define API_SIGNALS_H

#include <signal.h>
#include <sys/types.h>

/*
 * From here on Ctrl-C and SIGTERM, and those of more (ended by 0), come by the descriptor, close-on-exec;
 * SIGPIPE is ignored.  The caller owns it.  -1: errno.
 */
int signals_open(const int *more);

/* The signal that came, with *code as si_code has it; 0: none. */
int signals_read(int fd, int *code);

#endif
