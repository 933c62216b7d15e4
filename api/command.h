/*
 * What the commands have in common.
 *
 * A command is one constant, in a file of its own; `commands` lists them.  Dispatch, help and
 * completion of the shells all come from these, so what a command takes is written down once.
 */
#ifndef API_COMMAND_H
#define API_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

enum exit_status {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_MANAGER = 3,
    EXIT_TLS = 4
};

enum { OPTIONS_MAX = 40, GIVEN_MAX = 128 };

/*
 * What a shell may offer for a value: words separated by spaces, or one of these.
 */
#define COMPLETE_FILE       "@file"
#define COMPLETE_CONNECTION "@connection" /* handles, asked of the manager */
#define COMPLETE_METHOD     "@method"
#define COMPLETE_COMMAND    "@command"

struct option_row {
    const char *name;
    const char *value;     /* what it is called in the help; NULL: the option has none */
    const char *doc;       /* lines of the help */
    const char *completes; /* NULL: nothing can be offered */
    bool takes_rest;       /* everything behind it belongs to it */
};

struct arguments;

struct command {
    const char *name;
    const char *arguments; /* as the help shows them; "": none */
    const char *summary;   /* one line */
    const char *doc;       /* lines of the help; "" */
    const char *completes; /* its arguments; NULL */
    size_t arguments_min, arguments_max;
    bool has_data; /* standard output is for data: what the command itself says goes to stderr */
    const struct option_row *options; /* its own, ended by one without name; NULL */
    enum exit_status (*run)(const struct arguments *a);
};

/* What the command line says.  Everything is borrowed from argv. */
struct arguments {
    const struct command *command; /* NULL: none is named */
    bool is_json;                  /* results and errors as JSON on standard output */
    const char *socket;            /* NULL: the usual places */
    char **words;                  /* the arguments; with takes_rest, what stands behind */
    size_t word_count;
    struct given {
        const struct option_row *row;
        const char *value; /* NULL: it has none */
    } given[GIVEN_MAX];    /* the command's own options, in the order they came */
    size_t given_count;
};

/* The value given last.  NULL: not given.  The command must have such an option. */
const char *arguments_value(const struct arguments *a, const char *option);
bool arguments_have(const struct arguments *a, const char *option);

/*
 * A number from min to max; *number stays when the option is not given.  false: it is wrong, and
 * the user has been told.
 */
bool arguments_number(const struct arguments *a, const char *option, long min, long max,
                      long *number);

/* The options that every command has, ended by one without name. */
extern const struct option_row common_options[];

/* Ended by NULL. */
extern const struct command *const commands[];
const struct command *command_find(const char *name);

/* The whole of `cordon help NAME`. */
void command_print_help(const struct command *command);

/* The one of count names that somebody who wrote `written` most likely meant.  NULL: none is close. */
const char *closest_name(const char *written, const char *const *names, size_t count);

#endif
