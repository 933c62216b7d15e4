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
#include <sys/resource.h>
#include <sys/un.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/process.h"
#include "ipc/secret.h"
#include "manager/config.h"
#include "manager/control.h"
#include "manager/description.h"
#include "manager/manager.h"

enum {
    CLOSE_MS = 5000,            /* connections at a stop: close_notify both ways, then no longer */
    FLUSH_MS = 2000,            /* then the clients: what they have not read by then is lost */
    DESCRIPTORS_RESERVED = 512, /* stocks of pairs and channels, listeners, clients */
};

extern const char cordon_api_json[];
extern const size_t cordon_api_json_size;

uv_loop_t *manager_loop;

static const char *socket_path;
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

/* cordond ends the others; this process goes by itself. */
static void
finish(void)
{
    log_info("stopped");
    tree_finished();
    uv_stop(manager_loop);
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
on_boot(void)
{
    char why[512];

    if (is_stopping)
        return;
    clients_open();
    connections_open();
    if (!control_listen(socket_path, why, sizeof(why)))
        give_up(why);
    is_serving = true;
    tree_ready();
}

static void
read_arguments(int argc, char **argv, const char **config_path, const char **level,
               const char **format)
{
    static const char usage[] = "usage: manager --socket PATH [--config FILE] [--log-level LEVEL] "
                                "[--log-format FORMAT]";
    static const struct option options[] = {
        { "socket", required_argument, NULL, 's' },
        { "config", required_argument, NULL, 'c' },
        { "log-level", required_argument, NULL, 'l' },
        { "log-format", required_argument, NULL, 'f' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            socket_path = optarg;
        else if (option == 'c')
            *config_path = optarg;
        else if (option == 'l')
            *level = optarg;
        else if (option == 'f')
            *format = optarg;
        else
            give_up(usage);
    }
    if (optind < argc || !socket_path)
        give_up(usage);
}

/*
 * Each connection holds up to three descriptors here (mailbox, pidfd, data).  Running out of them
 * would lose messages from cordond, and with them everything; refusing one connection too many
 * does not.
 */
static void
fit_connections_to_descriptors(void)
{
    struct rlimit files;
    rlim_t room = 16;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    if (files.rlim_cur > DESCRIPTORS_RESERVED + 3 * room)
        room = (files.rlim_cur - DESCRIPTORS_RESERVED) / 3;
    if (config.connections_max <= room)
        return;
    log_info("connections are limited by descriptors connections_max=%u rlimit_nofile=%llu",
             (unsigned)room, (unsigned long long)files.rlim_cur);
    config.connections_max = (uint32_t)room;
}

static void
read_config(int argc, char **argv)
{
    const char *path = NULL;
    const char *level_name = NULL, *format_name = NULL;
    enum log_level level = LOG_INFO;
    char why[1024];

    read_arguments(argc, argv, &path, &level_name, &format_name);
    config_set_defaults(&config);
    if (!config_read(&config, &level, path ? path : CONFIG_DEFAULT_FILE, path == NULL, why,
                     sizeof(why)))
        give_up(why);
    /* The command line is nearer than the file. */
    if (level_name && !log_level_parse(level_name, &level))
        give_up("--log-level must be one of error, warn, info, debug");
    if (format_name && !log_format_parse(format_name, &config.log_format))
        give_up("--log-format must be one of text, json");
    log_set_level(level);
    log_set_format(config.log_format);
    fit_connections_to_descriptors();
}

int
main(int argc, char **argv)
{
    char why[512];

    process_begin("manager", true, PROCESS_MAILBOX);
    /* Ctrl-C reaches the whole group; cordond is the one that stops us. */
    (void)signal(SIGINT, SIG_IGN);
    started_ms = clock_now_ms();
    /* Passwords pass through JSON: nothing of it stays in freed memory. */
    json_set_alloc_funcs(malloc, secret_free);
    read_config(argc, argv);
    if (!description_open(cordon_api_json, cordon_api_json_size, why, sizeof(why)) ||
        !requests_open(why, sizeof(why)))
        give_up(why);
    manager_loop = uv_default_loop();
    tree_open(on_boot, manager_stop);
    uv_run(manager_loop, UV_RUN_DEFAULT);
    return 0;
}
