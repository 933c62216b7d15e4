/*
 * The manager: the trusted process that programs talk to.
 *
 * It owns the registry (who has which connection), serves the control API on control.sock and
 * asks cordond, the keeper, the nurseries and the workers to do the rest.  It has no TLS library:
 * it never reads a byte that a peer wrote, and a process that cannot parse keys cannot leak them.
 * cordond starts it, with its mailbox at descriptor 3, and ends with it.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/process.h"
#include "ipc/sandbox.h"
#include "ipc/secret.h"
#include "manager/change.h"
#include "manager/config.h"
#include "manager/control.h"
#include "manager/deliver.h"
#include "manager/description.h"
#include "manager/descriptors.h"
#include "manager/manager.h"
#include "manager/reload.h"
#include "manager/services.h"

enum {
    CLOSE_MS = 5000, /* connections at a stop: close_notify both ways, then no longer */
    FLUSH_MS = 2000, /* then the clients: what they have not read by then is lost */
};

extern const char cordon_api_json[];
extern const size_t cordon_api_json_size;

uv_loop_t *manager_loop;

/* From the command line; NULL: not given. */
static const char *socket_path, *config_path, *level_name, *format_name;
static bool is_limited_by_descriptors;
static json_t *first_services; /* owned, until they are started */
static bool is_stopping;
static bool is_serving;
static int64_t started_ms;

static _Noreturn void
give_up(const char *why)
{
    log_error("the manager cannot start: %s", why);
    exit(1);
}

int64_t
manager_uptime_ms(void)
{
    return clock_now_ms() - started_ms;
}

/* --- the stop ------------------------------------------------------------------------------ */

bool
manager_is_stopping(void)
{
    return is_stopping;
}

static void
on_told(void)
{
    uv_stop(manager_loop);
}

/* cordond ends the others; this process goes by itself, when cordond has been told everything: whom to
 * kill, too. */
static void
finish(void)
{
    log_info("stopped");
    tree_finished(on_told);
}

static void
on_clients_ended(void)
{
    control_unlink();
    finish();
}

static void
on_connections_closed(void)
{
    clients_end_all(FLUSH_MS, on_clients_ended);
}

void
manager_stop(void)
{
    if (is_stopping)
        return;
    log_info("stopping");
    is_stopping = true;
    if (!is_serving) {
        finish();
        return;
    }
    control_stop_listening();
    connections_close_all(CLOSE_MS, on_connections_closed);
}

/* --- the start ----------------------------------------------------------------------------- */

static void
serve(void)
{
    char why[512];

    if (!control_listen(socket_path, why, sizeof(why)))
        give_up(why);
    is_serving = true;
    tree_ready();
}

static void
on_services_loaded(void *owner)
{
    struct change **change = owner;

    change_commit(*change);
    json_decref(first_services);
    first_services = NULL;
    serve();
}

static void
on_services_failed(void *owner, struct failure *f)
{
    (void)owner;
    if (!is_stopping)
        give_up(f->message);
    failure_fini(f);
}

/* The control socket comes behind them, so that whoever sees it sees them too. */
static void
start_services(void)
{
    static const struct change_events events = { on_services_loaded, on_services_failed };
    static struct services_counts counts;
    static struct change *change;
    struct failure f;

    change = change_new(&events, &change);
    if (!services_change(change, first_services, config.listeners_max, &counts, &f))
        give_up(f.message);
    change_begin(change);
}

static void
on_boot(void)
{
    if (is_stopping)
        return;
    clients_open();
    connections_open();
    reload_open();
    start_services();
}

static void
on_reload(void)
{
    /* Before that it is reading everything anyway. */
    if (is_serving)
        reload_by_signal();
}

