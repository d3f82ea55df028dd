/* summary.c -- what would be captured of a source, for people.
 * SPDX-License-Identifier: MIT */
#include "capture/summary.h"

#include "capture/method.h"

void summary_put(const struct source *s, int server_version, struct buf *report)
{
    const struct begin_facts *f = &s->facts;
    const struct config *c = s->config;

    buf_printf(report, "table %s.%s", f->table.schema, f->table.name);
    if (f->table.is_tree)
        buf_printf(report, " (%zu leaves)", f->table.n_leaves);
    buf_puts(report, ", key ");
    for (size_t i = 0; i < f->rowtype->n_key; i++)
        buf_printf(report, "%s%s", i > 0 ? "," : "", f->rowtype->columns[f->rowtype->key[i]].name);
    buf_printf(report, ", %zu columns, every %g", f->rowtype->n_row,
               (double)c->interval_min_ms / 1000);
    if (c->interval_max_ms != c->interval_min_ms)
        buf_printf(report, " to %g", (double)c->interval_max_ms / 1000);
    buf_printf(report, " s%s%s", s->declared->report, c->column != NULL ? c->column : "");
    if (c->parallel > 0)
        buf_printf(report, ", scans by up to %u parallel workers", c->parallel);
    if (c->deletes)
        buf_printf(report, ", deletes%s%s", c->keeps_old ? ", old rows" : "",
                   c->skips_unchanged ? ", unchanged ones skipped" : "");
    buf_printf(report, ", Postgres %d.%d (%s)", server_version / 10000, server_version % 10000,
               f->identity.in_recovery ? "standby" : "primary");
}

void summary_make_line(struct buf *text, size_t begin)
{
    for (size_t i = begin; buf_ok(text) && i < text->len; i++)
        if ((unsigned char)text->data[i] < ' ' || text->data[i] == 127)
            text->data[i] = '?';
}
