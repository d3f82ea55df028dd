/* position_text.c -- a position as text, and back.
 * SPDX-License-Identifier: MIT */
#include "capture/position_text.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

/* "752-760 762": ascending, gaps kept. */
static void put_seen(struct buf *b, const struct xidset *seen)
{
    buf_puts(b, "seen");
    for (size_t i = 0, j; i < seen->n; i = j + 1) {
        for (j = i; j + 1 < seen->n && seen->v[j + 1] == seen->v[j] + 1; j++)
            ;
        buf_printf(b, " %" PRIu64, seen->v[i]);
        if (j > i)
            buf_printf(b, "-%" PRIu64, seen->v[j]);
    }
    buf_putc(b, '\n');
}

/* Text of several lines on one. */
static void put_escaped(struct buf *b, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        size_t n = strcspn(p, "\\\n");

        buf_add(b, p, n);
        p += n;
        if (*p == '\0')
            break;
        buf_puts(b, *p == '\n' ? "\\n" : "\\\\");
    }
    buf_putc(b, '\n');
}

static void put_text(struct buf *b, const char *word, const char *text)
{
    if (text == NULL)
        return;
    buf_puts(b, word);
    buf_putc(b, ' ');
    put_escaped(b, text);
}

/* In the text, the key of a tombstone begins with this, as no field of COPY does. */
#define TOMBSTONE "\\d"

static void put_resume_point(struct buf *b, const struct position_resume_point *point)
{
    buf_printf(b, "cut_xid %" PRIu64 "\n", point->xid);
    if (point->order == ROW_ORDER_BY_FINGERPRINT) {
        buf_printf(b, "cut_row %d %" PRId64 " %" PRIu64 " %016" PRIx64 "\n", point->is_tombstone,
                   point->fingerprint, point->n, point->scope);
        return;
    }
    buf_puts(b, point->order == ROW_ORDER_BY_BYTES ? "cut_bytes " : "cut_key ");
    buf_puts(b, point->is_tombstone ? "\\" TOMBSTONE : "");
    put_escaped(b, point->key);
}

static uint64_t sum(const char *source, const char *p, size_t len)
{
    return hash_bytes(hash_bytes(HASH_START, source, strlen(source)), p, len);
}

static void put_leaf(struct buf *b, const struct position_leaf *leaf)
{
    buf_printf(b, "leaf %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32, leaf->oid, leaf->filenode,
               leaf->blocks, leaf->next);
    if (leaf->attached != 0)
        buf_printf(b, " %" PRIu64, leaf->attached);
    buf_putc(b, '\n');
}

static void put_increment(struct buf *b, const struct increment *i)
{
    if (i->column == NULL)
        return;
    put_text(b, "increment", i->column);
    buf_printf(b, "growth %d\n", (int)i->growth);
    buf_printf(b, "rechecked %" PRId64 "\nis_rechecking %d\n", i->rechecked_ms, i->is_rechecking);
    buf_printf(b, "since %" PRIu64 "\nbase %" PRId64 "\n", i->since, i->base);
    for (size_t k = 0; k < i->firsts.n; k++)
        buf_printf(b, "first %" PRIu64 " %" PRId64 " %" PRId64 "\n", i->firsts.v[k].xid,
                   i->firsts.v[k].base, i->firsts.v[k].least);
    for (size_t k = 0; k < i->n_stretches; k++)
        buf_printf(b, "stretch %" PRIu64 " %" PRId64 "\n", i->stretches[k].below,
                   i->stretches[k].base);
    for (size_t k = 0; k < i->n_rungs; k++)
        buf_printf(b, "rung %" PRIu64 " %" PRId64 "\n", i->rungs[k].xmax, i->rungs[k].top);
}

static void put_paging(struct buf *b, const struct pages *p)
{
    if (!p->is_used)
        return;
    buf_printf(b, "paging %d %d\n", p->is_silent, p->has_top);
    buf_printf(b, "round %" PRIu64 " %" PRId64 " %" PRId64 "\n", p->xmax, p->top, p->reached);
    put_text(b, "reached", p->reached_key);
    for (size_t i = 0; i < p->given.n; i++)
        buf_printf(b, "given %016" PRIx64 " %" PRId64 "\n", p->given.v[i].hash,
                   p->given.v[i].value);
}

