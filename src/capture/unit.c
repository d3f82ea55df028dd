/* unit.c -- the sources that are read in one step: one, or several that are read together.
 * SPDX-License-Identifier: MIT */
#include "capture/unit.h"

#include "base/array.h"
#include "base/clock.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

bool unit_add(struct unit *u, struct step *step, bool is_joint)
{
    const struct relation **tables = realloc(u->tables, (u->n + 1) * sizeof *tables);

    if (tables == NULL)
        return false;
    u->tables = tables;
    u->tables[u->n] = step_relation(step);
    u->is_joint = is_joint;
    u->chosen = UNIT_ALL;
    return ARRAY_PUSH(u->steps, u->n, u->cap, step);
}

void unit_fini(struct unit *u)
{
    free(u->steps);
    free(u->tables);
    *u = (struct unit){ 0 };
}

void unit_choose(struct unit *u, size_t i)
{
    u->chosen = i;
    for (size_t k = 0; k < u->n; k++)
        step_choose(u->steps[k], k == i);
}

/* The sources that take part in a step: from the first one on, and before the end. */
static size_t first_of(const struct unit *u)
{
    return u->chosen == UNIT_ALL ? 0 : u->chosen;
}

static size_t end_of(const struct unit *u)
{
    return u->chosen == UNIT_ALL ? u->n : u->chosen + 1;
}

void unit_start(struct unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        step_lock_too(u->steps[i], u->tables, u->n);
}

bool unit_is_complete(const struct unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        if (!step_is_complete(u->steps[i]))
            return false;
    return true;
}

const char *unit_figures(struct unit *u)
{
    struct buf text;

    buf_init(&text, BUF_SQL_MAX);
    for (size_t i = 0; i < u->n; i++) {
        buf_puts(&text, text.len > 0 ? "; " : "");
        step_put_figures(u->steps[i], &text);
    }
    snprintf(u->figures, sizeof u->figures, "%s", buf_ok(&text) ? text.data : "");
    buf_fini(&text);
    return u->figures;
}

int64_t unit_due_ms(const struct unit *u, int64_t poll_ms)
{
    for (size_t i = 0; i < u->n; i++)
        poll_ms = step_due_ms(u->steps[i], poll_ms);
    return poll_ms;
}

void unit_put_off(struct unit *u, const struct load_all *all, int64_t interval_ms,
                  int64_t *due_ms)
{
    struct load_poll poll = { .interval_ms = interval_ms, .max_load = 1, .began_ms = u->began_ms };

    for (size_t i = 0; i < u->n; i++) {
        const struct config *c = step_source(u->steps[i])->config;

        step_take_times(u->steps[i], &poll);
        poll.max_load = c->max_load < poll.max_load ? c->max_load : poll.max_load;
        if (c->check_ms > 0)
            poll.check_ms = c->check_ms;
    }
    load_add(&u->load, all, &poll, due_ms);
    for (size_t i = 0; i < u->n; i++)
        step_stretch(u->steps[i], &u->load);
}

/* ---- the beginning ---- */

/* Looks at all sources, although one that is due would be enough: each of them must know what the
 * server said before the snapshot was taken. */
static bool look(struct unit *u, struct conn *conn, bool *is_due, struct err *e)
{
    bool is_one_due;

    *is_due = false;
    for (u->turn = first_of(u); u->turn < end_of(u); u->turn++) {
        if (!step_look(u->steps[u->turn], conn, &is_one_due, e))
            return false;
        *is_due = *is_due || is_one_due;
    }
    return true;
}

static bool rise(struct unit *u, enum unit_found *found, struct err *e)
{
    bool has_risen;

    *found = UNIT_NOTHING;
    for (u->turn = first_of(u); u->turn < end_of(u); u->turn++) {
        if (!step_rise(u->steps[u->turn], &has_risen, e))
            return false;
        if (*found == UNIT_NOTHING && step_is_quiet(u->steps[u->turn]))
            *found = UNIT_QUIET;
        if (has_risen)
            *found = UNIT_BEGUN;
    }
    return true;
}

