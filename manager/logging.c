#include "manager/logging.h"

#include "manager/keys.h"
#include "manager/nurseries.h"
#include "manager/tree.h"

void
logging_message(struct message *m)
{
    message_init(m, MESSAGE_LOGGING);
    m->as.logging.level = log_get_level();
    m->as.logging.format = log_get_format();
}

void
logging_set(enum log_level level, enum log_format format)
{
    struct message m;

    log_set_level(level);
    log_set_format(format);
    logging_message(&m);
    tree_tell(&m);
    keys_tell(&m);
    nurseries_tell(&m);
}
