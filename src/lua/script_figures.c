/* script_figures.c -- what the Lua half knows of a running pipeline.
 *
 * The table has lists whose items are tables with plain values. It has no metatables, so that
 * nothing here runs Lua; what is missing, or of another type, counts as 0 or NULL.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/script_figures.h"

#include "base/clock.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define MOST 100000 /* items of a list */

struct reading {
    lua_State *L;
    bool failed;       /* memory is out */
    double wall_less_mono_us; /* what makes a wall time of a time of raw.now() */
};

/* ---- fields of the table on top of the stack ---- */

static void push_field(lua_State *L, const char *name)                  /* [-0, +1] */
{
    lua_pushstring(L, name);
    lua_rawget(L, -2);
}

static double get_number(struct reading *r, const char *name)
{
    double n;

    push_field(r->L, name);
    n = lua_type(r->L, -1) == LUA_TNUMBER ? lua_tonumber(r->L, -1) : 0;
    lua_pop(r->L, 1);
    return n;
}

static uint64_t get_count(struct reading *r, const char *name)
{
    double n = get_number(r, name);

    return n >= 1 && n < 1e19 ? (uint64_t)n : 0;
}

static int64_t get_time(struct reading *r, const char *name)
{
    double seconds = get_number(r, name);

    return seconds != 0 ? (int64_t)(seconds * 1e6 + r->wall_less_mono_us) : 0;
}

static bool get_bool(struct reading *r, const char *name)
{
    bool is;

    push_field(r->L, name);
    is = lua_toboolean(r->L, -1);
    lua_pop(r->L, 1);
    return is;
}

static char *get_text(struct reading *r, const char *name)
{
    char *copy = NULL;

    push_field(r->L, name);
    if (lua_type(r->L, -1) == LUA_TSTRING) {
        copy = strdup(lua_tostring(r->L, -1));
        r->failed = r->failed || copy == NULL;
    }
    lua_pop(r->L, 1);
    return copy;
}

static void get_histogram(struct reading *r, const char *name, struct histogram *h)
{
    push_field(r->L, name);
    if (lua_istable(r->L, -1)) {
        h->count = get_count(r, "count");
        h->sum = get_number(r, "sum");
        h->last = get_number(r, "last");
        for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
            lua_rawgeti(r->L, -1, i + 1);
            h->buckets[i] = (uint64_t)lua_tointeger(r->L, -1);
            lua_pop(r->L, 1);
        }
    }
    lua_pop(r->L, 1);
}

static void get_trouble(struct reading *r, struct script_figures_trouble *t)
{
    push_field(r->L, "trouble");
    if (lua_istable(r->L, -1)) {
        t->since_us = get_time(r, "since");
        t->again_us = get_time(r, "again");
        t->attempts = get_count(r, "attempts");
        t->text = get_text(r, "text");
        t->place = get_text(r, "place");
        t->may_have_data = get_bool(r, "may_have_data");
    }
    lua_pop(r->L, 1);
}

/* ---- lists ---- */

/* Makes room for the items of a list, each of <size> bytes and zeroed. Pushes the list. */
static void *begin_list(struct reading *r, const char *name, size_t size, size_t *n)
{
    void *items = NULL;

    push_field(r->L, name);
    *n = lua_istable(r->L, -1) ? lua_rawlen(r->L, -1) : 0;
    *n = *n < MOST ? *n : MOST;
    if (*n > 0 && (items = calloc(*n, size)) == NULL) {
        r->failed = true;
        *n = 0;
    }
    return items;
}

/* Pushes item <i>, from 0. False: it is no table. */
static bool push_item(struct reading *r, size_t i)
{
    return lua_rawgeti(r->L, -1, (lua_Integer)i + 1) == LUA_TTABLE;
}

