/* method_pages.c -- for capture = "increment": rows that have no xmin are read in rounds of pages.
 *
 * For views and foreign tables, see pages.h. The first round is the first read or, with
 * start = "now", learns what is there. A position of pages cannot be handed over: it has no xids
 * from which another method could go on.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/method_increment.h"

#include "base/hash.h"
#include "pg/copytext.h"

#include <stdlib.h>
#include <string.h>

/* What a page brought. */
struct step {
    bool has_top;
    int64_t top;             /* the highest value there is */
    size_t n;                /* rows that were read */
    struct pages_rows fresh; /* those that were not given before, and may come again */
    struct buf last_key;     /* of the row that was read last, COPY text */
    int64_t last;            /* the value of that row */
    struct pages_rows alike; /* the last rows, of one value and one key */
    struct buf key;          /* of the row in hand */
};

static void fini_step(void *own)
{
    struct step *step = own;

    pages_rows_fini(&step->fresh);
    buf_fini(&step->last_key);
    pages_rows_fini(&step->alike);
    buf_fini(&step->key);
}

static void put_try(const struct source *s, struct buf *sql)
{
    const struct sql_increment_query q = method_increment_query(s);

    sql_increment_try(sql, &q);
}

/* ---- positions ---- */

static bool holds(const struct position *p)
{
    return p->pages.is_used;
}

static void begin_position(struct source *s, const struct position_stamps *before)
{
    (void)before;
    s->position.pages.is_used = true;
    s->position.pages.is_silent = s->position.phase == POSITION_POLL; /* no snapshot is wanted */
}

static bool is_silent(const struct position *p)
{
    return p->pages.is_silent;
}

/* No snapshot tells whether the tables under a view or a foreign table have changed. */
static bool wants_poll(const struct source *s)
{
    (void)s;
    return true;
}

/* ---- steps ---- */

static void put_page(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_increment_query q = method_increment_query(s);

    (void)extent;
    sql_increment_page(sql, &q, &s->position);
}

/* The name of the column that is NULL in a key, or NULL: none is. */
static const char *find_null(const struct rowtype *s, const char *key)
{
    const char *f = key;

    for (size_t k = 0; k < s->n_key; k++) {
        size_t len = strcspn(f, "\t");

        if (copytext_is_null((struct copytext_field){ f, len }))
            return s->columns[s->key[k]].name;
        f += len + (f[len] == '\t');
    }
    return NULL;
}

/* Begins with the row in hand, which has this value and this hash of its fields. Rows that are
 * alike in all fields come one after the other, in one page. Those after the first get other
 * hashes, so that each row is recognized and has an id of its own. */
static bool enter_row(struct step *own, int64_t value, uint64_t *hash)
{
    bool is_alike = own->n > 0 && own->last == value && own->key.len == own->last_key.len &&
                    memcmp(own->key.data, own->last_key.data, own->key.len) == 0;
    const struct buf before = own->last_key;

    if (!is_alike)
        pages_rows_fini(&own->alike);
    while (pages_rows_has(&own->alike, *hash))
        *hash = hash_add(*hash, 1);
    own->last_key = own->key; /* they change places */
    own->key = before;
    own->last = value;
    own->n++;
    return pages_rows_add(&own->alike, *hash, value);
}

static bool take_row(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e)
{
    struct step *own = step->own;
    size_t len;
    bool has_value, is_new = true;
    const char *null;
    int64_t value;

    if (!method_increment_read_value(row, &has_value, &value) || !has_value)
        return method_fail_row(e);
    len = (size_t)(row->end - row->p);
    buf_clear(&own->key);
    if (!rowtype_put_key(s->facts.rowtype, row->p, len, &own->key) ||
        !pages_hash(row->p, len, &row->xid))
        return err_memory(e);
    null = find_null(s->facts.rowtype, own->key.data);
    if (null != NULL)
        return err_set(e, ERR_REFUSED, "%s.%s: a row has NULL in its key, column \"%s\", after "
                       "which no page can begin: name columns in pk that are never NULL, or leave "
                       "such rows out by where", s->facts.table.schema, s->facts.table.name, null);
    if (!enter_row(own, value, &row->xid))
        return err_memory(e);
    if (value >= s->position.increment.base) {
        is_new = !pages_rows_has(&s->position.pages.given, row->xid);
        if (is_new && !pages_rows_add(&own->fresh, row->xid, value))
            return err_memory(e);
    }
    row->is_old = s->position.phase != POSITION_POLL;
    row->fate = is_new && !s->position.pages.is_silent ? METHOD_DELIVER : METHOD_SKIP;
    return true;
}

