/* hints.c -- mutants of the rule of hints, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * $PGCDC_HINTS_RULE says which:
 *   xmax       a note has the xmax of a snapshot in the place of the next xid
 *   end        E is up to where the WAL is flushed
 *   no_wait    the WAL is read though it is not flushed (16 on; 15 refuses that)
 *   hot        HOT updates put no version anywhere
 *   old_page   of an update the old page counts, not the new one
 *   file       it does not matter whether the table has another file now
 *   new_file   the same, and the WAL is asked for the file that it has now
 *   border     what is read ends where the WAL is flushed, which may be inside of a record
 *   hole       summaries of the WAL may have a hole between them
 *   open       blocks of summaries are forgotten when the xmax of the snapshot is passed
 *
 * Linked in place of src/capture/hints.c and src/capture/sql_hints.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define hints_has_leaves hints_has_leaves_by_the_rule
#define hints_end hints_end_by_the_rule
#define hints_must_wait hints_must_wait_by_the_rule
#define hints_have_read hints_have_read_by_the_rule
#define hints_cover hints_cover_by_the_rule
#include "../../src/capture/hints.c"
#undef hints_has_leaves
#undef hints_end
#undef hints_must_wait
#undef hints_have_read
#undef hints_cover

#define sql_hints_note sql_hints_note_by_the_rule
#define sql_hints_wal sql_hints_wal_by_the_rule
#define sql_hints_summarized sql_hints_summarized_by_the_rule
#include "../../src/capture/sql_hints.c"
#undef sql_hints_note
#undef sql_hints_wal
#undef sql_hints_summarized

bool hints_has_leaves(const struct hints *h, const struct relation *t);
void sql_hints_note(struct buf *b, const struct relation *t,
                    struct result_shape shapes[SQL_HINTS_NOTE]);
uint64_t hints_end(const struct identity *now, uint64_t replayed);
bool hints_must_wait(uint64_t flush, uint64_t end);
void hints_have_read(struct hints *h, uint64_t end);
uint64_t hints_cover(struct hints_summary *summaries, size_t *n, uint64_t from);
void sql_hints_wal(struct buf *b, const struct sql_hints_source *sources, size_t n);
void sql_hints_summarized(struct buf *b, const struct hints *h, uint32_t timeline,
                          const struct hints_summary *summaries, size_t n,
                          struct result_shape shapes[SQL_HINTS_SUMMARIZED]);

static uint64_t flushed; /* what was heard of that last */

static bool is_rule(const char *rule)
{
    const char *chosen = getenv("PGCDC_HINTS_RULE");

    return chosen != NULL && strcmp(chosen, rule) == 0;
}

/* Under this rule the text has <to> in the place of <from>, which must be there. */
static void replace(struct buf *b, const char *rule, const char *from, const char *to)
{
    char *at, *rest;

    if (!is_rule(rule))
        return;
    at = strstr(b->data, from);
    if (at == NULL || (rest = strdup(at + strlen(from))) == NULL)
        abort();
    b->len = (size_t)(at - b->data);
    buf_puts(b, to);
    buf_puts(b, rest);
    free(rest);
}

bool hints_has_leaves(const struct hints *h, const struct relation *t)
{
    for (size_t i = 0; is_rule("new_file") && i < h->n_leaves; i++)
        for (size_t k = 0; k < t->n_leaves; k++)
            if (h->leaves[i].oid == t->leaves[k].oid)
                h->leaves[i].filenode = t->leaves[k].filenode;
    return is_rule("file") || hints_has_leaves_by_the_rule(h, t);
}

void sql_hints_note(struct buf *b, const struct relation *t,
                    struct result_shape shapes[SQL_HINTS_NOTE])
{
    sql_hints_note_by_the_rule(b, t, shapes);
    replace(b, "xmax", "pg_catalog.age('3'::pg_catalog.xid)",
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 3");
}

uint64_t hints_end(const struct identity *now, uint64_t replayed)
{
    return is_rule("end") ? now->flush_lsn : hints_end_by_the_rule(now, replayed);
}

void hints_have_read(struct hints *h, uint64_t end)
{
    hints_have_read_by_the_rule(h, is_rule("border") && flushed > end ? flushed : end);
}

uint64_t hints_cover(struct hints_summary *summaries, size_t *n, uint64_t from)
{
    if (!is_rule("hole"))
        return hints_cover_by_the_rule(summaries, n, from);
    for (size_t i = 0; i < *n; i++) /* of none of them all WAL is before <from> */
        from = summaries[i].end > from ? summaries[i].end : from;
    return from;
}

bool hints_must_wait(uint64_t flush, uint64_t end)
{
    flushed = flush;
    return !is_rule("no_wait") && hints_must_wait_by_the_rule(flush, end);
}

void sql_hints_summarized(struct buf *b, const struct hints *h, uint32_t timeline,
                          const struct hints_summary *summaries, size_t n,
                          struct result_shape shapes[SQL_HINTS_SUMMARIZED])
{
    sql_hints_summarized_by_the_rule(b, h, timeline, summaries, n, shapes);
    replace(b, "open", "pg_catalog.age('3'::pg_catalog.xid)",
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 3");
}

/* The WAL of the only source. */
static void put_wal(struct buf *b, const struct sql_hints_source *source)
{
    struct sql_hints_source longer = *source;

    if (is_rule("border") && flushed > longer.to)
        longer.to = flushed;
    sql_hints_wal_by_the_rule(b, &longer, 1);
}

void sql_hints_wal(struct buf *b, const struct sql_hints_source *sources, size_t n)
{
    const char *new_page = sources->kind == SQL_HINTS_RECORDS ? "n = 2" : "block_id = 0";
    char filter[100];

    if (n == 1)
        put_wal(b, sources);
    else
        sql_hints_wal_by_the_rule(b, sources, n);
    replace(b, "hot", "{LOCK,", "{HOT_UPDATE,LOCK,");
    snprintf(filter, sizeof filter, "NOT (record_type LIKE 'UPDATE%%' AND %s) AND xid <> '0'",
             new_page);
    replace(b, "old_page", "xid <> '0'", filter);
}