/* If one source makes a census in this step, all do, so that their deletes are of one moment. */
static void share_census(struct unit *u)
{
    bool is_due = false;

    for (size_t i = 0; i < u->n; i++)
        is_due = is_due || step_wants_census(u->steps[i]);
    for (size_t i = 0; is_due && i < u->n; i++)
        step_owe_census(u->steps[i]);
}

static bool open(struct unit *u, struct conn *conn, struct err *e)
{
    bool is_start;

    for (u->turn = first_of(u); u->turn < end_of(u); u->turn++) {
        struct step *leader = u->turn > first_of(u) ? u->steps[first_of(u)] : NULL;

        if (!step_open(u->steps[u->turn], leader, conn, &is_start, e))
            return false;
        u->is_open = true;
        u->is_start = u->is_start || is_start;
    }
    return true;
}

bool unit_begin(struct unit *u, struct conn *conn, enum unit_found *found, struct err *e)
{
    bool is_due;

    assert(!u->is_open);
    u->began_ms = clock_mono_ms();
    u->is_start = u->has_begun = u->is_ending = u->has_finished = false;
    *found = UNIT_BEGUN;
    if (!look(u, conn, &is_due, e))
        return false;
    if (is_due && u->is_joint && u->chosen == UNIT_ALL)
        share_census(u);
    if (is_due ? !open(u, conn, e) : !rise(u, found, e))
        return false;
    u->turn = first_of(u);
    u->is_ending = !is_due;
    u->has_begun = is_due;
    return !is_due || step_begin(u->steps[u->turn], u->is_start, conn, e);
}

void unit_take_round(struct unit *u, bool moves)
{
    assert(!u->is_open && u->n == 1);
    u->began_ms = clock_mono_ms();
    u->is_start = u->has_begun = u->has_finished = false;
    u->turn = 0;
    u->is_ending = moves;
}

/* ---- messages ---- */

/* The next message of what is read. NULL: all was read. */
static bool read_next(struct unit *u, struct conn *conn, struct message **message, struct err *e)
{
    *message = NULL;
    for (; u->turn < end_of(u); u->turn++, u->has_begun = false) {
        struct step *step = u->steps[u->turn];

        if (!u->has_begun && !step_begin(step, u->is_start, conn, e))
            return false;
        u->has_begun = true;
        if (!step_next(step, conn, message, e))
            return false;
        if (*message != NULL)
            return true;
    }
    return true;
}

static bool commit(struct unit *u, struct conn *conn, struct err *e)
{
    if (u->is_open && !conn_run(conn, "COMMIT", NULL, NULL, 0, e))
        return false;
    u->is_open = false;
    u->is_ending = true;
    u->turn = first_of(u);
    return true;
}

/* All positions have moved: tells the host if they are at one moment. (A step that only brings new
 * positions ends a batch that it began, so that they are saved.) */
static void end_batch(struct unit *u, struct chunk *last)
{
    last->ends_batch = !u->is_joint || unit_is_complete(u) || (u->is_start && !u->is_amid);
    u->is_amid = !last->ends_batch;
}

bool unit_next(struct unit *u, struct conn *conn, struct message **message, struct err *e)
{
    if (!u->is_ending && !read_next(u, conn, message, e))
        return false;
    if (!u->is_ending && *message != NULL)
        return true;
    if (!u->is_ending && !commit(u, conn, e))
        return false;
    for (*message = NULL; u->turn < end_of(u); u->turn++, u->has_finished = false) {
        struct step *step = u->steps[u->turn];

        if (u->has_finished) {
            if ((*message = step_news(step)) != NULL)
                return true;
            continue;
        }
        if (!step_finish(step, message, e))
            return false;
        u->has_finished = true;
        if (u->turn + 1 == end_of(u))
            end_batch(u, &(*message)->chunk);
        return true;
    }
    return true;
}

void unit_abort(struct unit *u, struct conn *conn)
{
    for (size_t i = 0; i < u->n; i++)
        step_abort(u->steps[i], conn);
    u->is_open = false;
}
