/* hinted.c -- asks the server which blocks a poll must read.
 * SPDX-License-Identifier: MIT */
#include "capture/hinted.h"

#include "base/clock.h"
#include "capture/method.h"
#include "capture/wal_summaries.h"
#include "pg/sqlstate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_VERSION 150000
#define ASK_AGAIN_MS 3600000     /* after that the server may allow it */
#define NOTE_BYTES (1u << 20)    /* so much WAL later a younger note is taken */
#define BLOCKS_A_MS 200          /* how fast a table is scanned, until a scan was seen */
#define PATIENCE_MS 1000         /* where it must work, so long is waited, and WAL read */
#define WAIT_MS 2                /* the first wait for the flush; each is longer than the last */
#define LONGEST_WAIT_MS 50

static bool wants_hints(const struct source *s)
{
    const struct config *c = s->config;

    return c->hints != CONFIG_HINTS_NEVER &&
           (c->capture == CONFIG_BY_XMIN ||
            (c->capture == CONFIG_BY_INCREMENT && c->recheck_ms > 0));
}

/* True if the source is to end where hints do not work. */
static bool must_work(const struct source *s)
{
    return s->config->hints >= CONFIG_HINTS_WAL;
}

/* Runs <sql>, which it frees. */
static bool ask(struct conn *conn, struct buf *sql, const struct result_shape *shapes,
                struct result **rows, size_t n, struct err *e)
{
    bool ok = buf_ok(sql) ? conn_run(conn, sql->data, shapes, rows, n, e) : err_memory(e);

    buf_fini(sql);
    return ok;
}

/* The note is of no use any more: the next step takes another one. */
static void drop_note(struct source *s, const char *why)
{
    hints_drop(&s->hints.rule);
    s->position.hint_xid = s->position.hint_lsn = 0;
    s->hints.why = why;
}

/* ---- what can read the WAL ---- */

/* Sets ERR_REFUSED, for a source that says that hints must work. */
static bool refuse(const struct source *s, struct conn *conn, const struct result *r,
                   struct err *e)
{
    const struct relation *t = &s->facts.table;
    const char *mode = s->config->hints == CONFIG_HINTS_WAL ? "wal" : "check";
    int version = conn_version(conn);

    if (r == NULL)
        return err_set(e, ERR_REFUSED, "hints = \"%s\" needs Postgres 15 or later, and this server "
                       "is %d.%d: leave hints out, and the table is scanned", mode,
                       version / 10000, version % 10000);
    if (result_bool(r, 0, 4))
        return err_set(e, ERR_REFUSED, "hints = \"%s\": the WAL does not have %s.%s, which is "
                       "unlogged or shared by all databases: leave hints out", mode, t->schema,
                       t->name);
    if (result_text(r, 0, 1) == NULL)
        return err_set(e, ERR_REFUSED, "hints = \"%s\" needs the extension pg_walinspect: as a "
                       "superuser run pgcdc-lua hints action=install table=%s.%s readers=%s, or "
                       "CREATE EXTENSION pg_walinspect", mode, t->schema, t->name,
                       conn_role(conn));
    return err_set(e, ERR_REFUSED, "hints = \"%s\": the role %s may not read the WAL: as a "
                   "superuser run pgcdc-lua hints action=install table=%s.%s readers=%s, or GRANT "
                   "EXECUTE ON FUNCTION %s TO %s, which lets it read the bytes of every table",
                   mode, conn_role(conn), t->schema, t->name, conn_role(conn),
                   result_text(r, 0, 1), conn_role(conn));
}

/* Takes the function that the answer to the probe names. False: out of memory. */
static bool take_function(struct source *s, const struct result *r)
{
    struct source_hints *h = &s->hints;
    const char *own = result_text(r, 0, 0), *other = result_text(r, 0, 1);

    h->why = NULL;
    if (result_bool(r, 0, 4)) {
        h->why = "not in the WAL";
        return true;
    }
    if (own == NULL && (other == NULL || !result_bool(r, 0, 3))) {
        h->why = other == NULL ? "no pg_walinspect"
                               : "no right to read the WAL";
        return true;
    }
    h->kind = own != NULL ? SQL_HINTS_OWN
              : result_bool(r, 0, 2) ? SQL_HINTS_BLOCKS
                                     : SQL_HINTS_RECORDS;
    h->function = strdup(own != NULL ? own : other);
    return h->function != NULL;
}