/* A list of numbers of sources, which count from 1 there. Returns owned. */
static size_t *get_numbers(struct reading *r, const char *name, size_t *n)
{
    size_t *numbers = begin_list(r, name, sizeof *numbers, n);

    for (size_t i = 0; i < *n; i++) {
        lua_rawgeti(r->L, -1, (lua_Integer)i + 1);
        numbers[i] = (size_t)(lua_tointeger(r->L, -1) - 1);
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
    return numbers;
}

static void read_sources(struct reading *r, struct script_figures *f, size_t n_sources)
{
    size_t n;

    free(begin_list(r, "sources", 1, &n));
    f->sources = calloc(n_sources + 1, sizeof *f->sources);
    f->n_sources = f->sources != NULL ? n_sources : 0;
    r->failed = r->failed || f->sources == NULL;
    for (size_t i = 0; i < n && i < f->n_sources; i++) {
        struct script_figures_source *s = &f->sources[i];

        if (push_item(r, i)) {
            s->filtered = get_count(r, "filtered");
            s->failed = get_count(r, "failed");
            s->dead_letters = get_count(r, "dead_letters");
            s->retries = get_count(r, "retries");
            s->handlers = get_text(r, "handlers");
            get_trouble(r, &s->trouble);
        }
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
}

static void read_sinks(struct reading *r, struct script_figures *f)
{
    f->sinks = begin_list(r, "sinks", sizeof *f->sinks, &f->n_sinks);
    for (size_t i = 0; i < f->n_sinks; i++) {
        struct script_figures_sink *s = &f->sinks[i];

        if (push_item(r, i)) {
            s->name = get_text(r, "name");
            s->kind = get_text(r, "kind");
            get_histogram(r, "flush_seconds", &s->flush_seconds);
            s->sources = get_numbers(r, "sources", &s->n_sources);
            s->has_stats = get_bool(r, "has_stats");
            s->has_bytes = get_bool(r, "bytes");
            s->records = get_count(r, "records");
            s->bytes = get_count(r, "bytes");
            s->retries = get_count(r, "retries");
            s->refused = get_count(r, "refused");
            s->unsent_rows = get_count(r, "unsent_rows");
            s->unsent_bytes = get_count(r, "unsent_bytes");
            s->is_open = get_bool(r, "is_open");
            s->is_tripped = get_bool(r, "is_tripped");
            s->flushed_us = get_time(r, "flushed");
            get_trouble(r, &s->trouble);
        }
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
}

static void read_operators(struct reading *r, struct script_figures *f)
{
    f->operators = begin_list(r, "operators", sizeof *f->operators, &f->n_operators);
    for (size_t i = 0; i < f->n_operators; i++) {
        struct script_figures_operator *o = &f->operators[i];

        if (push_item(r, i)) {
            o->name = get_text(r, "name");
            o->kind = get_text(r, "kind");
            o->place = get_text(r, "place");
            o->held = get_count(r, "held");
            o->since_us = get_time(r, "since");
            o->sources = get_numbers(r, "sources", &o->n_sources);
        }
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
}

static void read_letters(struct reading *r, struct script_figures *f)
{
    f->letters = begin_list(r, "letters", sizeof *f->letters, &f->n_letters);
    for (size_t i = 0; i < f->n_letters; i++) {
        struct script_figures_letter *l = &f->letters[i];

        if (push_item(r, i)) {
            l->source = (size_t)get_count(r, "source") - 1;
            l->at_us = get_time(r, "at");
            l->sink = get_text(r, "sink");
            l->place = get_text(r, "place");
            l->text = get_text(r, "text");
            l->change = get_text(r, "change");
        }
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
}

/* What is missing is not known. */
static int64_t get_left(struct reading *r)
{
    bool is_known;

    push_field(r->L, "left");
    is_known = lua_type(r->L, -1) == LUA_TNUMBER;
    lua_pop(r->L, 1);
    return is_known ? (int64_t)get_number(r, "left") : -1;
}

static void read_partitions(struct reading *r, struct script_figures *f)
{
    f->partitions = begin_list(r, "partitions", sizeof *f->partitions, &f->n_partitions);
    for (size_t i = 0; i < f->n_partitions; i++) {
        struct script_figures_partition *p = &f->partitions[i];

        if (push_item(r, i)) {
            p->source = (size_t)get_count(r, "source") - 1;
            p->topic = get_text(r, "topic");
            p->number = get_count(r, "partition");
            p->left = get_left(r);
        }
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
}

static void read_workers(struct reading *r, struct script_figures *f)
{
    f->workers = begin_list(r, "workers", sizeof *f->workers, &f->n_workers);
    for (size_t i = 0; i < f->n_workers; i++) {
        struct script_figures_worker *w = &f->workers[i];

        if (push_item(r, i)) {
            w->name = get_text(r, "name");
            w->pid = get_count(r, "pid");
            w->is_ready = get_bool(r, "is_ready");
            w->since_us = get_time(r, "since");
            w->restarts = get_count(r, "restarts");
            w->left = get_left(r);
        }
        lua_pop(r->L, 1);
    }
    lua_pop(r->L, 1);
}

struct script_figures *script_figures_read(lua_State *L, size_t n_sources)
{
    struct reading r = { .L = L, .wall_less_mono_us = (double)clock_wall_us() -
                                                      (double)clock_mono_ns() / 1000 };
    struct script_figures *f = calloc(1, sizeof *f);

    if (f == NULL)
        return NULL;
    f->refs = 1;
    if (lua_istable(L, -1) && lua_checkstack(L, 10)) {
        read_sources(&r, f, n_sources);
        read_sinks(&r, f);
        read_operators(&r, f);
        read_letters(&r, f);
        read_partitions(&r, f);
        read_workers(&r, f);
        f->graph = get_text(&r, "graph");
    }
    if (!r.failed)
        return f;
    script_figures_unref(f);
    return NULL;
}

/* ---- references ---- */

struct script_figures *script_figures_ref(struct script_figures *f)
{
    if (f != NULL)
        atomic_fetch_add(&f->refs, 1);
    return f;
}

static void free_trouble(struct script_figures_trouble *t)
{
    free(t->text);
    free(t->place);
}

static void free_source(struct script_figures_source *s)
{
    free(s->handlers);
    free_trouble(&s->trouble);
}

void script_figures_unref(struct script_figures *f)
{
    if (f == NULL || atomic_fetch_sub(&f->refs, 1) > 1)
        return;
    for (size_t i = 0; i < f->n_sources; i++)
        free_source(&f->sources[i]);
    for (size_t i = 0; i < f->n_sinks; i++) {
        free(f->sinks[i].name);
        free(f->sinks[i].kind);
        free(f->sinks[i].sources);
        free_trouble(&f->sinks[i].trouble);
    }
    for (size_t i = 0; i < f->n_operators; i++) {
        free(f->operators[i].name);
        free(f->operators[i].kind);
        free(f->operators[i].place);
        free(f->operators[i].sources);
    }
    for (size_t i = 0; i < f->n_letters; i++) {
        free(f->letters[i].sink);
        free(f->letters[i].place);
        free(f->letters[i].text);
        free(f->letters[i].change);
    }
    for (size_t i = 0; i < f->n_partitions; i++)
        free(f->partitions[i].topic);
    for (size_t i = 0; i < f->n_workers; i++)
        free(f->workers[i].name);
    free(f->partitions);
    free(f->workers);
    free(f->sources);
    free(f->sinks);
    free(f->operators);
    free(f->letters);
    free(f->graph);
    free(f);
}
