/* shaped.h -- changes that were written as JSON, made rows again.
 *
 * A sink writes a change as JSON, and beside it the *shape* of its rows: the names and types of
 * their columns, and the key. The two hold all that a row needs to be what it was: its values
 * become text of COPY again, so that from there on nothing is different from a row of a server.
 * (lua/api_shape.h tells what a shape has. The LSN and the time of a commit are not in JSON.)
 *
 * A value has the text that it had: JSON of a number is the server's own, a timestamp loses its T,
 * a document is the slice of text that it was, unless it had raw newlines.
 *
 * No I/O, no Lua.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SHAPED_H
#define SHAPED_H

#include "capture/chunk.h"

/* A column of a shape. Both are borrowed. */
struct shaped_column {
    const char *name;
    const char *type; /* as format_type() writes it; NULL: not known, it was made by a script */
    bool is_json;     /* its values are JSON, though <type> does not tell */
};

/* A shape; borrowed. */
struct shaped_shape {
    const char *database, *schema, *table;
    const struct shaped_column *columns, *key;
    size_t n_columns, n_key;
    bool has_no_xid;
};

/* The row type of such rows: the columns, those of the key that are not among them, and a hidden
 * one for what ids have after the xid. Returns owned, or NULL (out of memory). */
struct rowtype *shaped_rowtype(const struct shaped_shape *shape);

/* Makes the one row of <c> (which is empty, and has no row type yet) of the JSON of a change, whose
 * rows have type <s>: with its op, xid, seq, time, and the old row. ERR_REFUSED: it is no such
 * change; ERR_MEMORY. */
bool shaped_read(struct rowtype *s, const char *json, size_t len, struct chunk *c,
                 struct err *e) WARN_UNUSED;

#endif
