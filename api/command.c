#include "api/command.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/output.h"

extern const struct command command_call, command_completion, command_connect, command_doctor,
    command_events, command_info, command_kill, command_list, command_reload, command_serve,
    command_stop;

/* In the order of the help. */
/* clang-format off */
const struct command *const commands[] = {
    &command_serve,
    &command_connect,
    &command_list,
    &command_info,
    &command_events,
    &command_call,
    &command_kill,
    &command_reload,
    &command_stop,
    &command_doctor,
    &command_completion,
    NULL,
};
/* clang-format on */

const struct option_row common_options[] = {
    { "socket", "PATH",
      "the control socket (else $CORDON_SOCKET, then\n"
      "$XDG_RUNTIME_DIR/cordon/control.sock when not root,\n"
      "then /run/cordon/control.sock)",
      COMPLETE_FILE, false },
    { "json", NULL, "results and errors as JSON on standard output", NULL, false },
    { "help", NULL, "this", NULL, false },
    { NULL, NULL, NULL, NULL, false },
};

const struct command *
command_find(const char *name)
{
    for (size_t i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

/* --- What was given ------------------------------------------------------------------------- */

static const struct given *
find_given(const struct arguments *a, const char *option)
{
    const struct option_row *row = a->command->options;

    while (row && row->name && strcmp(row->name, option) != 0)
        row++;
    assert(row && row->name);
    for (size_t i = a->given_count; i-- > 0;) {
        if (a->given[i].row == row)
            return &a->given[i];
    }
    return NULL;
}

const char *
arguments_value(const struct arguments *a, const char *option)
{
    const struct given *given = find_given(a, option);

    return given ? given->value : NULL;
}

bool
arguments_have(const struct arguments *a, const char *option)
{
    return find_given(a, option) != NULL;
}

bool
arguments_number(const struct arguments *a, const char *option, long min, long max, long *number)
{
    const char *text = arguments_value(a, option);
    long value;
    char *end;

    if (!text)
        return true;
    value = strtol(text, &end, 10);
    if (end == text || *end || value < min || value > max) {
        output_fail(a, EXIT_USAGE, "usage", "--%s %s: it must be a number from %ld to %ld", option,
                    text, min, max);
        return false;
    }
    *number = value;
    return true;
}

/* --- Help ----------------------------------------------------------------------------------- */

enum { HELP_COLUMN = 24 };

static void
print_option(const struct option_row *row)
{
    const char *line = row->doc;
    int width =
        printf("  --%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");

    if (width > HELP_COLUMN - 2)
        printf("\n%*s", HELP_COLUMN, "");
    else
        printf("%*s", HELP_COLUMN - width, "");
    for (;;) {
        size_t size = strcspn(line, "\n");

        printf("%.*s\n", (int)size, line);
        line += size;
        if (*line++ == '\0')
            return;
        printf("%*s", HELP_COLUMN, "");
    }
}

void
command_print_help(const struct command *command)
{
    printf("Usage: cordon %s [OPTION]...%s%s\n\n%s.\n", command->name,
           *command->arguments ? " " : "", command->arguments, command->summary);
    if (*command->doc)
        printf("%s\n", command->doc);
    putchar('\n');
    for (const struct option_row *row = command->options; row && row->name; row++)
        print_option(row);
    for (const struct option_row *row = common_options; row->name; row++)
        print_option(row);
    puts("\nExit status: 0; 1 failed; 2 usage; 3 no manager; 4 TLS failed.");
}

/* --- Did you mean --------------------------------------------------------------------------- */

enum { NAME_MAX_COMPARED = 32 };

static size_t
smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

/* How many letters must be added, taken away or changed (Levenshtein). */
static size_t
distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_COMPARED + 1];
    size_t b_size = strlen(b);

    if (strlen(a) > NAME_MAX_COMPARED || b_size > NAME_MAX_COMPARED)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < b_size; j++) {
            size_t above = row[j + 1];

            row[j + 1] = smallest(above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
            diagonal = above;
        }
    }
    return row[b_size];
}

const char *
closest_name(const char *written, const char *const *names, size_t count)
{
    size_t least = strlen(written) < 4 ? 2 : 3; /* so many are too many */
    const char *closest = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t letters = distance(written, names[i]);

        if (letters < least) {
            least = letters;
            closest = names[i];
        }
    }
    return closest;
}
