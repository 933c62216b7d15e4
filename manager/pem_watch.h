/*
 * Changed files are taken up by themselves: every ssl_pem_cache_clean milliseconds, and when
 * ssl.clear_pem_cache asks, each listener's files are compared with what they were when they were
 * read.  The keeper looks at certificates and keys, which this process need not be able to see.
 */
#ifndef CORDON_MANAGER_PEM_WATCH_H
#define CORDON_MANAGER_PEM_WATCH_H

/* At the start, and when the configuration has changed. */
void pem_watch_open(void);

#endif
