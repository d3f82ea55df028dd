/* health.h -- whether all is well, and if not: what is wrong, since when.
 *
 * Live: the loop turns. Ready: live, every snapshot is over, and no source is later than the most
 * that is allowed; or it is a standby, which waits for its pipeline. A problem need not keep the
 * program from being ready: a target that is away for a moment, say. Pure functions on a copy of
 * the figures.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HEALTH_H
#define HEALTH_H

#include "serve/figures.h"

#ifndef HEALTH_STALLED_MS
#define HEALTH_STALLED_MS 30000 /* a loop that has not turned for so long is not live */
#endif
#define HEALTH_WINDOW_MS 1000   /* what an operator holds for less is no news */

struct health_options {
    double max_lag;   /* seconds */
    bool shows_rows;  /* texts that may show values of rows may be told */
};

/* The worst first. */
enum health_reason {
    HEALTH_LOOP,       /* the loop does not turn */
    HEALTH_DATABASE,   /* the source's database failed, or is away */
    HEALTH_WAIT,       /* its server lets it wait: a lock, a long statement */
    HEALTH_HANDLER,    /* a handler failed, and is tried again */
    HEALTH_SINK,       /* a sink failed, and is tried again */
    HEALTH_STARTS,     /* it has not reached its server */
    HEALTH_SNAPSHOT,   /* its existing rows are read */
    HEALTH_PAUSED,     /* a user has paused it */
    HEALTH_LAG,        /* it is later than the most that is allowed */
    HEALTH_REASONS     /* how many there are */
};

struct health_problem {
    enum health_reason reason;
    const char *source, *sink; /* borrowed from the figures; NULL: of none */
    int64_t since_us;
    bool is_blocking;          /* not ready because of it */
    char text[1400];           /* one sentence, UTF-8 */
};

struct health {
    bool is_live, is_ready;
    struct health_problem *problems; /* owned; what is worse comes first */
    size_t n, cap;
};

/* The word of a reason, in JSON. */
const char *health_word(enum health_reason reason);

/* False: out of memory. After success the caller calls health_fini. <f> must outlive it. */
bool health_find(struct health *h, const struct figures *f, const struct health_options *o,
                 int64_t now_us, int64_t now_ms) WARN_UNUSED;
void health_fini(struct health *h);

/* The text of a trouble, or what stands for it where it may not be told. Borrowed. */
const char *health_trouble_text(const struct script_figures_trouble *t,
                                const struct health_options *o);

/* What the loop does, in words: "delivers changes of public.orders". */
void health_put_work(const struct figures *f, struct buf *to);

#endif
