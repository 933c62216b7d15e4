/*
 * A command's conversation with the manager: a question, its answer, and the events after it.
 *
 * What fails is told to the user here, so that each command only passes the exit status on.
 */
#ifndef API_ASK_H
#define API_ASK_H

#include <jansson.h>

#include "api/command.h"
#include "api/control.h"

/* Connects as --socket says.  Gives *control (control_free). */
enum exit_status ask_open(const struct arguments *a, struct control **control);

/* Sends the question alone; its answer has the same id, which no other unanswered one may have.  Takes
 * params (NULL: none); borrows fds. */
enum exit_status ask_send(const struct arguments *a, struct control *control, int id,
                          const char *method, json_t *params, const int *fds, size_t fd_count);

/*
 * Calls method and waits for the answer.  Takes params (NULL: none); borrows fds.  Gives *result.
 * Events that come before the answer are dropped.
 */
enum exit_status ask(const struct arguments *a, struct control *control, const char *method,
                     json_t *params, const int *fds, size_t fd_count, json_t **result);

/* The same for a caller that has to see the error: *answer is the whole reply. */
enum exit_status ask_raw(const struct arguments *a, struct control *control, const char *method,
                         json_t *params, const int *fds, size_t fd_count, json_t **answer);

/* Waits for an event.  Gives *event {method, params}. */
enum exit_status ask_event(const struct arguments *a, struct control *control, json_t **event);

/* Opens the socket, calls method, prints its result as JSON (--json) or nothing.  Takes params. */
enum exit_status ask_once(const struct arguments *a, const char *method, json_t *params);

/* The `data.reason` of an answer's error; "" if it has none.  Borrows answer. */
const char *answer_reason(const json_t *answer);

#endif
