/*
 * `cordon serve`: a service from the command line, with a cordond of its own, in the foreground.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/ask.h"
#include "api/files.h"
#include "api/output.h"
#include "api/own_tree.h"
#include "api/signals.h"
#include "api/tls_options.h"
#include "ipc/clock.h"

#define SERVICE_NAME "serve"

enum { HOST_SIZE = 256, DRAIN_S = 10 };

/* Of what is asked while it serves: the answers come in any order. */
enum { ID_ADD = 1, ID_REMOVE, ID_STATUS };

/* clang-format off */
static const struct option_row options[] = {
    { "listen", "ADDRESS:PORT", "where: 127.0.0.1:8443, [::1]:8443, :8443 (every address);\n"
                                "port 0: the kernel chooses", NULL, false },
    { "connect", "BACKEND", "carry plaintext to HOST:PORT or the path of a Unix socket",
      COMPLETE_FILE, false },
    { "exec", "PROGRAM ARGS...", "start a program for each connection, plaintext on its standard\n"
                                 "input and output; takes all that stands behind it",
      COMPLETE_FILE, true },
    { "echo", NULL, "send it back", NULL, false },
    { "client", "HOST:PORT", "accept plain connections and carry each over TLS to this server;\n"
                             "TLS options are then those of a client", NULL, false },
    { "proxy-protocol", NULL, "with --connect: say first, as PROXY protocol version 2, who the\n"
                              "peer is", NULL, false },
    { "accept-proxy", "LIST", "each connection begins with a PROXY header that says who the peer is;\n"
                              "only these may call: 10.0.0.0/8,127.0.0.1", NULL, false },
    { "user", "NAME", "with --exec, as root: whom the program runs as", NULL, false },
    { "verify", NULL, "ask for a client certificate; one that comes must be valid", NULL, false },
    { "require-certificate", NULL, "--verify, and one must come", NULL, false },
    { "servername", "NAME", "with --client: the name to ask for, and that the certificate must\n"
                            "be for (else HOST)", NULL, false },
    { "insecure", NULL, "with --client: do not verify the server's certificate", NULL, false },
    { "alpn", "LIST", "application protocols, as h2,http/1.1, the preferred one first",
      "h2 http/1.1", false },
    TLS_OPTION_ROWS,
    { "drain-timeout", "SECONDS", "how long connections may go on after Ctrl-C (10)", NULL, false },
    { "config", "FILE", "cordond's configuration (else none)", COMPLETE_FILE, false },
    { "log-level", "LEVEL", "error, warn (default), info or debug; the log goes to standard error",
      "error warn info debug", false },
    { NULL, NULL, NULL, NULL, false },
};

static const struct tls_option server_options[] = {
    { "alpn", "alpn_preferred_protocols", true },
    { NULL, NULL, false },
};

static const struct tls_option client_options[] = {
    { "alpn", "alpn_advertised_protocols", true },
    { "servername", "server_name_indication", false },
    { "servername", "verify_hostname", false },
    { NULL, NULL, false },
};

static const char *const deliveries[] = { "connect", "exec", "echo", "client" };
/* clang-format on */

struct serve {
    const struct arguments *a;
    char host[HOST_SIZE]; /* to listen on; "": every address */
    int port;
    long drain_s;
    struct own_tree *tree;   /* owned */
    struct control *control; /* owned */
    int signals;             /* owned */
    bool has_manager;        /* the control socket is open */
    bool is_draining;
    bool is_reloading;   /* a cordon.service_add is on its way */
    bool reloads_again;  /* SIGHUP came meanwhile */
    bool is_removing;    /* a cordon.service_remove is on its way */
    bool is_asked;       /* a cordon.status is on its way */
    bool has_news;       /* one has ended since */
    int64_t deadline_ms; /* of the draining; -1 */
    unsigned stops;      /* signals that asked for the end */
};

/* --- What is served ------------------------------------------------------------------------- */

static const char *
chosen_delivery(const struct arguments *a)
{
    const char *chosen = NULL;

    for (size_t i = 0; i < sizeof(deliveries) / sizeof(deliveries[0]); i++) {
        if (!arguments_have(a, deliveries[i]))
            continue;
        if (chosen)
            return NULL;
        chosen = deliveries[i];
    }
    return chosen;
}