static void put_logical(struct buf *b, const struct logical *l)
{
    put_text(b, "slot", l->slot);
    if (l->lsn == 0)
        return;
    buf_printf(b, "log_lsn %" PRIu64 "\nuntil %" PRIu64 "\npublished %" PRIu64 "\n", l->lsn,
               l->until, l->published);
    put_text(b, "shown", l->shown);
    if (l->inside.commit != 0)
        buf_printf(b, "inside %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", l->inside.commit,
                   l->inside.lsn, l->inside.n);
}

static void put_reread(struct buf *b, const struct reread *r)
{
    if (!reread_is_due(r))
        return;
    put_text(b, "reread", r->where);
    buf_printf(b, "reread_rows %" PRIu64 " %d\n", r->rows, r->has_begun);
    for (size_t i = 0; i < r->n_leaves; i++)
        buf_printf(b, "reread_leaf %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 "\n",
                   r->leaves[i].oid, r->leaves[i].filenode, r->leaves[i].blocks,
                   r->leaves[i].next);
}

void position_text_write(const struct position *p, const char *source, struct buf *b)
{
    const struct identity *id = &p->identity;
    size_t start = b->len;

    buf_printf(b, "phase %d\nfloor %" PRIu64 "\nfloor_lsn %" PRIu64 "\n", (int)p->phase,
               p->horizon.floor, p->floor_lsn);
    put_seen(b, &p->horizon.seen);
    buf_printf(b, "system %s\ndatabase %" PRIu32 "\ntimeline %" PRIu32 "\nin_recovery %d\n",
               id->system, id->database, id->timeline, id->in_recovery);
    buf_printf(b, "started %s\nstats %s\nxmax %" PRIu64 "\nlsn %" PRIu64 "\n", id->started,
               id->stats, id->xmax, id->lsn);
    buf_printf(b, "durable_xmax %" PRIu64 "\ndurable_lsn %" PRIu64 "\n", id->durable_xmax,
               id->durable_lsn);
    buf_printf(b, "table %" PRIu32 "\nrows %" PRIu64 "\n", p->table, p->rows);
    if (p->reads > 0)
        buf_printf(b, "reads %" PRIu64 "\nnoted %" PRIu64 "\nlearned %d\n", p->reads,
                   p->last_change, p->is_learned);
    if (p->is_partial)
        buf_puts(b, "partial 1\n");
    if (p->hint_xid != 0)
        buf_printf(b, "hint_xid %" PRIu64 "\nhint_lsn %" PRIu64 "\n", p->hint_xid, p->hint_lsn);
    if (p->stamps.is_used)
        buf_printf(b, "stamped_since %" PRIu64 "\ngone_floor %" PRIu64 "\n", p->stamps.since,
                   p->stamps.tombstone_floor);
    put_increment(b, &p->increment);
    put_paging(b, &p->pages);
    put_logical(b, &p->logical);
    put_reread(b, &p->reread);
    put_text(b, "signature", p->signature);
    put_text(b, "columns", p->columns);
    put_text(b, "declared", p->declared);
    put_text(b, "fed", p->fed);
    for (size_t i = 0; i < p->n_leaves; i++)
        put_leaf(b, &p->leaves[i]);
    for (size_t i = 0; i < p->n_resume_points; i++)
        put_resume_point(b, &p->resume_points[i]);
    buf_printf(b, "done %" PRIu32 " %" PRIu32 "\n", p->done.leaf, p->done.end);
    put_text(b, "done_keys", p->done.keys);
    if (buf_ok(b))
        buf_printf(b, "sum %016" PRIx64 "\n", sum(source, b->data + start, b->len - start));
}

/* ---- reading ---- */

static bool read_seen(const char *p, struct xidset *seen)
{
    while (*p != '\0') {
        uint64_t from, to;

        if (!text_read_u64(&p, NULL, &from))
            return false;
        to = from;
        if (*p == '-' &&
            (p++, !text_read_u64(&p, NULL, &to) || to < from || to - from > 1u << 30))
            return false;
        for (uint64_t n = to - from + 1; n > 0; n--, from++) /* also up to the greatest number */
            if (!xidset_add(seen, from))
                return false;
        if (*p != ' ' && *p != '\0')
            return false;
        p += *p == ' ';
    }
    return true;
}

