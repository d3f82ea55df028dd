/* reset.c -- which source --reset=SOURCE means, and whether a state is of these sources.
 * SPDX-License-Identifier: MIT */
#include "host/reset.h"

#include "base/buf.h"
#include "base/text.h"
#include "lua/api_source.h"
#include "state/home.h"

#include <stdlib.h>
#include <string.h>

/* The name of a table in SQL without its quotes, folded as the server does: "A"."b", c.D become
 * A.b and c.d. Owned, or NULL without memory. */
static char *without_quotes(const char *name)
{
    bool is_quoted = false;
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    for (const char *p = name; *p != '\0'; p++) {
        if (*p == '"' && is_quoted && p[1] == '"')
            buf_putc(&b, *p++);
        else if (*p == '"')
            is_quoted = !is_quoted;
        else
            buf_putc(&b, !is_quoted && *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p);
    }
    return buf_take(&b);
}

/* True if <full> is <table> with a schema in front. */
static bool has_schema_before(const char *full, const char *table)
{
    size_t n = strlen(full), m = strlen(table);

    return n > m + 1 && full[n - m - 1] == '.' && strcmp(full + n - m, table) == 0;
}

/* How well <asked> means a source: 2 exactly, 1 but for a schema, 0 not at all. */
static int match(const struct config *c, const char *table, const char *asked, const char *plain)
{
    if (c->name != NULL)
        return strcmp(c->name, asked) == 0 ? 2 : 0;
    if (strcmp(c->table, asked) == 0 || strcmp(table, asked) == 0 || strcmp(table, plain) == 0)
        return 2;
    return has_schema_before(table, plain) || has_schema_before(plain, table) ? 1 : 0;
}

/* A name among <names> that is <table> with a schema, if <table> has none; or NULL. */
static const char *other_schema(char *const *names, size_t n, const char *table)
{
    for (size_t i = 0; i < n && strchr(table, '.') == NULL; i++)
        if (has_schema_before(names[i], table))
            return names[i];
    return NULL;
}

static bool fail_unknown(const char *asked, char *const *names, size_t n, struct err *e)
{
    const char *near = text_nearest(asked, (const char *const *)names, n);

    if (near != NULL)
        return err_set(e, ERR_USAGE, "--reset=%s: the script has no such source; did you mean %s?",
                       asked, near);
    return err_set(e, ERR_USAGE, "--reset=%s: the script has no such source%s%s", asked,
                   n == 1 ? "; its only one is " : "", n == 1 ? names[0] : "");
}

/* Forgets what is kept of the source that is called <name>, of a table <plain> as asked. */
static bool forget(struct script *s, const struct config *c, const char *name, const char *plain,
                   struct err *e)
{
    const char *full = c->name == NULL && has_schema_before(plain, name) ? plain : name;
    bool is_any_schema = c->name == NULL && strchr(full, '.') == NULL;
    int n;

    if (!store_forget(s->store, full, is_any_schema, &n, e))
        return false;
    if (n == 0)
        log_text(s->o.log, LOG_WARN, "there was no position to forget", "source", full);
    return true;
}

static bool forget_asked(struct script *s, struct err *e)
{
    const char *asked = s->o.reset;
    char **names = calloc(s->n_sources + 1, sizeof *names), *plain = without_quotes(asked);
    bool ok = names != NULL && plain != NULL;
    const char *other;
    int best = 0;

    for (size_t i = 0; ok && i < s->n_sources; i++) {
        const struct config *c = s->sources[i].config;

        names[i] = c->name != NULL ? strdup(c->name) : without_quotes(c->table);
        if ((ok = names[i] != NULL) && match(c, names[i], asked, plain) > best)
            best = match(c, names[i], asked, plain);
    }
    if (!ok)
        err_memory(e);
    else if ((other = other_schema(names, s->n_sources, plain)) != NULL && best == 2)
        ok = err_set(e, ERR_USAGE, "--reset=%s: write its schema as well, since the script also has"
                     " %s", asked, other);
    else if (best == 0)
        ok = fail_unknown(asked, names, s->n_sources, e);
    for (size_t i = 0; ok && i < s->n_sources; i++)
        if (match(s->sources[i].config, names[i], asked, plain) == best)
            ok = forget(s, s->sources[i].config, names[i], plain, e);
    for (size_t i = 0; names != NULL && i < s->n_sources; i++)
        free(names[i]);
    free(names);
    free(plain);
    return ok;
}

/* Refuses a state that has positions, but of none of the sources of this script. A state without
 * positions is nobody's. */
static bool check_owner(struct script *s, struct err *e)
{
    struct buf others;
    bool is_ours = false, ok = true;

    for (size_t i = 0; ok && !is_ours && i < s->n_sources; i++) {
        const struct config *c = s->sources[i].config;
        char *name = c->name != NULL ? strdup(c->name) : without_quotes(c->table);

        ok = name != NULL || err_memory(e);
        is_ours = ok && store_has_position(s->store, name);
        free(name);
    }
    if (!ok || is_ours)
        return ok;
    buf_init(&others, BUF_SQL_MAX);
    ok = home_put_sources(s->store, &others, e) && (buf_ok(&others) || err_memory(e));
    if (ok && others.len > 0)
        ok = err_set(e, ERR_STATE, "the pipeline %.100s in the state's database is of other sources"
                     " (%.300s): choose another --name, or forget them with --reset",
                     s->o.pipeline, others.data);
    buf_fini(&others);
    return ok;
}

bool reset_source(struct script *s, struct err *e)
{
    return (s->o.reset == NULL || forget_asked(s, e)) &&
           (s->o.database == NULL || s->store == NULL || check_owner(s, e));
}
