/* complete_fill.c -- values that an update left as they were, and that the log does not have.
 * SPDX-License-Identifier: MIT */
#include "capture/complete_fill.h"

#include "base/array.h"
#include "base/hash.h"
#include "capture/complete_ask.h"
#include "capture/sql.h"
#include "capture/sql_altered.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NONE SIZE_MAX
#define TRIES 20
#define PAUSE_NS 2000000 /* a commit is in the log a moment before others see it */

/* A row. */
struct item {
    const struct chunk *chunk;
    size_t row;
    size_t key, key_len; /* in <keys> */
    size_t before;       /* the item before of the same row, or with the same key; NONE */
    bool has_after;
    size_t line;         /* what was found with its key: the line of the answer; NONE */
    bool is_over;        /* a later change ends the row */
    size_t cells;        /* the first of its <cells>, one for each column; NONE: it lacks nothing */
};

/* A column of a row that lacks something. */
struct cell {
    bool is_unknown, is_found;
    bool is_set_later;   /* by a change that comes later */
    size_t start, len;   /* in <texts>, as a field of COPY; if <is_found> */
};

struct complete_fill {
    const struct complete_table *ct;
    uint64_t open_xid;
    struct item *items;
    size_t n, cap, n_put;
    struct cell *cells;
    size_t n_cells, cap_cells;
    size_t *last;       /* the last item of each key, by its hash; NONE */
    size_t n_last;
    struct buf keys, texts;
    struct result *answer; /* the newest one; owned */
};

struct complete_fill *complete_fill_new(const struct complete_table *ct, uint64_t open_xid)
{
    struct complete_fill *f = calloc(1, sizeof *f);

    if (f == NULL)
        return NULL;
    f->ct = ct;
    f->open_xid = open_xid;
    buf_init(&f->keys, SIZE_MAX / 2);
    buf_init(&f->texts, SIZE_MAX / 2);
    return f;
}

void complete_fill_free(struct complete_fill *f)
{
    if (f == NULL)
        return;
    free(f->items);
    free(f->cells);
    free(f->last);
    result_free(f->answer);
    buf_fini(&f->keys);
    buf_fini(&f->texts);
    free(f);
}

/* ---- rows and their keys ---- */

static bool add_cells(struct complete_fill *f, const struct chunk *chunk, struct item *it)
{
    const struct chunk_row *row = &chunk->rows[it->row];
    const char *p = chunk->bytes + row->start, *end = p + row->len;

    it->cells = f->n_cells;
    for (size_t i = 0; i < chunk->rowtype->n_columns; i++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        struct copytext_field field = { p, (size_t)((tab != NULL ? tab : end) - p) };
        struct cell cell = { .is_unknown = copytext_is_unknown(field) };

        if (!ARRAY_PUSH(f->cells, f->n_cells, f->cap_cells, cell))
            return false;
        p = tab != NULL ? tab + 1 : end;
    }
    return true;
}

bool complete_fill_add(struct complete_fill *f, const struct chunk *chunk, struct err *e)
{
    for (size_t i = 0; i < chunk->n_rows; i++) {
        struct item it = { .chunk = chunk, .row = i, .before = NONE, .cells = NONE,
                           .line = NONE, .key = f->keys.len };

        if (!chunk_row_key(chunk, &chunk->rows[i], &f->keys))
            return err_memory(e);
        it.key_len = f->keys.len - it.key;
        if ((chunk->rows[i].has_unknown && !add_cells(f, chunk, &it)) ||
            !ARRAY_PUSH(f->items, f->n, f->cap, it))
            return err_memory(e);
    }
    return true;
}

static bool has_same_key(const struct complete_fill *f, const struct item *a,
                         const struct item *b)
{
    return a->key_len == b->key_len &&
           memcmp(f->keys.data + a->key, f->keys.data + b->key, a->key_len) == 0;
}

/* Where the last item with the key of <it> is noted, or can be. */
static size_t *find_last(struct complete_fill *f, const struct item *it)
{
    size_t i = hash_bytes(HASH_START, f->keys.data + it->key, it->key_len) % f->n_last;

    while (f->last[i] != NONE && !has_same_key(f, &f->items[f->last[i]], it))
        i = (i + 1) % f->n_last;
    return &f->last[i];
}

