/* relation.c -- what the catalog says of a table.
 * SPDX-License-Identifier: MIT */
#include "capture/relation.h"

#include <stdlib.h>
#include <string.h>

static void drop_leaves(struct relation *t)
{
    for (size_t i = 0; i < t->n_leaves; i++) {
        free(t->leaves[i].schema);
        free(t->leaves[i].name);
    }
    free(t->leaves);
    t->leaves = NULL;
    t->n_leaves = 0;
}

void relation_fini(struct relation *t)
{
    drop_leaves(t);
    free(t->database);
    free(t->schema);
    free(t->name);
    *t = (struct relation){ 0 };
}

/* Why rows of such a relation cannot be told apart by xmin; NULL if they can. */
static const char *why_no_xmin(char relkind, char persistence, const char *am)
{
    switch (relkind) {
    case 'p':
        return NULL;
    case 'r':
        if (persistence == 't')
            return "is a temporary table, which other sessions cannot read";
        return strcmp(am, "heap") == 0 ? NULL
                                       : "is not stored as a heap: its rows have no usable xmin";
    case 'v':
        return "is a view: its rows have no xmin; name the table under it, or use capture = "
               "\"increment\"";
    case 'm':
        return "is a materialized view, which cannot be locked against a refresh; use capture = "
               "\"increment\"";
    case 'f':
        return "is a foreign table: its rows have no xmin; read it where it lives, or use "
               "capture = \"increment\"";
    case 'S':
        return "is a sequence";
    default:
        return "is not a table";
    }
}

/* The columns of the answer to sql_resolve, and of the first answer to sql_table, which differ
 * after R_RLS. */
enum { R_OID, R_KIND, R_PERSISTENCE, R_AM, R_RLS, R_SCHEMA, R_NAME, R_DATABASE = R_SCHEMA };

/* True if not even a capture that needs no xmin can read such a relation. */
static bool is_out_of_reach(char relkind, char persistence)
{
    return strchr("rpvmf", relkind) == NULL || persistence == 't';
}

static bool check_relation(const struct relation *t, const struct result *r,
                           struct relation_allowed allowed, struct err *e)
{
    const char *why;

    if (result_count(r) == 0)
        return err_set(e, ERR_SQL, "the table %s.%s is gone", t->schema, t->name);
    why = why_no_xmin(*result_text(r, 0, R_KIND), *result_text(r, 0, R_PERSISTENCE),
                      result_text(r, 0, R_AM));
    if (why != NULL &&
        (!allowed.no_xmin || is_out_of_reach(*result_text(r, 0, R_KIND),
                                             *result_text(r, 0, R_PERSISTENCE))))
        return err_set(e, ERR_REFUSED, "%s.%s %s", t->schema, t->name, why);
    if (result_bool(r, 0, R_RLS) && !allowed.row_security)
        return err_set(e, ERR_REFUSED,
                       "row-level security would hide rows of %s.%s from this role: grant it "
                       "BYPASSRLS, or say rls = true to capture only the rows that it may see",
                       t->schema, t->name);
    return true;
}

bool relation_read_name(struct relation *t, const struct result *r, const char *asked,
                        struct relation_allowed allowed, struct err *e)
{
    if (result_count(r) == 0)
        return err_set(e, ERR_REFUSED,
                       "there is no table %s (names are resolved by the server's search_path; "
                       "write schema.table, and quote what is not lower case: \"My Table\")",
                       asked);
    relation_fini(t);
    t->oid = result_u32(r, 0, R_OID);
    t->schema = strdup(result_text(r, 0, R_SCHEMA));
    t->name = strdup(result_text(r, 0, R_NAME));
    t->is_lockable = strchr("rpv", *result_text(r, 0, R_KIND)) != NULL;
    if (t->schema != NULL && t->name != NULL)
        return check_relation(t, r, allowed, e);
    relation_fini(t);
    return err_memory(e);
}

/* The columns of the second answer to sql_table. */
enum { L_OID, L_SCHEMA, L_NAME, L_KIND, L_PERSISTENCE, L_AM, L_FILENODE, L_BLOCKS, L_READABLE };

static bool add_leaf(struct relation *t, const struct result *r, size_t i,
                     struct relation_allowed allowed, struct err *e)
{
    struct relation_leaf *leaf = &t->leaves[t->n_leaves];
    char kind = *result_text(r, i, L_KIND), persistence = *result_text(r, i, L_PERSISTENCE);
    const char *why = why_no_xmin(kind, persistence, result_text(r, i, L_AM));

    t->has_xmin = t->has_xmin && why == NULL;
    if (why != NULL && (!allowed.no_xmin || is_out_of_reach(kind, persistence)))
        return err_set(e, ERR_REFUSED, "%s.%s, a part of %s.%s, %s", result_text(r, i, L_SCHEMA),
                       result_text(r, i, L_NAME), t->schema, t->name, why);
    *leaf = (struct relation_leaf){
        .oid = result_u32(r, i, L_OID),
        .schema = strdup(result_text(r, i, L_SCHEMA)),
        .name = strdup(result_text(r, i, L_NAME)),
        .filenode = result_u32(r, i, L_FILENODE),
        .blocks = result_u32(r, i, L_BLOCKS),
        .is_readable = result_bool(r, i, L_READABLE),
    };
    t->n_leaves++;
    return leaf->schema != NULL && leaf->name != NULL ? true : err_memory(e);
}

bool relation_read_facts(struct relation *t, const struct result *relation,
                         const struct result *leaves, struct relation_allowed allowed,
                         struct err *e)
{
    size_t n = result_count(leaves);

    if (!check_relation(t, relation, allowed, e))
        return false;
    t->has_xmin = true;
    t->oid = result_u32(relation, 0, R_OID);
    drop_leaves(t);
    t->leaves = calloc(n + 1, sizeof *t->leaves);
    free(t->database);
    t->database = strdup(result_text(relation, 0, R_DATABASE));
    if (t->leaves == NULL || t->database == NULL)
        return err_memory(e);
    for (size_t i = 0; i < n; i++)
        if (!add_leaf(t, leaves, i, allowed, e))
            return false;
    t->is_partitioned = *result_text(relation, 0, R_KIND) == 'p';
    t->is_tree = t->is_partitioned || n > 1;
    return true;
}

const struct relation_leaf *relation_leaf(const struct relation *t, uint32_t oid)
{
    for (size_t i = 0; i < t->n_leaves; i++)
        if (t->leaves[i].oid == oid)
            return &t->leaves[i];
    return NULL;
}
