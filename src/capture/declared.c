/* declared.c -- what a source was declared to read, kept with its position.
 *
 * The text has a line for where, columns and pk each, with the names as the script has them:
 * "where id > 1\ncolumns a\tb\npk \n". Where the script says nothing a line ends after its word.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/declared.h"

#include "pg/copytext.h"

#include <stdlib.h>
#include <string.h>

enum { WHERE, COLUMNS, PK, N_LINES };

static void put_escaped(struct buf *b, const char *text)
{
    copytext_escape(b, text, strlen(text));
}

static void put_names(struct buf *b, const char *word, char **names, size_t n)
{
    buf_printf(b, "%s ", word);
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, i > 0 ? "\t" : "");
        put_escaped(b, names[i]);
    }
    buf_putc(b, '\n');
}

static char *describe(const struct config *c)
{
    struct buf b;

    buf_init(&b, BUF_SQL_MAX);
    buf_puts(&b, "where ");
    put_escaped(&b, c->where != NULL ? c->where : "");
    buf_putc(&b, '\n');
    put_names(&b, "columns", c->columns, c->n_columns);
    put_names(&b, "pk", c->pk, c->n_pk);
    return buf_take(&b);
}

/* The value in line <number> of <text>, *len bytes, borrowed. */
static const char *line(const char *text, int number, size_t *len)
{
    for (int i = 0; i < number && *text != '\0'; i++) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    text += strcspn(text, " \n");
    text += *text == ' ';
    *len = strcspn(text, "\n");
    return text;
}

static bool add_notice(struct source *s, int number, const char *was, size_t len, struct err *e)
{
    static const char *const what[N_LINES] = { "where", "columns", "pk" };
    const char *meaning[N_LINES] = {
        s->config->deletes
            ? "rows that only the old one let through are told as deleted, and those that only the"
              " new one lets through do not come until they are written again"
            : "rows that only the old one let through are not told as deleted, and those that only"
              " the new one lets through do not come until they are written again",
        "rows that were told before do not come again with other columns",
        "rows that were told before had another key, by which sinks know them",
    };
    const char *name = s->config->name;
    struct buf b;
    bool ok;

    buf_init(&b, BUF_SQL_MAX);
    buf_printf(&b, "%s= has changed since the position was kept (it was %.*s): %s; --reset=%s%s%s"
               " reads the table again", what[number], len > 0 ? (int)len : 7,
               len > 0 ? was : "not set", meaning[number],
               name != NULL ? name : s->facts.table.schema, name != NULL ? "" : ".",
               name != NULL ? "" : s->facts.table.name);
    ok = buf_ok(&b) ? source_add_notice(s, LOG_WARN, b.data, e) : err_memory(e);
    buf_fini(&b);
    return ok;
}

bool declared_check(struct source *s, struct err *e)
{
    struct position *p = &s->position;
    char *now;

    if (s->is_compared && p->declared != NULL)
        return true;
    if ((now = describe(s->config)) == NULL)
        return err_memory(e);
    for (int i = 0; p->declared != NULL && i < N_LINES; i++) {
        size_t len, now_len;
        const char *was = line(p->declared, i, &len), *is = line(now, i, &now_len);

        if ((len != now_len || memcmp(was, is, len) != 0) && !add_notice(s, i, was, len, e)) {
            free(now);
            return false;
        }
    }
    free(p->declared);
    p->declared = now;
    s->is_compared = true;
    return true;
}
