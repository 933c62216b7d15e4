#include "api/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "api/description.h"
#include "api/output.h"
#include "ipc/fd.h"
#include "ipc/result.h"

/* The same error as the manager's, had it opened the file. */
static enum exit_status
refuse_file(const struct arguments *a, const char *option, const char *path, int error)
{
    json_t *message;

    if (!a->is_json)
        return output_fail(a, EXIT_FAILED, "options", "%s %s: %s", option, path, strerror(error));
    message = json_sprintf("%s %s: %s", option, path, strerror(error));
    return output_error(a, NULL,
                        json_pack("{s:i,s:o?,s:{s:s,s:s,s:s*,s:s,s:s}}", "code", -32000, "message",
                                  message, "data", "reason", "options", "option", option, "value",
                                  path, "why", strerror(error), "posix", posix_name(error)));
}

/* {"file": PATH} is a file whatever the option; text, where the option is a file. */
static const char *
path_of(const char *option, const json_t *value)
{
    if (json_is_object(value))
        return json_string_value(json_object_get(value, "file"));
    return description_is_file(option) ? json_string_value(value) : NULL;
}

enum exit_status
files_open(struct files *files, const struct arguments *a, json_t *options)
{
    const char *option;
    json_t *value;
    void *next;

    json_object_foreach_safe(options, next, option, value)
    {
        const char *path = path_of(option, value);
        int fd;

        if (!path)
            continue;
        if (files->count == FILES_MAX)
            return refuse_file(a, option, path, EMFILE);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return refuse_file(a, option, path, errno);
        files->fds[files->count] = fd;
        json_object_set_new(options, option, json_pack("{s:i}", "fd_index", (int)files->count++));
    }
    return EXIT_OK;
}

void
files_close(struct files *files)
{
    for (size_t i = files->own_from; i < files->count; i++)
        fd_close(&files->fds[i]);
    files->count = files->own_from;
}