/* Asks the server, if it is time, what can read the WAL: s->hints.function, NULL for nothing. */
static bool find_function(struct source *s, struct conn *conn, struct err *e)
{
    struct source_hints *h = &s->hints;
    struct result *r = NULL;
    struct buf sql;
    bool ok = true, is_first = h->ask_ms == 0;

    if (h->function != NULL || clock_mono_ms() < h->ask_ms)
        return true;
    h->ask_ms = clock_mono_ms() + ASK_AGAIN_MS;
    if (conn_version(conn) < FIRST_VERSION) {
        h->why = "Postgres 14";
    } else {
        buf_init(&sql, BUF_SQL_MAX);
        sql_hints_probe(&sql, &s->facts.table);
        ok = ask(conn, &sql, &sql_hints_probe_shape, &r, 1, e) &&
             (take_function(s, r) || err_memory(e));
    }
    if (!ok)
        h->ask_ms = 0;
    else if (h->function == NULL && must_work(s))
        ok = refuse(s, conn, r, e);
    else if (is_first && r != NULL && result_bool(r, 0, 4))
        ok = source_add_notice(s, LOG_INFO, "the WAL does not have the table, which is unlogged or "
                               "shared by all databases: each poll scans it", e);
    result_free(r);
    return ok;
}

/* ---- notes ---- */

/* The kept note is the one that is used. False: out of memory. */
static bool take_kept(struct source *s, const struct identity *server)
{
    struct position *p = &s->position;
    struct hints *h = &s->hints.rule;

    hints_begin_note(h, p->hint_lsn, server);
    for (size_t i = 0; i < p->n_leaves; i++)
        if (!hints_add_leaf(h, p->leaves[i].oid, p->leaves[i].filenode))
            return false;
    hints_end_note(h, p->hint_xid);
    return true;
}

/* Takes the answers to sql_hints_note as a new note, or, where there is one of the same run of the
 * server, as a younger one. */
static bool take_note(struct source *s, struct result *const *rows, struct err *e)
{
    struct hints *h = &s->hints.rule;
    uint64_t lsn = result_u64(rows[0], 0, 0), xid;
    struct identity server = { 0 };
    int64_t age = 0;
    bool is_other;

    if (!identity_read(&server, rows[3], 1, e))
        return false;
    if (server.in_recovery != result_bool(rows[0], 0, 1)) /* it is being promoted */
        return true;
    (void)result_i64(rows[2], 0, 1, &age);
    xid = hints_next_xid(result_u64(rows[2], 0, 0), age);
    if (h->xid != 0) {
        if (hints_is_of(h, &server, &is_other)) {
            h->next_xid = xid;
            h->next_lsn = lsn;
        }
        return true;
    }
    hints_begin_note(h, lsn, &server);
    for (size_t i = 0; i < result_count(rows[1]); i++)
        if (!hints_add_leaf(h, result_u32(rows[1], i, 0), result_u32(rows[1], i, 1)))
            return err_memory(e);
    hints_end_note(h, xid);
    return true;
}

static bool ask_note(struct source *s, struct conn *conn, struct err *e)
{
    struct result_shape shapes[SQL_HINTS_NOTE];
    struct result *rows[SQL_HINTS_NOTE] = { NULL };
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_hints_note(&sql, &s->facts.table, shapes);
    ok = ask(conn, &sql, shapes, rows, SQL_HINTS_NOTE, e) && take_note(s, rows, e);
    for (size_t i = 0; i < SQL_HINTS_NOTE; i++)
        result_free(rows[i]);
    return ok;
}

/* True if a note is to be taken: there is none, or the one that is kept is old. */
static bool wants_note(const struct source *s)
{
    const struct hints *h = &s->hints.rule;
    const struct position *p = &s->position;

    return h->xid == 0 || (h->next_xid == 0 && p->hint_xid != 0 &&
                           p->hint_lsn + NOTE_BYTES < s->facts.identity.lsn);
}

bool hinted_look(struct source *s, struct conn *conn, struct err *e)
{
    const struct position *p = &s->position;

    s->hints.is_used = false;
    s->hints.wal_bytes = s->hints.n_summaries = 0;
    if (!wants_hints(s))
        return true;
    if (!find_function(s, conn, e))
        return false;
    if (s->hints.function == NULL)
        return true;
    if (s->hints.rule.xid == 0 && p->hint_xid != 0 && !take_kept(s, &p->identity))
        return err_memory(e);
    return !wants_note(s) || ask_note(s, conn, e);
}

/* ---- the poll's transaction ---- */

/* How long a scan takes, as far as that is known. */
static int64_t scan_ms(const struct source *s)
{
    int64_t guess = (int64_t)(s->hints.of_blocks / BLOCKS_A_MS);

    return s->hints.scan_ms > guess ? s->hints.scan_ms : guess;
}

