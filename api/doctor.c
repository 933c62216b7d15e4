#include "api/doctor.h"
#include "ipc/walls.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/ask.h"
#include "api/output.h"

static const char *const level_names[] = { "ok", "warn", "bad" };

void
doctor_find(struct doctor *d, enum finding_level level, const char *name, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    json_t *json;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    d->bad += level == FINDING_BAD;
    json = json_string(text); /* a path may be no UTF-8 */
    json_array_append_new(d->findings,
                          json_pack("{s:s, s:s, s:o}", "level", level_names[level], "name", name,
                                    "text", json ? json : json_string("?")));
}

const char *
doctor_read_line(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    char *line = file ? fgets(text, (int)size, file) : NULL;

    if (file)
        fclose(file);
    if (line)
        line[strcspn(line, "\n")] = '\0';
    return line;
}

int
doctor_run(const char *const *arguments, char *text, size_t size)
{
    posix_spawn_file_actions_t actions;
    const char *const environment[] = { "LC_ALL=C", NULL };
    int output[2];
    FILE *file;
    pid_t pid;
    int status;

    if (pipe2(output, O_CLOEXEC) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO);
    status = posix_spawn(&pid, arguments[0], &actions, NULL, (char *const *)arguments,
                         (char *const *)environment);
    posix_spawn_file_actions_destroy(&actions);
    close(output[1]);
    file = fdopen(output[0], "r");
    *text = '\0';
    if (file && status == 0 && !fgets(text, (int)size, file))
        *text = '\0';
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = '\0';
    if (status != 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* The manager that runs.  Nobody answering is no fault of the machine. */
static void
check_manager(struct doctor *d)
{
    char why[256];
    struct control *control = control_open(d->a->socket, why, sizeof(why));
    const char *version;
    json_t *answer = NULL;

    if (!control) {
        doctor_find(d, d->a->socket ? FINDING_BAD : FINDING_WARN, "manager",
                    "none answers at %s: start cordond, or name its socket with --socket", why);
        return;
    }
    if (ask_raw(d->a, control, "cordon.status", NULL, NULL, 0, &answer) == EXIT_OK)
        d->status = json_incref(json_object_get(answer, "result"));
    json_decref(answer);
    control_free(control);
    version = json_string_value(json_object_get(d->status, "version"));
    if (!version)
        doctor_find(d, FINDING_BAD, "manager", "it does not answer cordon.status: see its log");
    else if (strcmp(version, CORDON_VERSION) != 0)
        doctor_find(d, FINDING_WARN, "manager",
                    "version %s runs, this command is %s: restart cordond", version,
                    CORDON_VERSION);
    else
        doctor_find(d, FINDING_OK, "manager", "version %s runs, %lld connections", version,
                    (long long)json_integer_value(json_object_get(d->status, "connections")));
}

/* As the nurseries of the cordond that runs have found out. */
static void
check_walls(struct doctor *d)
{
    const json_t *missing = json_object_get(json_object_get(d->status, "walls"), "missing");
    json_t *name;
    size_t i;

    if (!json_is_array(missing)) {
        doctor_find(d, FINDING_OK, "walls", "a cordond that runs says which stand: start one");
        return;
    }
    json_array_foreach (missing, i, name) {
        enum wall wall;

        if (json_is_string(name) && wall_parse(json_string_value(name), &wall))
            doctor_find(d, FINDING_WARN, wall_name(wall), "this wall does not stand: %s",
                        wall_absence(wall));
    }
    doctor_find(d, FINDING_OK, "walls", "%zu of %d stand around a worker",
                (size_t)WALL_COUNT - json_array_size(missing), WALL_COUNT);
}

static enum exit_status
doctor(const struct arguments *a)
{
    static const struct column columns[] = {
        { "", "level", output_value, false },
        { "", "name", output_value, false },
        { "", "text", output_value, false },
        { NULL, NULL, NULL, false },
    };
    struct doctor d = { .a = a, .findings = json_array() };

    check_manager(&d);
    doctor_check_system(&d);
    doctor_check_install(&d);
    doctor_check_libraries(&d);
    check_walls(&d);
    if (a->is_json)
        output_json(stdout, json_pack("{s:O}", "findings", d.findings), true);
    else
        output_table(columns, d.findings);
    json_decref(d.findings);
    json_decref(d.status);
    return d.bad == 0 ? EXIT_OK : EXIT_FAILED;
}

const struct command command_doctor = {
    .name = "doctor",
    .arguments = "",
    .summary = "Says what is wrong on this machine, and what to do",
    .doc = "A line for each finding: ok, warn or bad. Status 0 when nothing is bad, else 1.",
    .run = doctor,
};
