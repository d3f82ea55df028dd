/* rowtype_derive.h -- row types that are made of another one, by hand, or of a recording.
 * SPDX-License-Identifier: MIT */
#ifndef ROWTYPE_DERIVE_H
#define ROWTYPE_DERIVE_H

#include "capture/rowtype.h"

/* A column of a row type that is made from another row type. All borrowed. */
struct rowtype_derive_column {
    const char *name;
    size_t from;  /* index into the other's columns, or ROWTYPE_DERIVE_NEW */
    bool is_text; /* holds any text, whatever the type of the other's column */
    bool is_computed; /* a function of the script makes the values */
};

#define ROWTYPE_DERIVE_NEW SIZE_MAX

/* The type of rows that were made of rows of <of>: the <n_row> columns of the row, then, up to <n>,
 * key columns, then one more if <hides_key>. Key columns of <of> that are not among them are no
 * longer part of the key. Returns owned, or NULL (out of memory). */
struct rowtype *rowtype_derive(const struct rowtype *of,
                               const struct rowtype_derive_column *columns, size_t n,
                               size_t n_row, bool hides_key);

/* The type of rows that a script makes by hand. All borrowed. */
struct rowtype_derive_hand {
    const char *database, *schema, *table;
    const char *const *names; /* of the columns of the row, then of other key columns */
    size_t n, n_row;
    const size_t *key;        /* indices into names */
    size_t n_key;
};

/* Returns owned, or NULL (out of memory). */
struct rowtype *rowtype_derive_by_hand(const struct rowtype_derive_hand *hand);

/* The type of rows that a recording has, see recording.h. All borrowed; of columns these fields:
 * those that rowtype_derive takes over; of <like> what rows of a derived one have. Returns owned,
 * or NULL (out of memory). */
struct rowtype *rowtype_derive_recorded(const struct rowtype *like);

#endif
