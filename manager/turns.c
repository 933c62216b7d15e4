#include "manager/turns.h"

static STAILQ_HEAD(, turn) waiting = STAILQ_HEAD_INITIALIZER(waiting);
static size_t waiting_count;
static struct turn *running;

static void
turn_begin(struct turn *t)
{
    running = t;
    t->is_running = true;
    t->on_turn(t->owner);
}

bool
turn_take(struct turn *t, void (*on_turn)(void *owner), void *owner)
{
    if (running != NULL && waiting_count >= TURNS_MAX)
        return false;
    t->on_turn = on_turn;
    t->owner = owner;
    if (running == NULL) {
        turn_begin(t);
        return true;
    }
    t->is_waiting = true;
    STAILQ_INSERT_TAIL(&waiting, t, entry);
    waiting_count++;
    return true;
}

void
turn_over(struct turn *t)
{
    if (t->is_waiting) {
        STAILQ_REMOVE(&waiting, t, turn, entry);
        waiting_count--;
    }
    t->is_waiting = false;
    if (!t->is_running)
        return;
    t->is_running = false;
    running = NULL;
    if (!STAILQ_EMPTY(&waiting)) {
        t = STAILQ_FIRST(&waiting);
        STAILQ_REMOVE_HEAD(&waiting, entry);
        waiting_count--;
        t->is_waiting = false;
        turn_begin(t);
    }
}