static bool read_leaf(const char *text, struct position *p)
{
    struct position_leaf leaf = { .attached = 0 };

    return sscanf(text, "%" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu64, &leaf.oid,
                  &leaf.filenode, &leaf.blocks, &leaf.next, &leaf.attached) >= 4 &&
           ARRAY_PUSH(p->leaves, p->n_leaves, p->cap_leaves, leaf);
}

/* Undoes put_text. Owned, or NULL: no memory. */
static char *read_text(const char *text)
{
    char *copy = strdup(text), *to = copy;

    if (copy == NULL)
        return NULL;
    for (const char *p = copy; *p != '\0'; p++) {
        if (*p == '\\' && p[1] != '\0')
            *to++ = *++p == 'n' ? '\n' : *p;
        else
            *to++ = *p;
    }
    *to = '\0';
    return copy;
}

/* The same, in the place of what was read before. */
static bool replace_text(const char *text, char **to)
{
    free(*to);
    return (*to = read_text(text)) != NULL;
}

static bool read_resume_row(const char *text, struct position *p, uint64_t xid)
{
    struct position_last last = { .xid = xid, .order = ROW_ORDER_BY_FINGERPRINT };
    int is_tombstone;

    if (sscanf(text, "%d %" SCNd64 " %" SCNu64 " %" SCNx64, &is_tombstone, &last.fingerprint,
               &last.n, &last.scope) != 4)
        return false;
    last.is_tombstone = is_tombstone != 0;
    return position_add_resume_point(p, &last);
}

static bool read_resume_key(const char *text, struct position *p, uint64_t xid,
                            enum row_order order)
{
    char *key = read_text(text);
    bool is_tombstone = key != NULL && strncmp(key, TOMBSTONE, strlen(TOMBSTONE)) == 0;
    const char *fields = is_tombstone ? key + strlen(TOMBSTONE) : key;
    bool ok = key != NULL &&
              position_add_resume_point(p, &(struct position_last){ .xid = xid,
                                                                    .is_tombstone = is_tombstone,
                                                                    .order = order,
                                                                    .key = fields,
                                                                    .len = strlen(fields) });

    free(key);
    return ok;
}

/* Reads what put_paging writes. False: <word> is none of it, or <text> makes no sense. */
static bool read_paging(const char *word, const char *text, struct pages *p)
{
    uint64_t hash;
    int64_t value;
    int is_silent, has_top;

    if (strcmp(word, "paging") == 0) {
        p->is_used = sscanf(text, "%d %d", &is_silent, &has_top) == 2;
        p->is_silent = p->is_used && is_silent != 0;
        p->has_top = p->is_used && has_top != 0;
        return p->is_used;
    }
    if (strcmp(word, "round") == 0)
        return sscanf(text, "%" SCNu64 " %" SCNd64 " %" SCNd64, &p->xmax, &p->top,
                      &p->reached) == 3;
    if (strcmp(word, "reached") == 0)
        return replace_text(text, &p->reached_key);
    if (strcmp(word, "given") == 0)
        return sscanf(text, "%" SCNx64 " %" SCNd64, &hash, &value) == 2 &&
               pages_rows_add(&p->given, hash, value);
    return false;
}

/* Reads what put_logical writes. False as above. */
static bool read_logical(const char *word, const char *text, struct logical *l)
{
    if (strcmp(word, "slot") == 0)
        return replace_text(text, &l->slot);
    if (strcmp(word, "log_lsn") == 0)
        return text_is_u64(text, &l->lsn);
    if (strcmp(word, "until") == 0)
        return text_is_u64(text, &l->until);
    if (strcmp(word, "published") == 0)
        return text_is_u64(text, &l->published);
    if (strcmp(word, "shown") == 0)
        return replace_text(text, &l->shown);
    if (strcmp(word, "inside") == 0)
        return sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &l->inside.commit, &l->inside.lsn,
                      &l->inside.n) == 3;
    return false;
}

/* Reads what put_reread writes. False as above. */
static bool read_reread(const char *word, const char *text, struct reread *r)
{
    struct reread_leaf leaf;
    int has_begun;

    if (strcmp(word, "reread") == 0)
        return replace_text(text, &r->where);
    if (strcmp(word, "reread_rows") == 0) {
        bool ok = sscanf(text, "%" SCNu64 " %d", &r->rows, &has_begun) == 2;

        r->has_begun = ok && has_begun != 0;
        return ok;
    }
    if (strcmp(word, "reread_leaf") == 0)
        return sscanf(text, "%" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32, &leaf.oid,
                      &leaf.filenode, &leaf.blocks, &leaf.next) == 4 &&
               ARRAY_PUSH(r->leaves, r->n_leaves, r->cap_leaves, leaf);
    return false;
}