static enum exit_status
read_arguments(struct serve *s)
{
    const struct arguments *a = s->a;
    const char *where = arguments_value(a, "listen");

    if (!where || !parse_host_port(where, s->host, sizeof(s->host), &s->port))
        return output_fail(a, EXIT_USAGE, "usage",
                           "say where with --listen ADDRESS:PORT, as 127.0.0.1:8443 or :8443");
    if (!chosen_delivery(a))
        return output_fail(a, EXIT_USAGE, "usage",
                           "say one of --connect, --exec, --echo and --client");
    if (!arguments_number(a, "drain-timeout", 0, INT_MAX / 1000, &s->drain_s))
        return EXIT_USAGE;
    return EXIT_OK;
}

/* The program and its arguments, which are all that stood behind --exec. */
static json_t *
exec_json(const struct arguments *a)
{
    json_t *json = json_pack("[s]", arguments_value(a, "exec"));

    for (size_t i = 0; json && i < a->word_count; i++)
        json_array_append_new(json, json_string(a->words[i]));
    return json;
}

/* Takes tls, the options of a client. */
static json_t *
client_json(const struct arguments *a, json_t *tls)
{
    char host[HOST_SIZE];
    int port;

    if (!parse_host_port(arguments_value(a, "client"), host, sizeof(host), &port)) {
        json_decref(tls);
        return NULL;
    }
    return json_pack("{s:s, s:i, s:o}", "host", host, "port", port, "options", tls);
}

/* Takes tls, which goes into it when the TLS is towards a server.  NULL: the value is wrong. */
static json_t *
deliver_json(const struct arguments *a, json_t *tls)
{
    const char *kind = chosen_delivery(a);
    json_t *json = json_object();
    json_t *value;

    if (strcmp(kind, "exec") == 0)
        value = exec_json(a);
    else if (strcmp(kind, "echo") == 0)
        value = json_true();
    else if (strcmp(kind, "client") == 0)
        value = client_json(a, json_incref(tls));
    else
        value = json_string(arguments_value(a, kind));
    json_decref(tls);
    if (json_object_set_new(json, kind, value) != 0) {
        json_decref(json);
        return NULL;
    }
    if (arguments_have(a, "proxy-protocol"))
        json_object_set_new(json, "proxy_protocol", json_integer(2));
    if (arguments_have(a, "user"))
        json_object_set_new(json, "user", json_string(arguments_value(a, "user")));
    return json;
}

static void
add_flags(const struct arguments *a, json_t *tls)
{
    if (arguments_have(a, "verify") || arguments_have(a, "require-certificate"))
        json_object_set_new(tls, "verify", json_string("verify_peer"));
    if (arguments_have(a, "require-certificate"))
        json_object_set_new(tls, "fail_if_no_peer_cert", json_true());
    if (arguments_have(a, "insecure"))
        json_object_set_new(tls, "verify", json_string("verify_none"));
}

/* Opens the files, each time again.  Gives *params of cordon.service_add. */
static enum exit_status
make_params(const struct serve *s, struct files *files, json_t **params)
{
    const struct arguments *a = s->a;
    bool is_client = arguments_have(a, "client");
    json_t *tls = tls_options_json(a, is_client ? client_options : server_options);
    json_t *listener_options, *deliver, *json;
    enum exit_status status;

    if (!tls)
        return output_fail(a, EXIT_USAGE, "usage", "an option is no UTF-8");
    add_flags(a, tls);
    status = files_open(files, a, tls);
    if (status != EXIT_OK) {
        json_decref(tls);
        return status;
    }
    listener_options = is_client ? json_object() : json_incref(tls);
    if (arguments_have(a, "accept-proxy")) {
        json_object_set_new(listener_options, "accept_proxy", json_true());
        json_object_set_new(listener_options, "trusted_proxies",
                            list_json(arguments_value(a, "accept-proxy")));
    }
    deliver = deliver_json(a, tls);
    json = json_pack("{s:s, s:{s:s*, s:i}, s:o, s:o, s:b}", "name", SERVICE_NAME, "listen",
                     "address", *s->host ? s->host : NULL, "port", s->port, "options",
                     listener_options, "deliver", deliver, "replace", 1);
    if (!json)
        return output_fail(a, EXIT_USAGE, "usage", "--%s is wrong", chosen_delivery(a));
    *params = json;
    return EXIT_OK;
}

/* Makes the service, or makes it anew from its files.  Gives *result; NULL: nothing waits for it. */
static enum exit_status
add_service(struct serve *s, json_t **result)
{
    static const char method[] = "cordon.service_add";
    struct files files = { .count = 0 };
    enum exit_status status;
    json_t *params = NULL;

    status = make_params(s, &files, &params);
    if (status == EXIT_OK && result)
        status = ask(s->a, s->control, method, params, files.fds, files.count, result);
    else if (status == EXIT_OK)
        status = ask_send(s->a, s->control, ID_ADD, method, params, files.fds, files.count);
    files_close(&files);
    return status;
}

