/* publish.h -- the figures of the host, for whoever watches it.
 *
 * Collects what the host, its deliveries and the script know, and publishes it on the board of
 * serve/figures.h some times a second. Where nobody watches there is none, and nothing costs time.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PUBLISH_H
#define PUBLISH_H

#include "capture/reader.h"
#include "host/delivery.h"
#include "lua/hooks.h"
#include "serve/figures.h"

struct publish {
    struct figures_board *board; /* owned; NULL: nobody can ask */
    bool is_watched;             /* somebody asks again and again, else now and then */
    struct beat beat;
    struct script *script;       /* borrowed, as all that follows */
    struct role *role;
    const char *state;           /* path of the state file, or NULL */
    struct delivery **deliveries; /* NULL before they are there */
    struct queue *queue;
    struct reader *reader;
    bool *is_done;               /* of each source, owned: nothing more will come of it */
    int64_t published_ms, asked_ms; /* when that was done, and the Lua half asked, last */
};

/* True if nothing is delivered of the source: it is paused, or one that is read together with it,
 * so that what they have in common comes in its order. */
bool publish_is_paused(const struct script *script, struct delivery *const *deliveries,
                       size_t source);

/* Makes a board, and publishes for the first time. <p> must not be moved until publish_fini.
 * Where nobody watches the Lua half is asked by publish_now only, and the loop may sleep. */
bool publish_init(struct publish *p, struct script *script, const char *state, bool is_watched,
                  struct err *e) WARN_UNUSED;

/* The sources are read from now on, until publish_end: <deliveries> and so on are there. */
void publish_begin(struct publish *p, struct delivery **deliveries, struct queue *queue,
                   struct reader *reader);
void publish_end(struct publish *p);
void publish_fini(struct publish *p);

/* The loop turns: publishes if it is time. */
void publish_turn(struct publish *p);

/* Publishes at once all that is known. */
void publish_now(struct publish *p);

/* The same in the middle of a delivery, where the Lua half cannot be asked. */
void publish_tick(struct publish *p);

/* The Lua half has new figures, which move. NULL is legal. */
void publish_figures(struct publish *p, struct script_figures *half);

/* Something has changed that is news: publishes at the next turn. */
void publish_soon(struct publish *p);

/* Nothing more will come of a source. */
void publish_done(struct publish *p, size_t source);

/* How long the loop may sleep: <wait_ms>, -1 for ever, or less. */
int64_t publish_wait_ms(const struct publish *p, int64_t wait_ms);

#endif