int64_t hinted_most_ms(const struct source *s)
{
    int64_t most = scan_ms(s), least = must_work(s) ? PATIENCE_MS : WAIT_MS;

    return most > least ? most : least;
}

/* True if the note speaks of the server, and of the table, as they are now. Otherwise drops what is
 * of no use. */
static bool is_valid(struct source *s)
{
    struct hints *h = &s->hints.rule;
    bool is_other;

    if (!hints_is_of(h, &s->facts.identity, &is_other)) {
        if (is_other || s->position.hint_xid == 0 || !take_kept(s, &s->facts.identity)) {
            drop_note(s, "the server is another one, or was started anew");
            return false;
        }
    }
    if (hints_has_leaves(h, &s->facts.table))
        return true;
    drop_note(s, "the table was written anew, or has other partitions");
    return false;
}

/* E, and how far the WAL is flushed. *is_known false: it cannot be read up to there. */
static bool ask_end(struct source *s, struct conn *conn, uint64_t *end, uint64_t *flush,
                    bool *is_known, struct err *e)
{
    struct hints *h = &s->hints.rule;
    struct result *r = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_hints_end(&sql, &s->facts.table);
    ok = ask(conn, &sql, &sql_hints_end_shape, &r, 1, e);
    if (ok) {
        *flush = result_u64(r, 0, 0);
        *end = hints_end(&s->facts.identity, *flush);
        s->hints.of_blocks = result_u64(r, 0, 2);
        *is_known = result_bool(r, 0, 1) == h->server.in_recovery && *end >= h->read_to;
    }
    result_free(r);
    if (!ok)
        return false;
    if (!*is_known)
        drop_note(s, "the WAL is another one");
    return true;
}

/* Waits until the WAL is flushed up to <end>. *is_flushed false: it was not, in time. */
static bool wait_for_flush(struct source *s, struct conn *conn, uint64_t flush, uint64_t end,
                           bool *is_flushed, struct err *e)
{
    int64_t most = hinted_most_ms(s);
    int64_t until = clock_mono_ms() + (most < PATIENCE_MS ? most : PATIENCE_MS);
    int64_t began_ns = clock_mono_ns();

    for (int ms = WAIT_MS; hints_must_wait(flush, end) && clock_mono_ms() < until;
         ms = ms < LONGEST_WAIT_MS ? 2 * ms : ms) {
        struct result *r = NULL;
        struct buf sql;
        bool ok;

        buf_init(&sql, BUF_SQL_MAX);
        sql_hints_wait(&sql, ms);
        ok = ask(conn, &sql, &sql_hints_wait_shape, &r, 1, e);
        flush = ok ? result_u64(r, 0, 0) : 0;
        result_free(r);
        if (!ok)
            return false;
    }
    s->hints.flush_us = (clock_mono_ns() - began_ns) / 1000;
    *is_flushed = !hints_must_wait(flush, end);
    if (!*is_flushed)
        s->hints.why = "the WAL was not flushed in time";
    return true;
}

/* The WAL could not be read, because of <why>: goes on without it. */
static bool forgive(struct source *s, const struct err *why, struct err *e)
{
    bool is_denied = strncmp(why->sqlstate, "42", 2) == 0 || strcmp(why->sqlstate, "3F000") == 0;
    char text[300];

    snprintf(text, sizeof text, "the WAL cannot be read, so the table is scanned: %.200s",
             why->msg);
    drop_note(s, "the WAL could not be read");
    if (is_denied) { /* of what there is now the next step will tell, if it must */
        free(s->hints.function);
        s->hints.function = NULL;
        s->hints.ask_ms = must_work(s) ? 0 : clock_mono_ms() + ASK_AGAIN_MS;
    }
    return source_add_notice(s, LOG_INFO, text, e);
}

bool hinted_add_pair(struct source *s, const struct result *rows, size_t i)
{
    const struct horizon horizon = position_scan_horizon(&s->position);
    uint64_t xid = hints_widen((uint32_t)result_u64(rows, i, 0), horizon.floor);

    return !horizon_is_new(&horizon, xid) ||
           hints_add(&s->hints.rule, xid, result_u32(rows, i, 1),
                     (uint32_t)result_u64(rows, i, 2));
}

/* Adds the pairs. */
static bool take_pairs(struct source *s, const struct result *r, struct err *e)
{
    for (size_t i = 0; i < result_count(r); i++)
        if (!hinted_add_pair(s, r, i))
            return err_memory(e);
    return true;
}

