/* rowtype.h -- what rows need to be understood: their columns and key.
 *
 * Immutable and counted, since rows outlive the poll that read them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROWTYPE_H
#define ROWTYPE_H

#include "capture/config.h"
#include "capture/increment.h"
#include "capture/relation.h"
#include "pg/types.h"

#include <stdatomic.h>

#define ROWTYPE_STAMP_COLUMN "pgcdc_xid" /* is no part of rows unless `columns` names it */

struct rowtype_column {
    char *name;
    char *type; /* as format_type() writes it: "numeric(12,2)" */
    enum types_kind kind;
    bool wants_to_json;
};

/* A row of this type has n_columns fields: first the n_row columns of change.row in the
 * order of the table (or of the source's `columns`), then key columns that are not among them,
 * then, where <hides_key>, the text that stands for the key in ids. */
struct rowtype {
    atomic_int refs;
    char *database, *schema, *table;
    struct rowtype_column *columns;
    size_t n_columns, n_row;
    size_t *key; /* indices into columns, in the order of the key */
    size_t n_key;
    bool hides_key;
    bool has_stamp; /* the table has the column of the triggers, see sql_trigger.h */
    bool has_no_xid; /* what rows have for an xid is a hash of their fields */
    size_t soft; /* the column that says that a row is deleted; SIZE_MAX: none */
    char *signature; /* "name\ttype\n" for each column of the row, both with COPY's backslashes */
};

struct rowtype *rowtype_ref(struct rowtype *s);
void rowtype_unref(struct rowtype *s);
bool rowtype_equal(const struct rowtype *a, const struct rowtype *b);

/* The columns whose values make the key part of an id. */
static inline size_t rowtype_n_id(const struct rowtype *s)
{
    return s->hides_key ? 1 : s->n_key;
}

static inline size_t rowtype_id(const struct rowtype *s, size_t k)
{
    return s->hides_key ? s->n_columns - 1 : s->key[k];
}

/* True if the row's column <soft> is not NULL or, for a boolean, true. */
bool rowtype_is_soft_deleted(const struct rowtype *s, const char *row, size_t len);

/* A column of a row type that is made from another one. */
struct rowtype_source {
    const char *name;
    size_t from;  /* index into the other's columns, or ROWTYPE_NEW */
    bool is_text; /* holds any text, whatever the type of the other's column */
};

#define ROWTYPE_NEW SIZE_MAX

/* The type of rows that were made of rows of <of>: the <n_row> columns of the row, then, up to
 * <n>, key columns, then one more if <hides_key>. Columns of the key that are not among them are
 * none any more. Returns owned, or NULL (out of memory). */
struct rowtype *rowtype_derive(const struct rowtype *of, const struct rowtype_source *columns,
                               size_t n, size_t n_row, bool hides_key);

/* Appends the key fields of a row, as they stand in it, tabs between. False if it has too few. */
bool rowtype_put_key(const struct rowtype *s, const char *row, size_t len,
                     struct buf *key) WARN_UNUSED;

/* Reads the third answer to sql_table, of the columns and the key that <c> asks for. Returns owned,
 * or NULL with ERR_REFUSED. */
struct rowtype *rowtype_read(const struct relation *t, const struct result *columns,
                             const struct config *c, struct err *e);

/* Looks for a column that grows in the third answer to sql_table. ERR_REFUSED if it is not there,
 * or of another type. */
bool rowtype_read_growth(const struct relation *t, const struct result *columns,
                       const char *name, enum increment_growth *growth, struct err *e) WARN_UNUSED;

#endif
