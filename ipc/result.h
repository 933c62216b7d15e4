/*
 * Results: one closed list (ipc/results.def) gives the enum, the reason that
 * logs and the control API use, and a sentence for people.
 */
#ifndef CORDON_IPC_RESULT_H
#define CORDON_IPC_RESULT_H

#define MUST_CHECK __attribute__((warn_unused_result))

enum result {
#define RESULT(name, reason, text) RESULT_##name,
#include "ipc/results.def"
#undef RESULT
    RESULT_COUNT
};

/* The stable word: "timeout".  Never NULL. */
const char *result_name(enum result result);

/* The sentence: "the time given was over".  Never NULL. */
const char *result_text(enum result result);

/* What errno means in the reference's words: ECONNREFUSED is "econnrefused"; "eunknown" if the
 * C library has no name for it.  The text belongs to the library. */
const char *posix_name(int error);

#endif
