/* round.c -- what the server is asked in common for sources that are due at the same time.
 * SPDX-License-Identifier: MIT */
#include "capture/round.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/hash.h"
#include "capture/counters.h"
#include "capture/fault.h"
#include "capture/hinted.h"
#include "capture/method.h"
#include "capture/sql_round.h"

#include <stdlib.h>
#include <string.h>

#define LEAST 2          /* for one source alone a transaction of the round spares nothing */
#define OWN_MS 60000     /* a source takes a step of its own after this */
#define PATIENCE_MS 1000 /* a transaction waits no longer for the WAL to be flushed */
#define WAIT_MS 2        /* the first wait; each is longer than the last */
#define LONGEST_WAIT_MS 50

/* A source whose poll may be over without a step. */
struct candidate {
    size_t number;  /* in the round */
    struct source *source;
    bool is_same;   /* the server and the table are as they were in its last step */
    size_t n_seen;  /* how many leaves were seen */
    uint64_t hash;  /* of the rows of the catalog */
};

/* A leaf of a note. */
struct file {
    uint32_t filenode;
    size_t candidate;
};

struct round {
    struct step *const *steps;
    size_t n;
    enum round_found *found;
    struct begin_facts now;
    struct candidate *candidates;
    size_t n_candidates, cap_candidates;
    struct file *files;
    size_t n_files, cap_files;
    struct sql_hints_source *reads;
    uint32_t *filenodes;
};

static void fini(struct round *r)
{
    begin_facts_fini(&r->now);
    free(r->candidates);
    free(r->files);
    free(r->reads);
    free(r->filenodes);
}

bool round_may_have(struct step *step)
{
    const struct source *s = step_source(step);

    return step_is_resolved(step) && step_is_complete(step) && !step_is_in_snapshot(step) &&
           s->declared->capture == CONFIG_BY_XMIN && !s->config->is_joint;
}

/* Runs <sql>, which it frees. */
static bool ask(struct conn *conn, struct buf *sql, const struct result_shape *shapes,
                struct result **rows, size_t n, struct err *e)
{
    bool ok = buf_ok(sql) ? conn_run(conn, sql->data, shapes, rows, n, e) : err_memory(e);

    buf_fini(sql);
    return ok;
}

/* ---- glance and counters ---- */

static bool glance(struct round *r, struct conn *conn, struct err *e)
{
    if (!begin_glance(&r->now, conn, e))
        return false;
    for (size_t i = 0; i < r->n; i++) {
        bool is_due, has_risen;

        if (!step_take_glance(r->steps[i], &r->now, &is_due, e))
            return false;
        if (is_due)
            continue;
        if (!step_rise(r->steps[i], &has_risen, e))
            return false;
        r->found[i] = has_risen ? ROUND_MOVES : ROUND_NOTHING;
    }
    return true;
}

static bool ask_counters(struct round *r, struct source **asked, struct conn *conn, struct err *e)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++)
        if (r->found[i] == ROUND_POLLS && counters_are_wanted(step_source(r->steps[i])))
            asked[n++] = step_source(r->steps[i]);
    if (n == 0)
        return true;
    if (!counters_ask(asked, n, conn, e))
        return false;
    for (size_t i = 0; i < r->n; i++)
        if (r->found[i] == ROUND_POLLS && step_rest(r->steps[i]))
            r->found[i] = ROUND_QUIET;
    return true;
}

static bool look_at_counters(struct round *r, struct conn *conn, struct err *e)
{
    struct source **asked = calloc(r->n, sizeof(struct source *));
    bool ok = asked != NULL ? ask_counters(r, asked, conn, e) : err_memory(e);

    free(asked);
    return ok;
}

/* ---- tables ---- */

static bool find_candidates(struct round *r, struct err *e)
{
    for (size_t i = 0; i < r->n; i++) {
        struct source *s = step_source(r->steps[i]);
        const struct candidate c = { .number = i, .source = s };

        if (r->found[i] == ROUND_POLLS && step_may_pass(r->steps[i]) && hinted_has_note(s) &&
            !ARRAY_PUSH(r->candidates, r->n_candidates, r->cap_candidates, c))
            return err_memory(e);
    }
    return true;
}

/* Adds a row of the catalog, with the oid, the file and the kind of a table, its xmin and, of the
 * root, the sum of those of its columns. */
static void add_row(struct candidate *c, const struct result *rows, size_t i)
{
    const struct relation *t = &c->source->facts.table;
    const uint32_t oid = result_u32(rows, i, 1), filenode = result_u32(rows, i, 2);
    const uint64_t marks[] = { oid, result_u64(rows, i, 4), result_u64(rows, i, 5) };

    c->hash = hash_bytes(c->hash, marks, sizeof marks);
    if (*result_text(rows, i, 3) == 'p') /* it has no rows of its own */
        return;
    if (c->n_seen >= t->n_leaves || t->leaves[c->n_seen].oid != oid ||
        t->leaves[c->n_seen].filenode != filenode || filenode == 0)
        c->is_same = false;
    c->n_seen++;
}

