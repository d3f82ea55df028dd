/* rowtype.h -- what rows need to be understood: their columns and key.
 *
 * Immutable and counted, since rows outlive the poll that read them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROWTYPE_H
#define ROWTYPE_H

#include "capture/config.h"
#include "capture/identity.h"
#include "capture/increment.h"
#include "capture/relation.h"
#include "capture/row_order.h"
#include "pg/types.h"

#include <stdatomic.h>

#define ROWTYPE_STAMP_COLUMN "pgcdc_xid" /* of the triggers; no part of rows unless
                                         * `columns` names it */

/* All text is owned. */
struct rowtype_column {
    uint16_t number; /* of the column in its table (attnum), which a rename does not change; 0: it
                      * is no column of a table */
    char *name;
    char *type;      /* as format_type() writes it: "numeric(12,2)" */
    char *base_type; /* the same; of a domain, what it is a domain over; NULL: nothing is known of
                      * the values, since a script makes them */
    char *expression; /* of a generated column, with 's' (stored) or 'v' in front, or NULL */
    char *parts;     /* what the type consists of, as sql_parts tells it, or NULL */
    char *attributes; /* likewise */
    char *altered;   /* the transaction that altered the column last; NULL in a row type that is
                      * derived, or made by hand */
    char *former;    /* its name when the position was kept, if that was another one, or NULL */
    char *former_expression; /* likewise; of the column that had the name, if this one is new */
    enum types_kind kind;
    bool wants_to_json; /* statements read it as to_json(column) */
    bool is_nullable;
    bool is_text, is_total; /* see row_order.h */
    bool is_computed;   /* a function of a script made the values out of those of the column */
    bool has_parts;     /* its type consists of what somebody made */
    bool has_json_cast; /* likewise, because its type, no array or row, has a cast of its own */
};

/* A row of this type has n_columns fields: first the n_row columns of change.row in the
 * order of the table (or of the source's `columns`), then key columns that are not among them,
 * then, where <hides_key>, the text that stands for the key in ids. */
struct rowtype {
    atomic_int refs;
    char *database, *schema, *table;
    char *table_id; /* the table to which the numbers belong: "system/database/table", as ids */
    char *started; /* when its server was started; NULL: the server is a standby */
    char *numbers; /* of all columns of the table: " 1 2 5 " */
    char *dropped; /* names of columns that the position knew and the table has not, with COPY's
                    * backslashes, a newline after each; or NULL */
    struct rowtype_column *columns;
    size_t n_columns, n_row;
    size_t *key; /* indices into columns, in the order of the key */
    size_t n_key;
    bool hides_key;
    bool has_stamp; /* the table has the column of the triggers, see sql_trigger.h */
    bool has_no_xid; /* rows have a hash of their fields in the place of an xid */
    bool has_place;  /* several rows of one xid may have the same key: ids need their place */
    enum row_order order;
    uint64_t scope;  /* which columns fingerprints are of, as a hash; 0: there are none */
    bool is_by_hand; /* of changes that a script makes: the values are of any type */
    size_t soft; /* the column that says that a row is deleted; SIZE_MAX: none */
    char *signature; /* "name\ttype\n" for each column of the row, both with COPY's backslashes */
    char *columns_text; /* what a position keeps of all columns, see alter.h */
};

/* Adds a reference, and returns <s>. */
struct rowtype *rowtype_ref(struct rowtype *s);

/* Drops a reference; the last one frees. NULL is legal. */
void rowtype_unref(struct rowtype *s);

/* True if rows of both are read in the same way: the same columns, kinds and key. */
bool rowtype_equal(const struct rowtype *a, const struct rowtype *b);

/* How many columns make the key part of an id, and the index of the <k>th of them. */
static inline size_t rowtype_n_id(const struct rowtype *s)
{
    return s->hides_key ? 1 : s->n_key;
}

static inline size_t rowtype_id(const struct rowtype *s, size_t k)
{
    return s->hides_key ? s->n_columns - 1 : s->key[k];
}

/* True if the row's column <soft> is true or, if it is no boolean, not NULL. False if no column is
 * <soft>. */
bool rowtype_is_soft_deleted(const struct rowtype *s, const char *row, size_t len);

/* Sets s->signature. ERR_MEMORY. */
bool rowtype_sign(struct rowtype *s, struct err *e) WARN_UNUSED;

/* What the hash of a key depends on: values of one class hash alike, whatever their types. */
const char *rowtype_hash_class(const char *type);

/* Appends the key fields of a row, as they stand in it, tabs between. False if it has too few, or
 * <key> has no room. */
bool rowtype_put_key(const struct rowtype *s, const char *row, size_t len,
                     struct buf *key) WARN_UNUSED;

struct rowtype_answers {
    const struct result *columns; /* the third answer to sql_table */
    const struct result *parts;   /* to sql_parts; NULL: not asked */
};

/* True if any column in the third answer to sql_table has parts: sql_parts is to be asked. */
bool rowtype_has_parts(const struct result *columns);

/* Makes a row type of the columns and the key that <c> asks for, from what the server <id> said.
 * Returns owned, or NULL with ERR_REFUSED or ERR_MEMORY. */
struct rowtype *rowtype_read(const struct relation *t, const struct rowtype_answers *a,
                             const struct config *c, const struct identity *id, struct err *e);

/* Looks for the growing column <name> in the third answer to sql_table. *growth: what its values
 * are. ERR_REFUSED if it is not there, or of a type that cannot grow. */
bool rowtype_read_growth(const struct relation *t, const struct result *columns,
                         const char *name, enum increment_growth *growth,
                         struct err *e) WARN_UNUSED;

#endif
