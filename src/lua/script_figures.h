/* script_figures.h -- what the Lua half knows of a running pipeline: sinks, operators, failures.
 *
 * Made on the thread that owns the Lua state, immutable from then on, counted: any thread may keep
 * it. Texts are owned by it. Times are microseconds since 1970; 0: never.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SCRIPT_FIGURES_H
#define SCRIPT_FIGURES_H

#include "base/histogram.h"
#include "lua/script.h"

/* Something that is tried again. */
struct script_figures_trouble {
    int64_t since_us;  /* since when it fails; 0: it does not */
    int64_t again_us;  /* when the next try is */
    uint64_t attempts; /* in a row */
    char *text;        /* the error; NULL: it does not fail */
    char *place;       /* which handler, "script.lua:12", or sink; or NULL */
    bool may_have_data; /* the text may show values of rows */
};

/* Of a source, by its number. */
struct script_figures_source {
    uint64_t filtered;     /* changes that a filter has kept back */
    uint64_t failed;       /* that were given up */
    uint64_t dead_letters;
    uint64_t retries;
    char *handlers;        /* what takes its changes: "script.lua:12", "filter", ... */
    struct script_figures_trouble trouble;
};

struct script_figures_sink {
    char *name, *kind;
    struct histogram flush_seconds;
    bool has_stats;        /* it counts what follows */
    bool has_bytes;        /* and bytes, too */
    uint64_t records, bytes, retries, refused, unsent_rows, unsent_bytes;
    bool is_open, is_tripped;
    int64_t flushed_us;    /* when a flush last succeeded */
    size_t *sources;       /* the numbers of the sources that feed it */
    size_t n_sources;
    struct script_figures_trouble trouble;
};

/* An operator that may hold batches back. */
struct script_figures_operator {
    char *name, *kind, *place; /* place: "script.lua:12", or NULL */
    uint64_t held;         /* batches of which it holds values */
    int64_t since_us;      /* since when it holds the oldest of them */
    size_t *sources;       /* the numbers of the sources that its values may come from */
    size_t n_sources;
};

struct script_figures_letter {
    size_t source;         /* its number */
    int64_t at_us;
    char *sink;            /* that refused it, or NULL: a handler failed */
    char *place;           /* that handler, or NULL */
    char *text, *change;   /* the error; the change's id: both may show values of rows */
};

/* A partition of a topic that is read. */
struct script_figures_partition {
    size_t source;         /* its number */
    char *topic;
    uint64_t number;
    int64_t left;          /* records that are not read yet; below 0: that is not known */
};

/* A worker of a member, see host/workers.h. */
struct script_figures_worker {
    char *name;            /* its pipeline's */
    uint64_t pid;          /* 0: it does not run just now */
    bool is_ready;
    int64_t since_us;      /* when it was started */
    uint64_t restarts;     /* that nobody asked for */
    int64_t left;          /* records beyond what it has saved; below 0: that is not known */
};

struct script_figures {
    atomic_int refs;
    struct script_figures_source *sources; /* one for each source of the script */
    size_t n_sources;
    struct script_figures_sink *sinks;
    size_t n_sinks;
    struct script_figures_operator *operators;
    size_t n_operators;
    struct script_figures_letter *letters; /* the last ones, the newest first */
    size_t n_letters;
    struct script_figures_partition *partitions;
    size_t n_partitions;
    struct script_figures_worker *workers;
    size_t n_workers;
    char *graph;           /* the pipeline, as JSON; NULL: it is not known */
};

/* Makes it of the table on top of the stack, which the Lua half makes (see delivery/figures.lua).
 * Runs no Lua. Returns owned, with one reference, or NULL: out of memory. */
struct script_figures *script_figures_read(lua_State *L, size_t n_sources);

/* NULL is legal. */
struct script_figures *script_figures_ref(struct script_figures *f);
void script_figures_unref(struct script_figures *f);

#endif
