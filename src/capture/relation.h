/* relation.h -- what the catalog says of a table.
 *
 * Facts as values: its name, whether it can be locked, whether its rows have
 * an xmin, and the leaves that hold them (the table itself, its partitions,
 * the children that inherit from it). Its columns are in rowtype.h.
 * Reads the answers to statements of sql.h; runs none itself.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RELATION_H
#define RELATION_H

#include "pg/conn.h"

/* A relation with rows of its own. */
struct relation_leaf {
    uint32_t oid, filenode, blocks;
    char *schema, *name;
    bool is_readable; /* also by its own name: then its own rights and policies count */
};

struct relation {
    uint32_t oid;
    char *database; /* NULL until relation_read_facts */
    char *schema, *name;
    bool is_tree; /* partitioned, or others inherit from it */
    bool is_partitioned;
    bool is_lockable; /* LOCK TABLE can lock it: a table, or a view with the tables under it */
    bool has_xmin; /* all its rows have one that can be used */
    struct relation_leaf *leaves;
    size_t n_leaves;
};

void relation_fini(struct relation *t);

/* What a source allows its table to have or to lack. */
struct relation_allowed {
    bool no_xmin;      /* rows without a usable xmin: of a view, a foreign table ... */
    bool row_security; /* policies that hide rows from the role */
};

/* Reads the answer to sql_resolve: oid, schema and name. <asked> is the name as the script
 * gave it, for messages. ERR_REFUSED if there is no such table, or for what is not allowed. */
bool relation_read_name(struct relation *t, const struct result *r, const char *asked,
                        struct relation_allowed allowed, struct err *e) WARN_UNUSED;

/* Reads the first two answers to sql_table: the relation itself and its leaves. ERR_REFUSED
 * for what is not allowed; ERR_SQL if the table was dropped. */
bool relation_read_facts(struct relation *t, const struct result *relation,
                         const struct result *leaves, struct relation_allowed allowed,
                         struct err *e) WARN_UNUSED;

/* The leaf with this oid, borrowed, or NULL. */
const struct relation_leaf *relation_leaf(const struct relation *t, uint32_t oid);

#endif