/* "listening 127.0.0.1:41234 control /path": programs read this line. */
static void
announce(const struct serve *s, const json_t *result)
{
    const char *address = json_string_value(json_object_get(result, "address"));
    const char *control = own_tree_socket(s->tree);
    char text[OUTPUT_TEXT];

    if (s->a->is_json) {
        output_json(stdout,
                    json_pack("{s:{s:s?, s:O?}, s:s}", "listening", "address", address, "port",
                              json_object_get(result, "port"), "control", control),
                    true);
        return;
    }
    printf("listening %s control ", output_value(text, result));
    output_text(stdout, control);
    putchar('\n');
    fflush(stdout);
}

/* --- The tree ------------------------------------------------------------------------------- */

/* Where the control socket is to be: named, else the usual place when nobody is there, else ours. */
static enum exit_status
start_tree(struct serve *s)
{
    const struct arguments *a = s->a;
    const char *level = arguments_value(a, "log-level");
    struct own_tree_setup setup = {
        .socket = a->socket,
        .config = arguments_value(a, "config"),
        .log_level = level ? level : "warn",
        .exec_user = arguments_value(a, "user"),
        .interrupt = s->signals,
    };
    char usual[PATH_MAX], why[256];

    if (!setup.socket && control_usual_place(usual, sizeof(usual)) && !control_is_there(usual)) {
        setup.socket = usual;
        setup.is_usual_place = true;
    }
    enum exit_status status = own_tree_start(a, &setup, &s->tree);

    if (status != EXIT_OK)
        return status;
    s->control = control_open(own_tree_socket(s->tree), why, sizeof(why));
    if (!s->control)
        return output_fail(a, EXIT_FAILED, "no_manager", "%s", why);
    control_set_interrupt(s->control, s->signals);
    s->has_manager = true;
    return EXIT_OK;
}

/* --- The end -------------------------------------------------------------------------------- */

static void
ask_how_many(struct serve *s)
{
    if (s->is_removing || s->is_asked || !s->has_manager)
        return;
    s->has_news = false;
    s->is_asked = ask_send(s->a, s->control, ID_STATUS, "cordon.status", NULL, NULL, 0) == EXIT_OK;
}

static void
stop_tree(struct serve *s)
{
    s->is_draining = false;
    s->deadline_ms = -1;
    own_tree_stop(s->tree);
}

/*
 * No new connections; those there are may come to their end.  Nothing waits here for the answer: a
 * second signal is to be heard.
 */
static void
begin_draining(struct serve *s)
{
    s->is_removing = s->has_manager &&
                     ask_send(s->a, s->control, ID_REMOVE, "cordon.service_remove",
                              json_pack("{s:s}", "name", SERVICE_NAME), NULL, 0) == EXIT_OK;
    if (!s->is_removing) {
        stop_tree(s);
        return;
    }
    s->is_draining = true;
    s->deadline_ms = clock_now_ms() + s->drain_s * 1000;
}

static void
on_stop_signal(struct serve *s)
{
    s->stops++;
    if (s->stops == 1)
        begin_draining(s);
    else
        stop_tree(s);
}

/* What was served goes on when the new files are no good.  Nothing waits here either. */
static void
on_reload_signal(struct serve *s)
{
    if (s->stops > 0 || !s->has_manager)
        return;
    s->reloads_again = s->is_reloading;
    if (!s->is_reloading)
        s->is_reloading = add_service(s, NULL) == EXIT_OK;
}

static void
on_reloaded(struct serve *s, json_t *answer)
{
    json_t *error = json_object_get(answer, "error");

    s->is_reloading = false;
    if (error)
        (void)output_error(s->a, NULL, json_incref(error));
    if (s->reloads_again)
        on_reload_signal(s);
}

static void
on_signals(struct serve *s)
{
    int number, code;

    while ((number = signals_read(s->signals, &code)) != 0) {
        /* From the kernel SIGHUP says that the terminal is gone. */
        if (number == SIGHUP && code != SI_KERNEL)
            on_reload_signal(s);
        else
            on_stop_signal(s);
    }
}

/* Of a status: how many connections have not come to their end; -1: it is none. */
static json_int_t
connections_left(const json_t *status)
{
    const json_t *connections = json_object_get(status, "connections");
    const json_t *leaving = json_object_get(status, "leaving");

    if (!json_is_integer(connections))
        return -1;
    return json_integer_value(connections) - json_integer_value(leaving);
}