static const struct method_copy page = { .put = put_page, .take = take_row };

/* ERR_REFUSED: no page could begin after a row with a key of such a type, or the position goes by
 * another column. */
static bool check_round(const struct source *s, struct err *e)
{
    const struct increment *i = &s->position.increment;
    const struct rowtype *rowtype = s->facts.rowtype;

    for (size_t k = 0; k < rowtype->n_key; k++)
        if (rowtype->columns[rowtype->key[k]].wants_to_json)
            return err_set(e, ERR_REFUSED, "%s.%s: column \"%s\": no page can begin after a key "
                           "of type %s: name other columns in pk", s->facts.table.schema,
                           s->facts.table.name, rowtype->columns[rowtype->key[k]].name,
                           rowtype->columns[rowtype->key[k]].type);
    if (i->column != NULL && !method_increment_has_column(s))
        return err_set(e, ERR_REFUSED, "%s.%s: the position goes by column \"%s\", of the type "
                       "that it had: forget it with --reset", s->facts.table.schema,
                       s->facts.table.name, i->column);
    return true;
}

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    struct increment *i = &s->position.increment;
    struct pages *g = &s->position.pages;
    struct step *own = step->own;
    int64_t lookback = method_increment_lookback(s);

    buf_init(&own->last_key, SIZE_MAX / 2);
    buf_init(&own->key, SIZE_MAX / 2);
    step->copy = &page;
    step->is_held = true;
    if (g->reached_key != NULL)
        return true; /* the round goes on */
    if (!check_round(s, e) || !method_increment_read_top(s, conn, &own->has_top, &own->top, e))
        return false;
    g->xmax = s->facts.snapshot.xmax;
    g->has_top = own->has_top;
    g->top = own->top;
    if (i->column != NULL)
        return true;
    i->base = g->has_top && g->top > INCREMENT_LOWEST + lookback ? g->top - lookback
                                                                 : INCREMENT_LOWEST;
    return method_increment_set_column(s, e);
}

/* The next page begins after the last row of this one. */
static bool set_reached(struct pages *g, const struct step *own)
{
    free(g->reached_key);
    g->reached_key = NULL;
    if (own->n < PAGES_ROWS)
        return true;
    g->reached = own->last;
    return (g->reached_key = strdup(own->last_key.data)) != NULL;
}

static bool finish_round(struct source *s, struct err *e)
{
    struct pages *g = &s->position.pages;
    const struct increment_poll poll = {
        .xmax = g->xmax,
        .top = g->has_top ? &g->top : NULL,
        .lookback = method_increment_lookback(s),
    };

    g->is_silent = false;
    if (!increment_advance(&s->position.increment, &s->position.horizon, &poll))
        return err_memory(e);
    pages_forget(g, s->position.increment.base);
    return source_know_leaves(s, e);
}

static bool advance(struct source *s, struct method_step *step, struct err *e)
{
    struct pages *g = &s->position.pages;
    const struct step *own = step->own;
    const struct xidset nothing = { 0 };
    bool is_first = g->reached_key == NULL;

    if (!pages_rows_merge(&g->given, &own->fresh) || !set_reached(g, own))
        return err_memory(e);
    /* a transaction that was under way at the first page may have committed between later pages */
    if (is_first && !horizon_advance(&s->position.horizon, &s->facts.snapshot, &nothing,
                                     source_durable_bound(s)))
        return err_memory(e);
    step->goes_on = g->reached_key != NULL;
    return step->goes_on || finish_round(s, e);
}

const struct method method_pages = {
    .capture = CONFIG_BY_INCREMENT,
    .put_try = put_try,
    .holds = holds,
    .begin_position = begin_position,
    .is_silent = is_silent,
    .wants_poll = wants_poll,
    .step_size = sizeof(struct step),
    .step_fini = fini_step,
    .begin = begin,
    .advance = advance,
};