/* What came of reading the WAL. */
enum wal { WAL_READ, WAL_IS_LONG, WAL_FAILED, WAL_DROPPED };

/* Reads the WAL from R to <end>. WAL_DROPPED: the note was; WAL_FAILED: because of *why; the
 * transaction is as before. */
static bool read_wal(struct source *s, struct conn *conn, uint64_t end, enum wal *wal,
                     struct err *why, struct err *e)
{
    struct hints *h = &s->hints.rule;
    struct sql_hints_source source = {
        .kind = s->hints.kind, .function = s->hints.function, .from = h->read_to, .to = end,
        .n_filenodes = h->n_leaves,
    };
    uint32_t *filenodes;
    struct result *r = NULL;
    struct buf sql;
    bool ok;

    *wal = WAL_READ;
    if (end <= h->read_to)
        return true;
    *wal = WAL_IS_LONG;
    if (end - h->read_to > (uint64_t)hinted_most_ms(s) * HINTED_WAL_BYTES_A_MS)
        return true;
    s->hints.wal_bytes = end - h->read_to;
    if ((filenodes = calloc(h->n_leaves + 1, sizeof *filenodes)) == NULL)
        return err_memory(e);
    source.filenodes = filenodes;
    for (size_t i = 0; i < h->n_leaves; i++)
        filenodes[i] = h->leaves[i].filenode;
    buf_init(&sql, BUF_SQL_MAX);
    sql_hints_wal(&sql, &source, 1);
    free(filenodes);
    if (!ask(conn, &sql, &sql_hints_wal_shape, &r, 1, e)) {
        *wal = WAL_FAILED;
        *why = *e;
        return !sqlstate_ends_transaction(e) &&
               conn_run(conn, sql_hints_undo, NULL, NULL, 0, e);
    }
    *wal = result_count(r) + h->n_pairs <= HINTS_MOST_PAIRS ? WAL_READ : WAL_DROPPED;
    ok = *wal == WAL_DROPPED || take_pairs(s, r, e);
    if (*wal == WAL_DROPPED)
        drop_note(s, "too much was written");
    else if (ok)
        hints_have_read(h, end);
    result_free(r);
    return ok;
}

/* Reads what was written from R to <end>: of the WAL or, where that was removed or is too long, of
 * summaries first. *is_read false: the note was dropped. */
static bool read_changes(struct source *s, struct conn *conn, uint64_t end, bool *is_read,
                         struct err *e)
{
    const uint64_t from = s->hints.rule.read_to;
    struct err why;
    enum wal wal;

    s->hints.wal_bytes = s->hints.n_summaries = 0;
    if (!read_wal(s, conn, end, &wal, &why, e))
        return false;
    if (wal == WAL_IS_LONG || wal == WAL_FAILED) {
        if (!wal_summaries_read(s, conn, e) ||
            (s->hints.rule.read_to > from && !read_wal(s, conn, end, &wal, &why, e)))
            return false;
    }
    *is_read = wal == WAL_READ;
    if (wal == WAL_IS_LONG)
        drop_note(s, "there is so much WAL that a scan is quicker");
    return wal != WAL_FAILED || forgive(s, &why, e);
}

/* Chooses the blocks of the poll, if it is armed and that pays. */
static bool choose_blocks(struct source *s, struct err *e)
{
    const struct horizon horizon = position_scan_horizon(&s->position);
    struct source_hints *h = &s->hints;
    char text[160];

    if (!hints_is_armed(&h->rule, &horizon)) {
        int64_t now = clock_mono_ms();

        h->why = "a transaction that is older than the note is under way";
        h->late_ms = h->late_ms != 0 ? h->late_ms : now;
        if (now - h->late_ms < HINTED_LATE_MS)
            return true;
        h->late_ms = now;
        snprintf(text, sizeof text, "the table is scanned, since a transaction has been open or "
                 "prepared for an hour: all xids from %" PRIu64 " on may be its own",
                 horizon.floor);
        return source_add_notice(s, LOG_WARN, text, e);
    }
    h->late_ms = 0;
    if (!hints_plan(&h->rule, &horizon, &h->blocks))
        return err_memory(e);
    h->why = "half of the table was written";
    h->is_used = h->rule.n_ranges <= HINTS_MOST_RANGES &&
                 (2 * h->blocks <= h->of_blocks || s->config->hints == CONFIG_HINTS_CHECK);
    return true;
}