static bool read_word(const char *text, char *to, size_t size)
{
    return (size_t)snprintf(to, size, "%s", text) < size;
}

static bool read_u32(const char *text, uint32_t *n)
{
    uint64_t wide;
    bool ok = text_is_u64(text, &wide) && wide <= UINT32_MAX;

    *n = ok ? (uint32_t)wide : 0;
    return ok;
}

static bool read_growth(const char *text, enum increment_growth *growth)
{
    uint32_t n;
    bool ok = read_u32(text, &n) && n <= INCREMENT_TIMESTAMPTZ;

    *growth = ok ? (enum increment_growth)n : INCREMENT_GROWS_NOT;
    return ok;
}

/* Reads what put_increment writes, except the column. False: <word> is none of it, or <text> makes
 * no sense. */
static bool read_increment(const char *word, const char *text, struct increment *i)
{
    uint64_t xid;
    int64_t a, b;

    if (strcmp(word, "growth") == 0)
        return read_growth(text, &i->growth);
    if (strcmp(word, "rechecked") == 0)
        return text_is_i64(text, &i->rechecked_ms);
    if (strcmp(word, "is_rechecking") == 0)
        return (i->is_rechecking = strcmp(text, "1") == 0) || strcmp(text, "0") == 0;
    if (strcmp(word, "since") == 0)
        return text_is_u64(text, &i->since);
    if (strcmp(word, "base") == 0)
        return text_is_i64(text, &i->base);
    if (strcmp(word, "first") == 0)
        return sscanf(text, "%" SCNu64 " %" SCNd64 " %" SCNd64, &xid, &a, &b) == 3 &&
               increment_add_first(&i->firsts, xid, a, b);
    if (strcmp(word, "stretch") == 0)
        return sscanf(text, "%" SCNu64 " %" SCNd64, &xid, &a) == 2 &&
               increment_add_stretch(i, xid, a);
    if (strcmp(word, "rung") == 0)
        return sscanf(text, "%" SCNu64 " %" SCNd64, &xid, &a) == 2 && increment_add_rung(i, xid, a);
    return false;
}

static bool read_phase(const char *text, struct position *p)
{
    uint32_t phase;
    bool ok = read_u32(text, &phase) && (phase == POSITION_SNAPSHOT || phase == POSITION_POLL);

    p->phase = ok ? (enum position_phase)phase : POSITION_NONE;
    return ok;
}

/* The fields that are numbers. False: <word> is none of them, or <text> is no number. */
static bool read_number(const char *word, const char *text, struct position *p)
{
    struct identity *id = &p->identity;
    const struct { const char *word; uint64_t *to; } wide[] = {
        { "floor", &p->horizon.floor }, { "floor_lsn", &p->floor_lsn }, { "xmax", &id->xmax },
        { "lsn", &id->lsn }, { "durable_xmax", &id->durable_xmax },
        { "durable_lsn", &id->durable_lsn }, { "rows", &p->rows }, { "reads", &p->reads },
        { "noted", &p->last_change }, { "hint_xid", &p->hint_xid },
        { "hint_lsn", &p->hint_lsn }, { "stamped_since", &p->stamps.since },
        { "gone_floor", &p->stamps.tombstone_floor },
    };
    const struct { const char *word; uint32_t *to; } narrow[] = {
        { "database", &id->database }, { "timeline", &id->timeline }, { "table", &p->table },
    };

    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (strcmp(word, wide[i].word) == 0)
            return text_is_u64(text, wide[i].to);
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (strcmp(word, narrow[i].word) == 0)
            return read_u32(text, narrow[i].to);
    return false;
}