static bool is_delete(const struct item *it)
{
    return it->chunk->rows[it->row].op == OP_DELETE && it->chunk->rows[it->row].is_key_only;
}

static struct cell *cell_of(struct complete_fill *f, const struct item *it, size_t column)
{
    return it->cells != NONE ? &f->cells[it->cells + column] : NULL;
}

static bool lacks(struct complete_fill *f, const struct item *it, size_t column)
{
    const struct cell *cell = cell_of(f, it, column);

    return cell != NULL && cell->is_unknown && !cell->is_found;
}

/* The field of a line. */
static struct copytext_field field_of(const struct item *it, size_t column)
{
    const struct chunk_row *row = &it->chunk->rows[it->row];
    const char *p = it->chunk->bytes + row->start, *end = p + row->len, *tab;

    while ((tab = memchr(p, '\t', (size_t)(end - p))) != NULL && column-- > 0)
        p = tab + 1;
    return (struct copytext_field){ p, (size_t)((tab != NULL ? tab : end) - p) };
}

/* The value is that which the row had before, if that is known. */
static void take_from_before(struct complete_fill *f, const struct item *it, size_t column)
{
    const struct item *before = &f->items[it->before];
    const struct cell *from = cell_of(f, before, column);
    struct cell *to = cell_of(f, it, column);
    struct copytext_field field;

    if (is_delete(before) || lacks(f, before, column))
        return;
    to->is_found = true;
    if (from != NULL && from->is_found) {
        to->start = from->start;
        to->len = from->len;
        return;
    }
    field = field_of(before, column);
    to->start = f->texts.len;
    to->len = field.len;
    buf_add(&f->texts, field.p, field.len);
}

/* True if the item is what became of a row with another key, whose end is the item before it. */
static bool has_moved(const struct complete_fill *f, size_t i)
{
    const struct chunk_row *row = &f->items[i].chunk->rows[f->items[i].row], *end;

    if (i == 0 || row->op != OP_INSERT || !row->has_unknown)
        return false;
    end = &f->items[i - 1].chunk->rows[f->items[i - 1].row];
    return is_delete(&f->items[i - 1]) && end->xid == row->xid && end->log.lsn == row->log.lsn;
}

/* Connects the items of each key, and takes values from one to the next. */
static bool connect_items(struct complete_fill *f)
{
    f->n_last = 2 * f->n + 1;
    f->last = malloc(f->n_last * sizeof *f->last);
    if (f->last == NULL)
        return false;
    for (size_t i = 0; i < f->n_last; i++)
        f->last[i] = NONE;
    for (size_t i = 0; i < f->n; i++) {
        struct item *it = &f->items[i];
        size_t *last_of = find_last(f, it);

        it->before = *last_of;
        *last_of = i;
        if (it->before != NONE)
            f->items[it->before].has_after = true;
        if (has_moved(f, i))
            it->before = f->items[i - 1].before;
        if (it->before == NONE)
            continue;
        for (size_t k = 0; k < f->ct->rowtype->n_columns; k++)
            if (lacks(f, it, k))
                take_from_before(f, it, k);
    }
    return buf_ok(&f->texts);
}

/* ---- the question ---- */

/* True if the row is to be asked for: the last one of its key, which lacks something. */
static bool is_asked(struct complete_fill *f, const struct item *it)
{
    if (it->cells == NONE || it->has_after || is_delete(it) ||
        it->chunk->rows[it->row].xid == f->open_xid)
        return false;
    for (size_t k = 0; k < f->ct->rowtype->n_columns; k++)
        if (lacks(f, it, k))
            return true;
    return false;
}

/* Appends an array: of the xids, or of this column of the key. */
static void put_array(struct complete_fill *f, size_t column, struct buf *sql)
{
    const char *comma = "";

    buf_puts(sql, "E'{");
    for (size_t i = 0; i < f->n; i++) {
        const struct item *it = &f->items[i];

        if (!is_asked(f, it))
            continue;
        buf_puts(sql, comma);
        comma = ",";
        if (column == NONE)
            buf_put_u64(sql, it->chunk->rows[it->row].xid);
        else
            complete_plan_put_item(sql, field_of(it, column));
    }
    buf_puts(sql, "}'::text[]");
}

