/*
 * What the manager's parts need of each other, apart from requests: the loop, the configuration,
 * and the few calls that cross from the control side to the connections and back.
 *
 *   control side:     control.c client*.c line.c request.c description.c params.c failure.c events.c
 *                     options.c config.c methods_cordon.c main.c
 *   connection side:  tree.c ledger.c helpers.c keys.c contexts.c nurseries.c listeners.c dial.c
 *                     connections.c frames.c methods_ssl.c
 */
#ifndef CORDON_MANAGER_MANAGER_H
#define CORDON_MANAGER_MANAGER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "ipc/log.h"
#include "ipc/result.h"
#include "manager/client.h"

struct config {
    uint32_t alert_timeout_ms;   /* 5000 */
    uint32_t restart_intensity;  /* 10 */
    uint32_t restart_period_s;   /* 3600 */
    uint32_t connections_max;    /* 20000 */
    uint32_t listeners_max;      /* 1024 */
    uint32_t clients_max;        /* 4096 */
    uint32_t requests_max;       /* open ones of one client: 1024 */
    uint32_t contexts_max;       /* 4096 */
    uint32_t nursery_forks_max;  /* 10000: then a fresh one follows */
    uint32_t nursery_age_max_s;  /* 600: the same */
    enum log_format log_format;  /* text */
    uint32_t pem_cache_clean_ms; /* changed files are looked for; 120000; 0: never */
    gid_t admin_group;           /* (gid_t)-1: none */
    uint32_t walls;              /* mask of enum wall: without them there is no worker */
    char system_trust_file[256]; /* /etc/ssl/certs/ca-certificates.crt */
};

extern struct config config; /* read at the start, and by a reload */
extern uv_loop_t *manager_loop;

uint32_t manager_start_number(void);

/* --- given by the connection side, used by the control side --- */

struct tree_events {
    void (*on_boot)(void);      /* the ledger is there */
    void (*on_terminate)(void); /* a signal asks to stop */
    void (*on_reload)(void);    /* a signal asks to reload */
};

/* Opens the channel to cordond (fd PROCESS_MAILBOX).  Borrows events. */
void tree_open(const struct tree_events *events);
void tree_ready(void);                                  /* the control socket listens */
void tree_finished(void (*on_told)(void));                               /* everything is closed; cordond ends us */
void tree_keep(uint32_t kind, uint64_t number, int fd); /* enum kept_kind; borrows fd */
void tree_drop(uint32_t kind, uint64_t number);         /* batched, a partial batch after 1 s */
json_t *tree_processes(void);                           /* rows for cordon.status */

/* Starts keeper and the first nurseries. */
void connections_open(void);
/* The client is gone: what it owned and may not outlive it ends. */
void connections_client_gone(struct client *c);
/* Closes everything in good order, at most within timeout_ms, then calls on_done once. */
void connections_close_all(int64_t timeout_ms, void (*on_done)(void));
/* For cordon.status: adds connections, handshaking, listeners, totals. */
void connections_status(json_t *status);
/* {connections, next} of what this client may see, at most 1,000: the snapshot of cordon.subscribe. */
json_t *connections_snapshot(struct client *c);
/* For cordon.clients: how many of each it owns. */
void connections_count(const struct client *c, uint32_t *connections, uint32_t *listeners);
/* What the nursery's library has: masks and codes as in nursery_ready; false before it is ready. */
bool nurseries_library(uint32_t *versions, const uint8_t **suites, size_t *suites_size);
/* "GnuTLS 3.7.9, linked statically"; "" before the first nursery is ready. */
const char *nurseries_library_name(void);
/* The walls that stand around the last nursery that came up: mask of enum wall.  false: none has. */
bool nurseries_walls(uint32_t *standing);
/* Those that are required and do not stand, so that there is no nursery; 0: none. */
uint32_t nurseries_missing_walls(void);
/* An array of their names. */
json_t *walls_json(uint32_t walls);

/* Ledger rows of clients, subscriptions and requests (ledger.h has the others). */
void ledger_client_open(uint64_t number, uid_t uid);
void ledger_client_close(uint64_t number);
void ledger_request_open(uint64_t number, uint64_t client, uint64_t connection,
                         int64_t deadline_ms);
void ledger_request_close(uint64_t number);
void ledger_subscription_open(uint64_t number, uint64_t client);
void ledger_subscription_close(uint64_t number);

/* --- given by the control side, used by the connection side --- */

/* The configuration file as it is now, on top of the defaults, and what the command line says.  Gives
 * *services, as services_check does.  False: why. */
bool manager_read_config(struct config *c, enum log_level *level, json_t **services, char *why,
                         size_t why_size);
const char *manager_config_path(void);

/* Begins the orderly stop (also cordon.stop's and SIGTERM's way). */
void manager_stop(void);
bool manager_is_stopping(void);

#endif