/* Holds the rows of the catalog against the last step of each source. */
static void compare_tables(struct round *r, const struct result *rows)
{
    int64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < r->n_candidates; i++) {
        r->candidates[i].hash = HASH_START;
        r->candidates[i].is_same = true;
    }
    for (size_t i = 0; i < result_count(rows); i++)
        if (result_u32(rows, i, 0) < r->n_candidates)
            add_row(&r->candidates[result_u32(rows, i, 0)], rows, i);
    for (size_t i = 0; i < r->n_candidates; i++) {
        struct candidate *c = &r->candidates[i];
        struct source_round *known = &c->source->round;

        c->is_same = c->is_same && c->n_seen > 0 && c->n_seen == c->source->facts.table.n_leaves &&
                     known->is_known && known->known == c->hash &&
                     now_ms - known->polled_ms < OWN_MS;
        known->asked = c->hash;
        known->is_asked = true;
    }
}

/* True if the server is the one of the note, and of the position. */
static bool is_same_server(const struct round *r, const struct source *s)
{
    char why[200];
    bool is_other;

    return identity_compare(&s->position.identity, &r->now.identity, why, sizeof why) ==
           IDENTITY_SAME && hints_is_of(&s->hints.rule, &r->now.identity, &is_other);
}

/* Opens the transaction. *flush: how far the WAL is flushed, or replayed. *is_known false: the
 * server was promoted meanwhile. */
static bool open(struct round *r, struct conn *conn, uint64_t *flush, bool *is_known,
                 struct err *e)
{
    struct result *rows[SQL_ROUND_TABLES] = { NULL };
    const struct relation **tables = calloc(r->n_candidates, sizeof *tables);
    struct buf sql;
    bool ok = tables != NULL;

    buf_init(&sql, BUF_SQL_MAX);
    for (size_t i = 0; ok && i < r->n_candidates; i++)
        tables[i] = &r->candidates[i].source->facts.table;
    if (ok)
        sql_round_tables(&sql, tables, r->n_candidates);
    ok = ok && buf_ok(&sql) ? begin_unlocked(&r->now, conn, sql.data, sql_round_tables_shapes, rows,
                                             SQL_ROUND_TABLES, e)
                            : err_memory(e);
    if (ok) {
        compare_tables(r, rows[0]);
        *flush = result_u64(rows[1], 0, 0);
        *is_known = result_bool(rows[1], 0, 1) == r->now.identity.in_recovery;
    }
    for (size_t i = 0; i < SQL_ROUND_TABLES; i++)
        result_free(rows[i]);
    buf_fini(&sql);
    free(tables);
    return ok;
}

/* Drops the candidates whose note is of another server. */
static void drop_strangers(struct round *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_candidates; i++)
        if (is_same_server(r, r->candidates[i].source))
            r->candidates[n++] = r->candidates[i];
    r->n_candidates = n;
}

/* ---- the WAL ---- */

/* How long all of this may take: as long as steps of their own would. */
static int64_t most_ms(const struct round *r)
{
    int64_t most = 0;

    for (size_t i = 0; i < r->n_candidates; i++)
        most += hinted_most_ms(r->candidates[i].source);
    return most;
}

static uint64_t oldest(const struct round *r)
{
    uint64_t lsn = UINT64_MAX;

    for (size_t i = 0; i < r->n_candidates; i++)
        if (r->candidates[i].source->hints.rule.read_to < lsn)
            lsn = r->candidates[i].source->hints.rule.read_to;
    return lsn;
}

static bool wait_for_flush(const struct round *r, struct conn *conn, uint64_t *flush, uint64_t end,
                           struct err *e)
{
    int64_t most = most_ms(r), until = clock_mono_ms() + (most < PATIENCE_MS ? most : PATIENCE_MS);

    for (int ms = WAIT_MS; hints_must_wait(*flush, end) && clock_mono_ms() < until;
         ms = ms < LONGEST_WAIT_MS ? 2 * ms : ms) {
        struct result *rows = NULL;
        struct buf sql;
        bool ok;

        buf_init(&sql, BUF_SQL_MAX);
        sql_hints_wait(&sql, ms);
        ok = ask(conn, &sql, &sql_hints_wait_shape, &rows, 1, e);
        *flush = ok ? result_u64(rows, 0, 0) : 0;
        result_free(rows);
        if (!ok)
            return false;
    }
    return true;
}

static int compare_files(const void *a, const void *b)
{
    const struct file *x = a, *y = b;

    return x->filenode < y->filenode ? -1 : x->filenode > y->filenode;
}

static bool collect_files(struct round *r)
{
    for (size_t i = 0; i < r->n_candidates; i++) {
        const struct hints *h = &r->candidates[i].source->hints.rule;

        for (size_t k = 0; k < h->n_leaves; k++) {
            const struct file file = { h->leaves[k].filenode, i };

            if (!ARRAY_PUSH(r->files, r->n_files, r->cap_files, file))
                return false;
        }
    }
    if (r->n_files > 1)
        qsort(r->files, r->n_files, sizeof *r->files, compare_files);
    return true;
}