static void
read_arguments(int argc, char **argv)
{
    static const char usage[] = "usage: manager --socket PATH [--config FILE] [--log-level LEVEL] "
                                "[--log-format FORMAT] [--exec-user NAME]...";
    static const struct option options[] = {
        { "socket", required_argument, NULL, 's' },
        { "config", required_argument, NULL, 'c' },
        { "log-level", required_argument, NULL, 'l' },
        { "log-format", required_argument, NULL, 'f' },
        { "check-config", no_argument, NULL, 'k' },
        { "exec-user", required_argument, NULL, 'e' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            socket_path = optarg;
        else if (option == 'c')
            config_path = optarg;
        else if (option == 'l')
            level_name = optarg;
        else if (option == 'f')
            format_name = optarg;
        else if (option == 'k' && optind == 2)
            continue;
        else if (option == 'e')
            deliver_allow_user(optarg);
        else
            give_up(usage);
    }
    if (optind < argc || !socket_path)
        give_up(usage);
}

/* Each connection holds up to three here: mailbox, pidfd, data. */
static void
fit_connections_to_descriptors(struct config *c)
{
    uint32_t room = descriptors_for_others() / 3;

    if (c->connections_max <= room)
        return;
    c->connections_max = room;
    is_limited_by_descriptors = true;
}

const char *
manager_config_path(void)
{
    return config_path != NULL ? config_path : CONFIG_DEFAULT_FILE;
}

bool
manager_read_config(struct config *c, enum log_level *level, json_t **services, char *why,
                    size_t why_size)
{
    config_set_defaults(c);
    *level = LOG_INFO;
    *services = NULL;
    if (!config_read(c, level, services, manager_config_path(), config_path == NULL, why, why_size))
        return false;
    /* The command line is nearer than the file. */
    if (level_name != NULL && !log_level_parse(level_name, level)) {
        snprintf(why, why_size, "--log-level must be one of error, warn, info, debug");
        return false;
    }
    if (format_name != NULL && !log_format_parse(format_name, &c->log_format)) {
        snprintf(why, why_size, "--log-format must be one of text, json");
        return false;
    }
    fit_connections_to_descriptors(c);
    return true;
}

static void
read_config(void)
{
    enum log_level level;
    char why[1024];

    descriptors_open();
    if (!manager_read_config(&config, &level, &first_services, why, sizeof(why)))
        give_up(why);
    log_set_level(level);
    log_set_format(config.log_format);
    if (is_limited_by_descriptors)
        log_info("connections are limited by descriptors connections_max=%u",
                 (unsigned)config.connections_max);
}

/* cordond --check-config: there is no tree, and no mailbox. */
static int
check_config(int argc, char **argv)
{
    enum log_level level;
    json_t *services;
    char why[1024];

    socket_path = "";
    read_arguments(argc, argv);
    descriptors_open();
    if (!description_open(cordon_api_json, cordon_api_json_size, why, sizeof(why)) ||
        !manager_read_config(&config, &level, &services, why, sizeof(why))) {
        fprintf(stderr, "cordond: %s\n", why);
        return EXIT_FAILURE;
    }
    printf("%s: the configuration is right, with %zu services\n", manager_config_path(),
           json_object_size(services));
    json_decref(services);
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    static const struct tree_events events = { .on_boot = on_boot,
                                               .on_terminate = manager_stop,
                                               .on_reload = on_reload };
    char why[512];

    /* Passwords pass through JSON: nothing of it stays in freed memory. */
    json_set_alloc_funcs(malloc, secret_free);
    if (argc > 1 && strcmp(argv[1], "--check-config") == 0)
        return check_config(argc, argv);
    process_begin("manager", true, PROCESS_MAILBOX);
    /* Ctrl-C reaches the whole group; cordond is the one that stops us. */
    (void)signal(SIGINT, SIG_IGN);
    started_ms = clock_now_ms();
    read_arguments(argc, argv);
    if (!description_open(cordon_api_json, cordon_api_json_size, why, sizeof(why)) ||
        !requests_open(why, sizeof(why)))
        give_up(why);
    read_config();
    sandbox_enter_or_end(SANDBOX_MANAGER);
    manager_loop = uv_default_loop();
    tree_open(&events);
    uv_run(manager_loop, UV_RUN_DEFAULT);
    return 0;
}