static bool is_asked_for(struct complete_fill *f, size_t column)
{
    size_t i = 0;

    while (i < f->n && !(is_asked(f, &f->items[i]) && lacks(f, &f->items[i], column)))
        i++;
    return i < f->n;
}

/* True if the columns that rows lack are those that they were. */
static void put_is_same(struct complete_fill *f, struct buf *sql)
{
    const struct source *s = f->ct->source;
    const struct rowtype *t = f->ct->rowtype;

    buf_puts(sql, "(SELECT max(");
    sql_altered_put_xmin(sql, "a");
    buf_printf(sql, ") < %" PRIu64 " FROM pg_attribute a WHERE a.attrelid = %" PRIu32
               " AND a.attrelid = ", s->position.horizon.floor, s->facts.table.oid);
    sql_put_regclass(sql, &s->facts.table);
    buf_puts(sql, " AND a.attname IN (NULL");
    for (size_t k = 0; k < t->n_columns; k++) {
        if (!is_asked_for(f, k))
            continue;
        buf_puts(sql, ", ");
        sql_put_literal(sql, t->columns[k].name);
    }
    buf_puts(sql, "))");
}

enum { A_N, A_IS_VISIBLE, A_XMIN, A_IS_SAME, A_IS_OLD, A_END, A_COLUMNS };

static void put_question(struct complete_fill *f, struct conn *conn, struct buf *sql)
{
    const struct complete_plan *p = &f->ct->plan;
    const struct source *s = f->ct->source;
    const struct rowtype *t = f->ct->rowtype;

    buf_puts(sql, "SET LOCAL transaction_isolation = 'read committed';");
    complete_plan_put_settings(sql, conn_version(conn));
    buf_puts(sql, "SELECT \"pgcdc:n\", pg_visible_in_snapshot(\"pgcdc:x\"::xid8,"
                  " pg_current_snapshot()), ");
    complete_plan_put_name(sql, s, "xmin");
    buf_puts(sql, ", ");
    put_is_same(f, sql);
    buf_puts(sql, ", ");
    sql_altered_put(sql, &s->facts.table);
    /* of a standby it cannot be told where what it shows ends */
    buf_printf(sql, " < %" PRIu64 ", CASE WHEN pg_is_in_recovery() THEN 0 ELSE"
               " pg_current_wal_insert_lsn() - '0/0' END", s->position.horizon.floor);
    for (size_t k = 0; k < t->n_columns; k++) {
        buf_puts(sql, ", ");
        complete_plan_put_name(sql, s, t->columns[k].name);
    }
    buf_puts(sql, " FROM unnest(");
    put_array(f, NONE, sql);
    for (size_t k = 0; k < t->n_key; k++) {
        buf_puts(sql, ", ");
        put_array(f, t->key[k], sql);
    }
    buf_puts(sql, ") WITH ORDINALITY AS \"pgcdc:u\"(\"pgcdc:x\"");
    for (size_t k = 0; k < t->n_key; k++)
        buf_printf(sql, ", \"pgcdc:k%zu\"", k);
    buf_puts(sql, s->facts.table.is_tree ? ", \"pgcdc:n\") LEFT JOIN "
                                         : ", \"pgcdc:n\") LEFT JOIN ONLY ");
    complete_plan_put_table(sql, s);
    for (size_t k = 0; k < t->n_key; k++) {
        buf_puts(sql, k > 0 ? " AND " : " ON ");
        complete_plan_put_name(sql, s, t->columns[t->key[k]].name);
        buf_printf(sql, " = \"pgcdc:k%zu\"::%s", k, p->columns[p->place[t->key[k]]].type);
    }
    buf_puts(sql, " ORDER BY 1");
}

/* ---- the answer ---- */

static void set_cell(struct complete_fill *f, struct item *it, size_t column, size_t start,
                     size_t len)
{
    struct cell *cell = cell_of(f, it, column);

    cell->is_found = true;
    cell->start = start;
    cell->len = len;
}