/* Fills <reads>: a call for each table that has a function of its own, and one for each other
 * function. Sets how many they are. False: out of memory. */
static bool plan_reads(struct round *r, uint64_t from, uint64_t end, size_t *n)
{
    r->reads = calloc(r->n_candidates, sizeof *r->reads);
    r->filenodes = calloc(r->n_files + 1, sizeof *r->filenodes);
    *n = 0;
    if (r->reads == NULL || r->filenodes == NULL)
        return false;
    for (size_t i = 0; i < r->n_files; i++)
        r->filenodes[i] = r->files[i].filenode;
    for (size_t i = 0; i < r->n_candidates; i++) {
        const struct source_hints *h = &r->candidates[i].source->hints;
        size_t k = 0;

        while (k < *n && strcmp(r->reads[k].function, h->function) != 0)
            k++;
        if (k < *n)
            continue;
        r->reads[(*n)++] = (struct sql_hints_source){
            .kind = h->kind, .function = h->function, .from = from, .to = end,
            .filenodes = r->filenodes, .n_filenodes = r->n_files,
        };
    }
    return true;
}

/* Gives each candidate the pairs of its files. */
static bool take_pairs(struct round *r, const struct result *rows, struct err *e)
{
    for (size_t i = 0; i < result_count(rows); i++) {
        const uint32_t filenode = result_u32(rows, i, 1);
        size_t low = 0, high = r->n_files;

        while (low < high) {
            size_t middle = low + (high - low) / 2;

            if (r->files[middle].filenode < filenode)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < r->n_files && r->files[low].filenode == filenode; low++)
            if (!hinted_add_pair(r->candidates[r->files[low].candidate].source, rows, i))
                return err_memory(e);
    }
    return true;
}

/* Reads the WAL up to <end>, for all candidates. *is_read false: there is too much of it. */
static bool read_wal(struct round *r, struct conn *conn, uint64_t end, bool *is_read,
                     struct err *e)
{
    uint64_t from = oldest(r);
    struct result *rows = NULL;
    struct buf sql;
    size_t n;
    bool ok;

    *is_read = false;
    if (end < from || end - from > (uint64_t)most_ms(r) * HINTED_WAL_BYTES_A_MS)
        return true;
    if (!collect_files(r) || !plan_reads(r, from, end, &n))
        return err_memory(e);
    buf_init(&sql, BUF_SQL_MAX);
    if (end > from) {
        sql_hints_wal(&sql, r->reads, n);
        ok = ask(conn, &sql, &sql_hints_wal_shape, &rows, 1, e);
    } else {
        buf_fini(&sql);
        ok = true;
    }
    *is_read = ok && (rows == NULL || result_count(rows) <= HINTS_MOST_PAIRS);
    if (*is_read && rows != NULL)
        ok = take_pairs(r, rows, e);
    result_free(rows);
    for (size_t i = 0; ok && *is_read && i < r->n_candidates; i++)
        hinted_have_read(r->candidates[i].source, end);
    return ok;
}

/* ---- polls that are over ---- */

/* The position of each candidate of which nothing was written moves over the snapshot. */
static bool pass(struct round *r, struct conn *conn, size_t *at, struct err *e)
{
    for (size_t i = 0; i < r->n_candidates; i++) {
        const struct candidate *c = &r->candidates[i];
        bool passes;

        *at = c->number;
        if (!c->is_same)
            continue;
        if (!hinted_pass(c->source, conn, &passes, e))
            return false;
        if (!passes)
            continue;
        if (!begin_share(&c->source->facts, &r->now, true, e))
            return false;
        source_keep_identity(c->source);
        step_pass(r->steps[c->number]);
        r->found[c->number] = ROUND_MOVES;
    }
    return true;
}

static bool look_at_wal(struct round *r, struct conn *conn, size_t *at, struct err *e)
{
    bool is_known, is_read = false;
    uint64_t flush, end;

    if (!open(r, conn, &flush, &is_known, e))
        return false;
    drop_strangers(r);
    end = hints_end(&r->now.identity, flush);
    if (is_known && r->n_candidates > 0) {
        if (!wait_for_flush(r, conn, &flush, end, e))
            return false;
        if (!hints_must_wait(flush, end) && !read_wal(r, conn, end, &is_read, e))
            return false;
        if (is_read && !pass(r, conn, at, e))
            return false;
    }
    return conn_run(conn, "COMMIT", NULL, NULL, 0, e);
}

bool round_ask(struct step *const *steps, size_t n, struct conn *conn, enum round_found *found,
               size_t *at, struct err *e)
{
    struct round r = { .steps = steps, .n = n, .found = found };
    bool ok;

    *at = 0;
    for (size_t i = 0; i < n; i++)
        found[i] = ROUND_POLLS;
    ok = glance(&r, conn, e) && look_at_counters(&r, conn, e) && find_candidates(&r, e);
    if (ok && r.n_candidates >= LEAST)
        ok = look_at_wal(&r, conn, at, e);
    if (!ok)
        conn_rollback(conn);
    fini(&r);
    return ok;
}