/* Takes message: an event, which tells of an end, or an answer. */
static void
on_message(struct serve *s, json_t *message)
{
    json_int_t id = json_integer_value(json_object_get(message, "id"));
    json_int_t left = -1;

    if (json_object_get(message, "method")) {
        s->has_news = true;
    } else if (id == ID_ADD) {
        on_reloaded(s, message);
    } else if (id == ID_REMOVE) {
        s->is_removing = false;
        s->has_news = true;
    } else if (id == ID_STATUS) {
        s->is_asked = false;
        left = connections_left(json_object_get(message, "result"));
    }
    json_decref(message);
    if (s->is_draining && left == 0)
        stop_tree(s);
    else if (s->is_draining && s->has_news)
        ask_how_many(s);
}

static void
on_control(struct serve *s)
{
    json_t *message;

    while (s->has_manager) {
        enum result result = control_receive(s->control, &message);

        if (result == RESULT_WOULD_BLOCK)
            return;
        if (result == RESULT_OK)
            on_message(s, message);
        else
            s->has_manager = false; /* what became of it, cordond's end says */
    }
}

/* Until cordond has ended. */
static enum exit_status
watch(struct serve *s)
{
    struct pollfd polls[] = { { .fd = s->signals, .events = POLLIN },
                              { .fd = own_tree_pidfd(s->tree), .events = POLLIN },
                              { .fd = -1, .events = POLLIN } };

    for (;;) {
        on_control(s);
        polls[2].fd = s->has_manager ? control_fd(s->control) : -1;
        if (poll(polls, 3, clock_poll_timeout(s->deadline_ms)) < 0 && errno != EINTR)
            return output_fail(s->a, EXIT_FAILED, "internal", "%s", strerror(errno));
        if (polls[1].revents)
            return EXIT_OK;
        if (polls[0].revents)
            on_signals(s);
        if (s->is_draining && clock_now_ms() >= s->deadline_ms)
            stop_tree(s);
    }
}

/* status: of waitpid. */
static enum exit_status
judge_end(struct serve *s, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return EXIT_OK; /* asked for by us, or by somebody with cordon stop */
    if (WIFSIGNALED(status))
        return output_fail(s->a, EXIT_FAILED, "worker_died", "cordond was ended by SIG%s",
                           sigabbrev_np(WTERMSIG(status)));
    return output_fail(s->a, EXIT_FAILED, "worker_died",
                       "cordond ended with status %d; its log says why", WEXITSTATUS(status));
}

/* --- The command ---------------------------------------------------------------------------- */

static enum exit_status
subscribe(struct serve *s)
{
    json_t *params = json_pack("{s:[s, s]}", "types", "connection_closed", "connection_failed");
    json_t *result;
    enum exit_status status = ask(s->a, s->control, "cordon.subscribe", params, NULL, 0, &result);

    if (status == EXIT_OK)
        json_decref(result);
    return status;
}

static enum exit_status
run(struct serve *s)
{
    enum exit_status status = start_tree(s);
    json_t *result;

    if (status == EXIT_OK)
        status = subscribe(s);
    if (status != EXIT_OK)
        return status;
    status = add_service(s, &result);
    if (status != EXIT_OK)
        return status;
    announce(s, result);
    json_decref(result);
    status = watch(s);
    if (status == EXIT_OK) {
        status = judge_end(s, own_tree_end(s->tree));
        s->tree = NULL;
    }
    return status;
}

static enum exit_status
serve(const struct arguments *a)
{
    static const int more[] = { SIGHUP, 0 };
    struct serve s = { .a = a, .drain_s = DRAIN_S, .deadline_ms = -1 };
    enum exit_status status = read_arguments(&s);

    if (status != EXIT_OK)
        return status;
    s.signals = signals_open(more);
    if (s.signals < 0)
        return output_fail(a, EXIT_FAILED, "internal", "%s", strerror(errno));
    status = run(&s);
    control_free(s.control);
    own_tree_end(s.tree);
    close(s.signals);
    return status;
}

const struct command command_serve = {
    .name = "serve",
    .arguments = "",
    .summary = "Runs a TLS service in the foreground, with a manager of its own",
    .doc =
        "Its first line says where it listens and where its control socket is: --socket, else the\n"
        "usual place if that is free, else one of its own. After SIGTERM or Ctrl-C connections may\n"
        "come to their end, a second one closes them, a third kills what is left. SIGHUP reads\n"
        "its files again.\n"
        "\n"
        "  cordon serve --listen :8443 --certfile web.pem --connect 127.0.0.1:8080",
    .options = options,
    .run = serve,
};