/* The row that was found is what <it> has become: so it is what earlier changes left as it was. */
static void take_row(struct complete_fill *f, size_t item)
{
    const struct item *it = &f->items[item];

    for (size_t k = 0; k < f->ct->rowtype->n_columns; k++) {
        size_t start = f->texts.len, len;
        const char *text = result_value(f->answer, it->line, A_COLUMNS + k, &len);

        if (!lacks(f, it, k) || text == NULL || cell_of(f, it, k)->is_set_later)
            continue;
        copytext_escape(&f->texts, text, len);
        for (size_t i = item; i != NONE && lacks(f, &f->items[i], k); i = f->items[i].before)
            set_cell(f, &f->items[i], k, start, f->texts.len - start);
    }
}

static bool is_true(const struct result *r, size_t line, size_t column)
{
    size_t len;
    const char *text = result_value(r, line, column, &len);

    return text != NULL && *text == 't';
}

/* True if the line is of a row, the only one with its key, of the same columns. */
static bool is_only(const struct result *r, size_t line)
{
    size_t len;
    const char *n = result_value(r, line, A_N, &len);
    const char *before = line > 0 ? result_value(r, line - 1, A_N, &len) : "";
    const char *after = line + 1 < result_count(r) ? result_value(r, line + 1, A_N, &len) : "";

    return result_value(r, line, A_XMIN, &len) != NULL && strcmp(n, before) != 0 &&
           strcmp(n, after) != 0 && is_true(r, line, A_IS_SAME);
}

/* True if the line is of the version that the item's transaction has written. */
static bool is_version(const struct item *it, const struct result *r, size_t line)
{
    size_t len;

    return (uint32_t)strtoul(result_value(r, line, A_XMIN, &len), NULL, 10) ==
           (uint32_t)it->chunk->rows[it->row].xid;
}

/* *is_early: a transaction is not visible yet. */
static bool take_answer(struct complete_fill *f, bool *is_early)
{
    const struct result *r = f->answer;
    size_t line = 0, asked = 0, len;

    for (size_t i = 0; i < f->n; i++) {
        struct item *it = &f->items[i];

        it->line = NONE;
        if (!is_asked(f, it))
            continue;
        asked++;
        for (; line < result_count(r); line++) {
            if (strtoul(result_value(r, line, A_N, &len), NULL, 10) != asked)
                break;
            if (!is_true(r, line, A_IS_VISIBLE))
                *is_early = true;
            else if (is_only(r, line))
                it->line = line;
        }
    }
    for (size_t i = 0; i < f->n; i++)
        if (f->items[i].line != NONE && is_version(&f->items[i], r, f->items[i].line))
            take_row(f, i);
    return buf_ok(&f->texts);
}

static bool has_question(struct complete_fill *f)
{
    size_t i = 0;

    while (i < f->n && !is_asked(f, &f->items[i]))
        i++;
    return i < f->n;
}

/* True if the key can be asked for. */
static bool has_columns(const struct complete_fill *f)
{
    for (size_t k = 0; k < f->ct->rowtype->n_columns; k++)
        if (f->ct->plan.place[k] == SIZE_MAX)
            return false;
    return true;
}

/* Asks once. */
static bool ask(struct complete_fill *f, struct conn *conn, bool *is_early, struct err *e)
{
    uint64_t affected;
    struct buf sql;
    bool ok;

    buf_init(&sql, SIZE_MAX / 2);
    put_question(f, conn, &sql);
    result_free(f->answer);
    f->answer = NULL;
    ok = buf_ok(&sql) ? conn_send(conn, sql.data, NULL, 0, e) &&
                            conn_answer(conn, SIZE_MAX / 4, &f->answer, &affected, e)
                      : err_memory(e);
    buf_fini(&sql);
    if (!ok)
        return complete_ask_is_refusal(e); /* the values stay unknown */
    if (result_columns(f->answer) != f->ct->rowtype->n_columns + A_COLUMNS)
        return err_set(e, ERR_ANSWER, "the server's values for rows of the log are others than "
                       "were asked for");
    return take_answer(f, is_early) || err_memory(e);
}

/* ---- what comes later ---- */

bool complete_fill_heed(struct complete_fill *f, const char *line, size_t len, bool is_end,
                        struct err *e)
{
    const struct chunk_row row = { .len = (uint32_t)len };
    const struct chunk of = { .rowtype = f->ct->rowtype, .bytes = (char *)line };
    struct item later = { .chunk = &of, .key = f->keys.len }, *it;
    size_t last;
    bool ok = chunk_row_key(&of, &row, &f->keys);

