/*
 * `cordon completion`: what bash and zsh may offer, from the tables of options and the description
 * of the control API.
 */
#include <stdio.h>
#include <string.h>

#include "api/command.h"
#include "api/description.h"
#include "api/output.h"

/* "help" is no command of the table, but may stand where one does. */
static const char help[] = "help";

static void
print_methods(const char *separator)
{
    const char *name;
    json_t *method, *alias;
    size_t i;

    json_object_foreach (json_object_get(description(), "methods"), name, method) {
        printf("%s%s", name, separator);
        json_array_foreach (json_object_get(method, "alias"), i, alias)
            printf("%s%s", json_string_value(alias), separator);
    }
}

static void
print_commands(void)
{
    for (size_t i = 0; commands[i]; i++)
        printf("%s ", commands[i]->name);
    fputs(help, stdout);
}

/* --- bash ----------------------------------------------------------------------------------- */

static const char bash_head[] =
    "# bash completion for cordon, made by `cordon completion bash`; do not edit.\n"
    "\n"
    "_cordon_offer() # KIND: what may stand here\n"
    "{\n"
    "    case $1 in\n"
    "    " COMPLETE_FILE ")\n"
    "        type compopt >/dev/null 2>&1 && compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
    "        ;;\n"
    "    " COMPLETE_CONNECTION ")\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$(\"${COMP_WORDS[0]}\" list --quiet \\\n"
    "            ${socket:+--socket \"$socket\"} 2>/dev/null)\" -- \"$cur\")\n"
    "        ;;\n"
    "    " COMPLETE_METHOD ")\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$methods\" -- \"$cur\")\n"
    "        ;;\n"
    "    " COMPLETE_COMMAND ")\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$commands\" -- \"$cur\")\n"
    "        ;;\n"
    "    *)\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "_cordon_value() # COMMAND OPTION: sets kind to what its value may be; false: it has none\n"
    "{\n"
    "    case $1:$2 in\n";

static const char bash_middle[] =
    "    *) return 1 ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "_cordon()\n"
    "{\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} command= socket= options= arguments= kind= i\n";

static const char bash_walk[] = "    COMPREPLY=()\n"
                                "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                                "        if [[ ${COMP_WORDS[i]} == --socket ]]; then\n"
                                "            socket=${COMP_WORDS[i + 1]}\n"
                                "        fi\n"
                                "        if _cordon_value \"$command\" \"${COMP_WORDS[i]}\"; then\n"
                                "            ((++i))\n"
                                "        elif [[ ${COMP_WORDS[i]} != -* && -z $command ]]; then\n"
                                "            command=${COMP_WORDS[i]}\n"
                                "        fi\n"
                                "    done\n"
                                "    case $command in\n";

static const char bash_tail[] =
    "    esac\n"
    "    if ((COMP_CWORD > 1)) && _cordon_value \"$command\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; then\n"
    "        _cordon_offer \"$kind\"\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        _cordon_offer \"$options\"\n"
    "    else\n"
    "        _cordon_offer \"$arguments\"\n"
    "    fi\n"
    "}\n"
    "\n"
    "complete -F _cordon cordon\n";

static void
print_bash_values(const char *command, const struct option_row *rows)
{
    for (; rows && rows->name; rows++) {
        if (rows->value)
            printf("    %s:--%s) kind='%s' ;;\n", command, rows->name,
                   rows->completes ? rows->completes : "");
    }
}

static void
print_option_names(const struct option_row *rows)
{
    for (; rows && rows->name; rows++)
        printf("--%s ", rows->name);
}

static void
print_bash_command(const char *pattern, const struct option_row *rows, const char *arguments)
{
    printf("    %s)\n        options='", pattern);
    print_option_names(rows);
    print_option_names(common_options);
    printf("'\n        arguments='%s'\n        ;;\n", arguments ? arguments : "");
}

static void
print_bash(void)
{
    fputs(bash_head, stdout);
    for (size_t i = 0; commands[i]; i++)
        print_bash_values(commands[i]->name, commands[i]->options);
    print_bash_values("*", common_options);
    fputs(bash_middle, stdout);
    fputs("    local commands='", stdout);
    print_commands();
    fputs("'\n    local methods='", stdout);
    print_methods(" ");
    puts("'");
    fputs(bash_walk, stdout);
    for (size_t i = 0; commands[i]; i++)
        print_bash_command(commands[i]->name, commands[i]->options, commands[i]->completes);
    print_bash_command("*", NULL, COMPLETE_COMMAND);
    fputs(bash_tail, stdout);
}

