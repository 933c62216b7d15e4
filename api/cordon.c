/*
 * The `cordon` command: the control API for people and scripts.
 *
 * Exit status: 0, 1 failed, 2 usage, 3 no manager, 4 TLS failed.
 */
#include "api/call.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "Usage: cordon call [OPTIONS] METHOD [PARAMETERS]\n"
    "\n"
    "Calls METHOD of the control API; PARAMETERS is a JSON object, - reads it from\n"
    "standard input.  Files named in its options are opened here and sent as\n"
    "descriptors.  When the result holds a handle, stays until Ctrl-C and prints\n"
    "events, one line each.\n"
    "\n"
    "  --socket PATH   the control socket (else $CORDON_SOCKET, then\n"
    "                  $XDG_RUNTIME_DIR/cordon/control.sock when not root, then\n"
    "                  /run/cordon/control.sock)\n"
    "  --fd N          send descriptor N too; the first has fd_index 0; may be repeated\n"
    "  --json          result or error as one line of JSON on standard output\n"
    "  --help          this\n"
    "  --version       the version\n"
    "\n"
    "Exit status: 0; 1 failed; 2 usage; 3 no manager; 4 TLS failed.\n"
    "\n"
    "  cordon call ssl.versions\n"
    "  cordon call ssl.connect '{\"host\": \"example.org\", \"port\": 443}'\n"
    "  cordon call cordon.subscribe '{\"types\": [\"log\"]}'\n";

enum option_number { OPTION_SOCKET = 256, OPTION_FD, OPTION_JSON, OPTION_HELP, OPTION_VERSION };

static const struct option options[] = {
    { "socket", required_argument, NULL, OPTION_SOCKET },
    { "fd", required_argument, NULL, OPTION_FD },
    { "json", no_argument, NULL, OPTION_JSON },
    { "help", no_argument, NULL, OPTION_HELP },
    { "version", no_argument, NULL, OPTION_VERSION },
    { NULL, 0, NULL, 0 },
};

/* What the command line says. */
struct command {
    struct call call;
    bool wants_help;
    bool wants_version;
    char fault[160]; /* empty: none */
};

static void
read_fd(struct command *command, const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);

    if (command->call.fd_count == CALL_FDS_MAX)
        snprintf(command->fault, sizeof(command->fault), "more than %d --fd", CALL_FDS_MAX);
    else if (end == text || *end || fd < 0 || fd > 1 << 20)
        snprintf(command->fault, sizeof(command->fault), "--fd %s is not a descriptor", text);
    else
        command->call.fds[command->call.fd_count++] = (int)fd;
}

static void
read_options(struct command *command, int argc, char **argv)
{
    int option;

    opterr = 0; /* --json wants to know of faults too */
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        switch (option) {
        case OPTION_SOCKET:
            command->call.socket = optarg;
            break;
        case OPTION_FD:
            read_fd(command, optarg);
            break;
        case OPTION_JSON:
            command->call.is_json = true;
            break;
        case OPTION_HELP:
            command->wants_help = true;
            break;
        case OPTION_VERSION:
            command->wants_version = true;
            break;
        default:
            snprintf(command->fault, sizeof(command->fault), "%s %s", argv[optind - 1],
                     option == ':' ? "needs a value" : "is no option here");
            break;
        }
    }
}

static void
read_arguments(struct command *command, int count, char **arguments)
{
    const char *fault = NULL;

    if (count == 0)
        fault = "say which command: call";
    else if (strcmp(arguments[0], "call") != 0)
        fault = "there is no such command; there is: call";
    else if (count == 1)
        fault = "say which method; cordon call cordon.describe lists them";
    else if (count > 3)
        fault = "there are too many arguments; put the parameters in quotes";
    if (fault) {
        snprintf(command->fault, sizeof(command->fault), "%s", fault);
        return;
    }
    command->call.method = arguments[1];
    command->call.params = count == 3 ? arguments[2] : NULL;
}

int
main(int argc, char **argv)
{
    struct command command = { .fault = "" };

    read_options(&command, argc, argv);
    if (command.wants_help) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    if (command.wants_version) {
        puts("cordon " CORDON_VERSION);
        return EXIT_OK;
    }
    if (!*command.fault)
        read_arguments(&command, argc - optind, argv + optind);
    if (*command.fault) {
        call_fail(command.call.is_json, EXIT_USAGE, "usage", command.fault);
        if (!command.call.is_json)
            fputs("Try cordon --help.\n", stderr);
        return EXIT_USAGE;
    }
    return (int)call_run(&command.call);
}
