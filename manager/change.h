/*
 * A change of what listeners listen with.
 *
 * Everything it needs is loaded and checked first; then all of it is swapped in one turn of the loop,
 * or, when something was wrong, nothing is.  A connection keeps the context that it began with.
 */
#ifndef CORDON_MANAGER_CHANGE_H
#define CORDON_MANAGER_CHANGE_H

#include <stdbool.h>

#include "manager/failure.h"

struct change;
struct context;
struct context_events;
struct context_load;
struct context_loaded;
struct listener;
struct options;

struct change_events {
    /* Everything is loaded.  Calls change_commit, now. */
    void (*on_loaded)(void *owner);
    /* Takes f's content.  Nothing has changed, and the change is gone. */
    void (*on_failed)(void *owner, struct failure *f);
};

struct change *change_new(const struct change_events *events, void *owner);

/* What a part of a change is about: a listener that there is, or a service that will be. */
struct change_part_kind {
    /* context_load, with these. */
    struct context_load *(*load)(void *subject, const struct context_events *events, void *owner);
    /* Takes a reference to context.  Whether anything is other than before. */
    bool (*swap)(void *subject, struct context *context, const struct context_loaded *loaded);
    /* Says in *f whose fault it is. */
    void (*name)(const void *subject, struct failure *f);
    void (*free)(void *subject);
};

/* Takes subject. */
void change_add(struct change *c, const struct change_part_kind *kind, void *subject);

/* What a reload may read again; the rest came as descriptors, which were for one reading. */
bool change_has_certificate_paths(const struct options *o);
bool change_has_paths(const struct options *o);

/* Certificates, keys and CAs that l named by path are read again.  Nothing for one that named none. */
void change_reread(struct change *c, struct listener *l);

/* One callback comes, from the loop. */
void change_begin(struct change *c);

/* Swaps, and frees the change.  How many parts are other than before. */
unsigned change_commit(struct change *c);

/* Nothing happens, no callback comes.  NULL is fine. */
void change_free(struct change *c);

#endif