/* --- zsh ------------------------------------------------------------------------------------ */

static const char zsh_head[] =
    "#compdef cordon\n"
    "# zsh completion for cordon, made by `cordon completion zsh`; do not edit.\n"
    "\n"
    "_cordon_connections() {\n"
    "    local -a handles where\n"
    "    where=(${opt_args[--socket]:+--socket ${opt_args[--socket]}})\n"
    "    handles=(${(f)\"$(_call_program connections cordon list --quiet $where 2>/dev/null)\"})\n"
    "    compadd -a handles\n"
    "}\n"
    "\n"
    "_cordon_methods() {\n"
    "    compadd --";

/* The first line alone, without what _arguments and quotes would take for their own. */
static void
print_zsh_text(const char *text)
{
    for (; *text && *text != '\n'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void
print_zsh_kind(const char *kind)
{
    if (!kind)
        fputs(" ", stdout);
    else if (strcmp(kind, COMPLETE_FILE) == 0)
        fputs("_files", stdout);
    else if (strcmp(kind, COMPLETE_CONNECTION) == 0)
        fputs("_cordon_connections", stdout);
    else if (strcmp(kind, COMPLETE_METHOD) == 0)
        fputs("_cordon_methods", stdout);
    else if (strcmp(kind, COMPLETE_COMMAND) == 0)
        fputs("_cordon_commands", stdout);
    else
        printf("(%s)", kind);
}

static void
print_zsh_options(const struct option_row *rows)
{
    for (; rows && rows->name; rows++) {
        printf(" \\\n            '--%s[", rows->name);
        print_zsh_text(rows->doc);
        fputs("]", stdout);
        if (rows->value) {
            fputs(":", stdout);
            print_zsh_text(rows->value);
            fputs(":", stdout);
            print_zsh_kind(rows->completes);
        }
        fputs("'", stdout);
    }
}

static void
print_zsh_command(const struct command *command)
{
    printf("    %s)\n        _arguments", command->name);
    print_zsh_options(command->options);
    print_zsh_options(common_options);
    if (command->completes) {
        fputs(" \\\n            '1:", stdout);
        print_zsh_text(command->arguments);
        fputs(":", stdout);
        print_zsh_kind(command->completes);
        fputs("'", stdout);
    }
    puts("\n        ;;");
}

static void
print_zsh(void)
{
    fputs(zsh_head, stdout);
    fputs(" ", stdout);
    print_methods(" ");
    puts("\n}\n\n_cordon_commands() {\n    local -a commands\n    commands=(");
    for (size_t i = 0; commands[i]; i++) {
        printf("        '%s:", commands[i]->name);
        print_zsh_text(commands[i]->summary);
        puts("'");
    }
    printf("        '%s:Says more about a command'\n", help);
    puts("    )\n    _describe -t commands command commands\n}\n\n_cordon() {\n"
         "    if ((CURRENT == 2)); then\n        _cordon_commands\n        return\n    fi\n"
         "    shift words\n    ((CURRENT--))\n    case $words[1] in");
    for (size_t i = 0; commands[i]; i++)
        print_zsh_command(commands[i]);
    printf("    %s)\n        _cordon_commands\n        ;;\n    esac\n}\n\n", help);
    puts("if [ \"$funcstack[1]\" = _cordon ]; then\n    _cordon \"$@\"\nelse\n"
         "    compdef _cordon cordon\nfi");
}

static enum exit_status
completion(const struct arguments *a)
{
    if (strcmp(a->words[0], "bash") == 0)
        print_bash();
    else if (strcmp(a->words[0], "zsh") == 0)
        print_zsh();
    else
        return output_fail(a, EXIT_USAGE, "usage", "there is no completion for %s: bash or zsh",
                           a->words[0]);
    return EXIT_OK;
}

const struct command command_completion = {
    .name = "completion",
    .arguments = "SHELL",
    .summary = "Prints what makes bash or zsh complete this command",
    .doc = "Installed already where the shells look for it; else: source <(cordon completion bash)",
    .completes = "bash zsh",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = completion,
};