/* Reads one line. *resume_xid: of the resume point whose key comes next. */
static bool read_line(const char *word, const char *text, struct position *p, uint64_t *resume_xid)
{
    struct identity *id = &p->identity;

    if (strcmp(word, "phase") == 0)
        return read_phase(text, p);
    if (strcmp(word, "seen") == 0)
        return read_seen(text, &p->horizon.seen);
    if (strcmp(word, "system") == 0)
        return read_word(text, id->system, sizeof id->system);
    if (strcmp(word, "started") == 0)
        return read_word(text, id->started, sizeof id->started);
    if (strcmp(word, "stats") == 0)
        return read_word(text, id->stats, sizeof id->stats);
    if (strcmp(word, "in_recovery") == 0)
        return (id->in_recovery = strcmp(text, "1") == 0) || strcmp(text, "0") == 0;
    if (strcmp(word, "learned") == 0)
        return (p->is_learned = strcmp(text, "1") == 0) || strcmp(text, "0") == 0;
    if (strcmp(word, "partial") == 0)
        return (p->is_partial = strcmp(text, "1") == 0);
    if (strcmp(word, "increment") == 0)
        return replace_text(text, &p->increment.column);
    if (strcmp(word, "signature") == 0)
        return replace_text(text, &p->signature);
    if (strcmp(word, "columns") == 0)
        return replace_text(text, &p->columns);
    if (strcmp(word, "fed") == 0)
        return replace_text(text, &p->fed);
    if (strcmp(word, "declared") == 0)
        return replace_text(text, &p->declared);
    if (strcmp(word, "leaf") == 0)
        return read_leaf(text, p);
    if (strcmp(word, "cut_xid") == 0)
        return text_is_u64(text, resume_xid);
    if (strcmp(word, "cut_key") == 0)
        return read_resume_key(text, p, *resume_xid, ROW_ORDER_BY_KEY);
    if (strcmp(word, "cut_bytes") == 0)
        return read_resume_key(text, p, *resume_xid, ROW_ORDER_BY_BYTES);
    if (strcmp(word, "cut_row") == 0)
        return read_resume_row(text, p, *resume_xid);
    if (strcmp(word, "done") == 0)
        return sscanf(text, "%" SCNu32 " %" SCNu32, &p->done.leaf, &p->done.end) == 2;
    if (strcmp(word, "done_keys") == 0)
        return replace_text(text, &p->done.keys);
    return read_number(word, text, p) || read_increment(word, text, &p->increment) ||
           read_paging(word, text, &p->pages) || read_logical(word, text, &p->logical) ||
           read_reread(word, text, &p->reread);
}

/* The sum is right: a line that cannot be read was written by another version. */
static bool read_lines(char *text, struct position *p)
{
    uint64_t resume_xid = 0;

    while (*text != '\0') {
        char *end = strchr(text, '\n'), *blank;

        if (end == NULL)
            return false;
        *end = '\0';
        blank = strchr(text, ' ');
        if (blank != NULL)
            *blank = '\0';
        if (!read_line(text, blank != NULL ? blank + 1 : end, p, &resume_xid))
            return false;
        text = end + 1;
    }
    p->stamps.is_used = p->stamps.since > 0;
    return p->phase != POSITION_NONE && (p->logical.until == 0 || p->logical.shown != NULL) &&
           (p->logical.inside.commit == 0 || p->logical.inside.commit >= p->logical.lsn);
}

uint64_t position_text_log_lsn(const char *text)
{
    static const char word[] = "\nlog_lsn ";
    const char *found = strstr(text, word);
    uint64_t lsn = 0;

    if (found != NULL) {
        found += strlen(word);
        (void)!text_read_u64(&found, NULL, &lsn);
    }
    return lsn;
}

char *position_text_fed(const char *text)
{
    static const char word[] = "\nfed ";
    const char *found = strstr(text, word), *end = found != NULL ? strchr(found + 1, '\n') : NULL;
    char *line, *fed;

    if (end == NULL)
        return NULL;
    found += strlen(word);
    line = strndup(found, (size_t)(end - found));
    fed = line != NULL ? read_text(line) : NULL;
    free(line);
    return fed;
}

bool position_text_read(struct position *p, const char *source, const char *text)
{
    const char *last = strstr(text, "\nsum ");
    size_t len = last != NULL ? (size_t)(last + 1 - text) : 0;
    char *copy, line[32];
    bool ok;

    *p = (struct position){ 0 };
    snprintf(line, sizeof line, "sum %016" PRIx64 "\n", sum(source, text, len));
    if (last == NULL || strcmp(last + 1, line) != 0)
        return false;
    copy = strndup(text, len);
    ok = copy != NULL && read_lines(copy, p);
    free(copy);
    if (!ok)
        position_fini(p);
    return ok;
}
