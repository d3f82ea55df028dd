/* rowdata.h -- one row's raw bytes inside Lua, decoded on demand.
 *
 * A form is what the rows of one shape share; cells are one row. Both are
 * userdata: they live as long as some change, row or metatable needs them.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROWDATA_H
#define ROWDATA_H

#include "capture/chunk.h"

#include <lua.h>

extern const char *const rowdata_op_names[OP_COUNT];

/* Text that is the same in all changes of a shape. */
struct rowdata_text {
    char *p;
    size_t len;
};

struct row_class {
    struct rowtype *rowtype;
    struct rowdata_text *labels; /* "\"name\":" for each column */
    struct rowdata_text heads[OP_COUNT]; /* a change's JSON up to its key */
    struct rowdata_text id_head; /* "\"schema.table/", the start of the JSON of an id */
};

/* User value of a form: what `push` keeps with it. */
enum { ROW_CLASS_SHARED = 1 };

static inline void rowdata_put_text(struct buf *b, struct rowdata_text f)
{
    buf_add(b, f.p, f.len);
}

/* User value ROWDATA_SET: what the script assigned to the row, by name, see change_row.c for nil;
 * names that are no column also in its array part, in order. User value ROWDATA_DECODED: JSON
 * columns that were decoded, by name. Either is nil until needed. User value ROWDATA_OLD, which
 * only those have that say so: the cells of the row before. */
enum { ROWDATA_SET = 1, ROWDATA_DECODED, ROWDATA_OLD };

struct rowdata {
    const void *mark;   /* tells cells from other userdata that a script may put in their place */
    const struct rowtype *rowtype; /* only tells those of another table, likewise */
    uint32_t n_columns;
    uint64_t xid;
    enum op op;
    bool is_split;
    bool has_side; /* one of the first two user values is not nil */
    bool has_old;
    bool is_gone;  /* there is no row, only its key */
    char ts[CLOCK_TEXT];
    uint32_t len;
    uint32_t ends[]; /* one for each column, then len bytes */
};

/* Call it once per state. */
void rowdata_open(lua_State *L);

void rowdata_push_class(lua_State *L, struct rowtype *rowtype);       /* [-0, +1] */

/* Pushes the cells of a row of a chunk. */
struct rowdata *rowdata_push(lua_State *L, const struct chunk *chunk,
                             const struct chunk_row *row);

/* Pushes cells of <shape> with the op, xid and ts of <like> and room for <n> columns and <len>
 * bytes, which the caller fills. */
struct rowdata *rowdata_push_like(lua_State *L, const struct rowdata *like,
                                  const struct rowtype *rowtype, size_t n, size_t len);

/* The table at <index> holds the cells on top of the stack, which are popped. */
void rowdata_set(lua_State *L, int index);

/* The cells of the table at <index>, borrowed; throws if it has none that fit the form. */
struct rowdata *rowdata_at(lua_State *L, int index, const struct row_class *f);
/* The same, NULL if it has none or is no table. */
struct rowdata *rowdata_find(lua_State *L, int index);
void rowdata_push_of(lua_State *L, int index);                   /* [-0, +1] */

/* The form whose userdata is kept in the metatable of the table at <index>; throws if none is. */
void rowdata_set_class(lua_State *L, int metatable, int form);
struct row_class *rowdata_metatable_class(lua_State *L, int metatable);
struct row_class *rowdata_class(lua_State *L, int index);
void rowdata_push_class_of(lua_State *L, int index);              /* [-0, +1] */

/* The raw text of column <i>; valid as long as the cells. */
struct field rowdata_field(lua_State *L, const struct row_class *f, struct rowdata *c, size_t i);

/* Pushes the value of column <i> as the server sent it, nil for NULL. */
void rowdata_push_field(lua_State *L, const struct row_class *f, struct rowdata *c, size_t i);

/* Appends the JSON of column <i> as the server sent it. */
void rowdata_put_json(lua_State *L, const struct row_class *f, struct rowdata *c, size_t i,
                      struct buf *b);

/* Appends the xid as JSON; of what has none null. */
void rowdata_put_xid(const struct row_class *f, const struct rowdata *c, struct buf *b);

/* Throws that the text of column <i> is not UTF-8. */
void rowdata_throw_utf8(lua_State *L, const struct row_class *f, size_t i);

#endif