    later.key_len = f->keys.len - later.key;
    last = ok ? *find_last(f, &later) : NONE;
    f->keys.len = later.key;
    if (!ok)
        return err_memory(e);
    if (last == NONE)
        return true;
    it = &f->items[last];
    it->is_over = it->is_over || is_end;
    for (size_t k = 0; it->cells != NONE && k < of.rowtype->n_columns; k++) {
        const char *end = line + len, *tab = memchr(line, '\t', (size_t)(end - line));
        struct copytext_field field = { line, (size_t)((tab != NULL ? tab : end) - line) };

        cell_of(f, it, k)->is_set_later |= !copytext_is_unknown(field);
        len -= field.len + (tab != NULL);
        line += field.len + (tab != NULL);
    }
    return true;
}

/* True if what was found of the item is its value, unless a later change has set it. */
static bool may_be_value(struct complete_fill *f, const struct item *it)
{
    return it->line != NONE && is_asked(f, it) && is_true(f->answer, it->line, A_IS_OLD);
}

static bool look_ahead(struct complete_fill *f, const struct complete_fill_ahead *ahead,
                       struct err *e)
{
    size_t first = 0, len;
    bool is_all = false;
    uint64_t lsn;

    while (first < f->n && !may_be_value(f, &f->items[first]))
        first++;
    if (first == f->n)
        return true;
    lsn = strtoull(result_value(f->answer, f->items[first].line, A_END, &len), NULL, 10);
    if (lsn == 0)
        return true;
    if (!ahead->look(ahead->arg, f, f->ct->source, lsn, &is_all, e))
        return false;
    for (size_t i = first; is_all && i < f->n; i++)
        if (!f->items[i].is_over && may_be_value(f, &f->items[i]))
            take_row(f, i);
    return buf_ok(&f->texts) || err_memory(e);
}

bool complete_fill_find(struct complete_fill *f, struct conn *conn,
                        const struct complete_fill_ahead *ahead, struct err *e)
{
    const struct timespec pause = { .tv_nsec = PAUSE_NS };
    bool is_early = true;

    if (!connect_items(f))
        return err_memory(e);
    for (int i = 0; i < TRIES && is_early && has_columns(f) && has_question(f); i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        is_early = false;
        if (!ask(f, conn, &is_early, e))
            return false;
    }
    return f->answer == NULL || ahead == NULL || look_ahead(f, ahead, e);
}

/* ---- chunks ---- */

static bool put_line(struct complete_fill *f, const struct item *it, struct buf *bytes)
{
    bool has_unknown = false;

    for (size_t k = 0; k < f->ct->rowtype->n_columns; k++) {
        const struct cell *cell = cell_of(f, it, k);
        struct copytext_field field = field_of(it, k);

        if (k > 0)
            buf_putc(bytes, '\t');
        if (cell != NULL && cell->is_found)
            buf_add(bytes, f->texts.data + cell->start, cell->len);
        else
            buf_add(bytes, field.p, field.len);
        has_unknown = has_unknown || lacks(f, it, k);
    }
    return has_unknown;
}

bool complete_fill_put(struct complete_fill *f, struct chunk *chunk, struct err *e)
{
    bool has_cells = false;
    struct buf line;
    size_t start;

    for (size_t i = 0; i < chunk->n_rows; i++)
        has_cells = has_cells || f->items[f->n_put + i].cells != NONE;
    buf_init(&line, SIZE_MAX / 2);
    for (size_t i = 0; has_cells && i < chunk->n_rows; i++) {
        const struct item *it = &f->items[f->n_put + i];
        bool has_unknown;

        if (it->cells == NONE)
            continue;
        buf_clear(&line);
        has_unknown = put_line(f, it, &line);
        if (!buf_ok(&line) || line.len > UINT32_MAX ||
            !chunk_add_bytes(chunk, line.data, line.len, &start)) {
            buf_fini(&line);
            return err_memory(e);
        }
        chunk->rows[i].start = start;
        chunk->rows[i].len = (uint32_t)line.len;
        chunk->rows[i].has_unknown = has_unknown;
    }
    buf_fini(&line);
    f->n_put += chunk->n_rows;
    return true;
}
