#include "manager/listen_plan.h"

#include <string.h>

static enum result
read_deliver(struct listen_plan *p, const json_t *json, const struct request *r, struct failure *f)
{
    const struct deliver_rights rights = {
        .paths = r == NULL || client_is_operator(request_client(r)),
        .exec = r == NULL || client_is_administrator(request_client(r)),
    };

    return json == NULL ? RESULT_OK : deliver_parse(&p->deliver, json, rights, f);
}

/* TLS is on the side of the callers, or, for a service of kind client, on the other one. */
static enum result
read_options(struct listen_plan *p, const json_t *params, struct request *r, struct failure *f)
{
    const json_t *options = json_object_get(params, "options");
    const json_t *outwards = deliver_client_options(json_object_get(params, "deliver"));
    enum result result;

    if (outwards == NULL)
        return options_read(&p->options, ROLE_SERVER, NULL, options, r, f);
    result = options_read(&p->options, ROLE_CLIENT, NULL, outwards, r, f);
    return result == RESULT_OK ? options_read_plain(&p->options, options, f) : result;
}

enum result
listen_plan_read(struct listen_plan *out, const json_t *params, struct request *r,
                 struct failure *f)
{
    const char *accept = json_string_value(json_object_get(params, "accept"));
    enum result result;

    memset(out, 0, sizeof(*out));
    result = read_options(out, params, r, f);
    if (result != RESULT_OK)
        return result;
    result = read_deliver(out, json_object_get(params, "deliver"), r, f);
    if (result != RESULT_OK) {
        listen_plan_fini(out);
        return result;
    }
    out->is_auto = accept != NULL && strcmp(accept, "auto") == 0;
    out->handshakes_max = (unsigned)json_integer_value(json_object_get(params, "handshakes_max"));
    out->accept_queue = (unsigned)json_integer_value(json_object_get(params, "accept_queue"));
    return RESULT_OK;
}

void
listen_plan_fini(struct listen_plan *p)
{
    deliver_release(p->deliver);
    p->deliver = NULL;
    options_fini(&p->options);
}