/* Compares with a scan. */
static bool compare(struct source *s, const struct sql_query *q, struct conn *conn, struct err *e)
{
    struct result *r = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_hints_compare(&sql, q, &s->position, &s->hints.rule);
    ok = ask(conn, &sql, &sql_hints_compare_shape, &r, 1, e);
    if (ok && result_u64(r, 0, 0) > 0)
        ok = err_set(e, ERR_INTERNAL, "hints = \"check\": a scan finds %" PRIu64 " rows that are "
                     "in none of the blocks which the WAL names: say hints = false, and report it",
                     result_u64(r, 0, 0));
    result_free(r);
    return ok;
}

bool hinted_begin(struct source *s, const struct sql_query *q, struct conn *conn, struct err *e)
{
    struct source_hints *h = &s->hints;
    uint64_t end, flush;
    bool goes_on;

    h->is_used = false;
    h->flush_us = 0;
    h->began_ms = clock_mono_ms();
    if (h->function == NULL || h->rule.xid == 0 || !is_valid(s))
        return true;
    if (!ask_end(s, conn, &end, &flush, &goes_on, e))
        return false;
    if (!goes_on)
        return true;
    if (!wait_for_flush(s, conn, flush, end, &goes_on, e))
        return false;
    if (!goes_on)
        return true;
    if (!read_changes(s, conn, end, &goes_on, e))
        return false;
    if (!goes_on)
        return true;
    if (!choose_blocks(s, e))
        return false;
    return !h->is_used || s->config->hints != CONFIG_HINTS_CHECK || compare(s, q, conn, e);
}

bool hinted_has_note(const struct source *s)
{
    return s->hints.function != NULL && s->hints.rule.xid != 0;
}

void hinted_have_read(struct source *s, uint64_t end)
{
    struct hints *h = &s->hints.rule;

    s->hints.wal_bytes = end > h->read_to ? end - h->read_to : 0;
    hints_have_read(h, end);
}

bool hinted_pass(struct source *s, struct conn *conn, bool *passes, struct err *e)
{
    struct source_hints *h = &s->hints;
    const struct sql_query q = method_query(s);
    struct buf sql;
    bool ok;

    *passes = false;
    if (!hints_is_armed(&h->rule, &s->position.horizon) ||
        !hints_has_leaves(&h->rule, &s->facts.table))
        return true;
    if (!hints_plan(&h->rule, &s->position.horizon, &h->blocks))
        return err_memory(e);
    *passes = h->is_used = h->rule.n_pairs == 0;
    if (!*passes || s->config->hints != CONFIG_HINTS_CHECK)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_switch(&sql, s->config->rls, false);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok && compare(s, &q, conn, e);
}

void hinted_advance(struct source *s)
{
    const struct horizon horizon = position_scan_horizon(&s->position);
    struct source_hints *h = &s->hints;

    if (!h->is_used)
        h->scan_ms = clock_mono_ms() - h->began_ms;
    if (h->rule.xid != 0)
        hints_forget(&h->rule, &horizon, &s->position.hint_xid,
                     &s->position.hint_lsn);
}

/* ---- for people ---- */

void hinted_put_figures(const struct source *s, struct buf *b)
{
    const struct source_hints *h = &s->hints;

    if (h->is_used)
        buf_printf(b, "read=hint blocks=%" PRIu64 " of=%" PRIu64 " wal_bytes=%" PRIu64, h->blocks,
                   h->of_blocks, h->wal_bytes);
    else if (s->config->capture == CONFIG_BY_XMIN)
        buf_puts(b, "read=scan");
    if (h->is_used && h->n_summaries > 0)
        buf_printf(b, " summaries=%" PRIu64, h->n_summaries);
    if (h->is_used && s->round.is_passed)
        buf_puts(b, " in a round");
    if (h->flush_us >= 1000)
        buf_printf(b, " flush_wait=%.3f", (double)h->flush_us / 1e6);
    if (!h->is_used && h->why != NULL && wants_hints(s) && s->config->capture == CONFIG_BY_XMIN)
        buf_printf(b, " (%s)", h->why);
}

bool hinted_report(struct source *s, struct conn *conn, struct buf *b, struct err *e)
{
    if (!wants_hints(s))
        return true;
    if (!find_function(s, conn, e))
        return false;
    if (s->hints.function != NULL)
        buf_printf(b, ", %sby blocks that the WAL names",
                   s->config->capture == CONFIG_BY_XMIN ? "" : "rechecks ");
    else if (s->config->capture == CONFIG_BY_XMIN)
        buf_printf(b, ", by scans: %s", s->hints.why);
    return true;
}
