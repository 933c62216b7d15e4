#include "api/ask.h"
#include "api/output.h"

/* clang-format off */
static const struct option_row options[] = {
    { "reset", NULL, "at once: the peer sees a TCP reset, no close_notify", NULL, false },
    { NULL, NULL, NULL, NULL, false },
};
/* clang-format on */

static enum exit_status
kill_connection(const struct arguments *a)
{
    const char *how = arguments_have(a, "reset") ? "reset" : "close";

    return ask_once(a, "cordon.kill", json_pack("{s:s, s:s}", "conn", a->words[0], "how", how));
}

const struct command command_kill = {
    .name = "kill",
    .arguments = "CONNECTION",
    .summary = "Ends a connection, whoever owns it",
    .doc = "Its owner is told, as of any other end. For administrators.",
    .completes = COMPLETE_CONNECTION,
    .arguments_min = 1,
    .arguments_max = 1,
    .options = options,
    .run = kill_connection,
};
