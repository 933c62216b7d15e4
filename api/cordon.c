/*
 * The `cordon` command: the control API for people and scripts.
 *
 * Exit status: 0, 1 failed, 2 usage, 3 no manager, 4 TLS failed.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/command.h"
#include "api/output.h"

enum { OPTION_FIRST = 256, NAMES_MAX = 64 };

static const struct option_row version_option = { "version", NULL, "the version", NULL, false };

/* What getopt_long makes of the options' tables. */
struct option_list {
    struct option options[OPTIONS_MAX];
    const struct option_row *rows[OPTIONS_MAX];
    int count;
};

struct command_line {
    struct arguments arguments;
    bool wants_help, wants_version;
    char fault[200]; /* empty: none; the first one counts */
};

static void
set_fault(struct command_line *line, const char *text, const char *name, const char *closest)
{
    if (*line->fault)
        return;
    snprintf(line->fault, sizeof(line->fault), "%s %.40s%s%s%s", text, name,
             closest ? ": did you mean " : "", closest ? closest : "", closest ? "?" : "");
}

static void
add_row(struct option_list *list, const struct option_row *row)
{
    list->rows[list->count] = row;
    list->options[list->count] = (struct option){ row->name,
                                                  row->value ? required_argument : no_argument,
                                                  NULL, OPTION_FIRST + list->count };
    list->count++;
}

static void
add_rows(struct option_list *list, const struct option_row *rows)
{
    for (; rows && rows->name; rows++)
        add_row(list, rows);
}

/* --- Options -------------------------------------------------------------------------------- */

static void
take_option(struct command_line *line, const struct option_row *row, const char *value)
{
    struct arguments *a = &line->arguments;

    if (strcmp(row->name, "json") == 0)
        a->is_json = true;
    else if (strcmp(row->name, "help") == 0)
        line->wants_help = true;
    else if (row == &version_option)
        line->wants_version = true;
    else if (strcmp(row->name, "socket") == 0)
        a->socket = value;
    else if (a->given_count == GIVEN_MAX)
        set_fault(line, "too many options, at", row->name, NULL);
    else
        a->given[a->given_count++] = (struct given){ row, value };
}

static void
refuse_option(struct command_line *line, const struct option_list *list, const char *written)
{
    const char *names[OPTIONS_MAX];
    char name[64], closest[64];
    const char *found;

    for (int i = 0; i < list->count; i++)
        names[i] = list->rows[i]->name;
    snprintf(name, sizeof(name), "%s", written + strspn(written, "-"));
    name[strcspn(name, "=")] = '\0';
    found = closest_name(name, names, (size_t)list->count);
    snprintf(closest, sizeof(closest), "--%s", found ? found : "");
    set_fault(line, "there is no option", written, found ? closest : NULL);
}

/* Reads options up to the first word, or among words; the words are at optind. */
static void
read_options(struct command_line *line, const struct option_list *list, bool stop_at_words,
             int argc, char **argv)
{
    int option;

    opterr = 0; /* --json wants to know of faults too */
    optind = 0;
    while ((option = getopt_long(argc, argv, stop_at_words ? "+:" : ":", list->options, NULL)) !=
           -1) {
        if (option == ':') {
            set_fault(line, argv[optind - 1], "needs a value", NULL);
        } else if (option < OPTION_FIRST) {
            refuse_option(line, list, argv[optind - 1]);
        } else {
            const struct option_row *row = list->rows[option - OPTION_FIRST];

            take_option(line, row, optarg);
            if (row->takes_rest)
                return;
        }
    }
}

/* --- Commands ------------------------------------------------------------------------------- */

static const char *
closest_command(const char *written)
{
    const char *names[NAMES_MAX];
    size_t count = 0;

    for (; commands[count] && count < NAMES_MAX; count++)
        names[count] = commands[count]->name;
    return closest_name(written, names, count);
}

static void
check_words(struct command_line *line)
{
    const struct arguments *a = &line->arguments;
    bool takes_rest = a->given_count > 0 && a->given[a->given_count - 1].row->takes_rest;

    if (a->word_count < a->command->arguments_min)
        set_fault(line, "say which:", a->command->arguments, NULL);
    else if (a->word_count > a->command->arguments_max && !takes_rest)
        set_fault(line, "there are too many arguments, at", a->words[a->command->arguments_max],
                  NULL);
}

static void
read_command(struct command_line *line, int argc, char **argv)
{
    struct option_list list = { .count = 0 };
    struct arguments *a = &line->arguments;

    add_rows(&list, a->command->options);
    add_rows(&list, common_options);
    read_options(line, &list, false, argc, argv);
    a->words = argv + optind;
    a->word_count = (size_t)(argc - optind);
}

static void
read_command_line(struct command_line *line, int argc, char **argv)
{
    struct option_list list = { .count = 0 };

    add_rows(&list, common_options);
    add_row(&list, &version_option);
    read_options(line, &list, true, argc, argv);
    argc -= optind;
    argv += optind;
    if (argc > 0 && strcmp(argv[0], "help") == 0) { /* cordon help list: cordon list --help */
        line->wants_help = true;
        argc--;
        argv++;
    }
    if (argc == 0)
        return;
    line->arguments.command = command_find(argv[0]);
    if (line->arguments.command) {
        read_command(line, argc, argv);
        return;
    }
    set_fault(line, "there is no command", argv[0], closest_command(argv[0]));
    read_options(line, &list, false, argc, argv); /* for --json */
}

/* --- What it is ----------------------------------------------------------------------------- */

static void
print_overview(void)
{
    puts("Usage: cordon COMMAND [OPTION]...\n"
         "\n"
         "Speaks with Cordon, the TLS connection manager.\n");
    for (size_t i = 0; commands[i]; i++)
        printf("  %-12s%s\n", commands[i]->name, commands[i]->summary);
    puts("\n"
         "cordon help COMMAND says more. Each command has --json, --socket PATH and --help.\n"
         "Exit status: 0; 1 failed; 2 usage; 3 no manager; 4 TLS failed.");
}

static enum exit_status
run(struct command_line *line)
{
    const struct arguments *a = &line->arguments;

    if (!*line->fault && line->wants_version) {
        puts("cordon " CORDON_VERSION);
        return EXIT_OK;
    }
    if (!*line->fault && line->wants_help) {
        if (a->command)
            command_print_help(a->command);
        else
            print_overview();
        return EXIT_OK;
    }
    if (!a->command)
        set_fault(line, "say which", "command", NULL);
    else
        check_words(line);
    if (!*line->fault)
        return a->command->run(a);
    output_fail(a, EXIT_USAGE, "usage", "%s", line->fault);
    if (!a->is_json)
        fprintf(stderr, "Try cordon help%s%s.\n", a->command ? " " : "",
                a->command ? a->command->name : "");
    return EXIT_USAGE;
}

/* 0 to 2 are open, whoever started us. */
static void
open_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

int
main(int argc, char **argv)
{
    struct command_line line = { .fault = "" };
    enum exit_status status;

    open_standard_descriptors();
    read_command_line(&line, argc, argv);
    status = run(&line);
    if (fflush(stdout) != 0 && status == EXIT_OK) {
        perror("cordon: standard output");
        status = EXIT_FAILED;
    }
    return (int)status;
}
