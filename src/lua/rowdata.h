/* rowdata.h -- one row's raw bytes inside Lua, decoded on demand.
 *
 * Row data is a userdata that a change, a row or both hide (see hidden.h): it lives as long as one
 * of them, and they never hide another one. So a pointer to it is valid while one of them is on the
 * stack. What all rows of a row type share is in row_class.h.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROWDATA_H
#define ROWDATA_H

#include "lua/row_class.h"

/* User values. The first two are side tables, nil until something is put into them; the third
 * exists only in row data that has_old.
 *   SET      what the script assigned to the row, by name (see change_row.c for nil); names that
 *            are no column are also in its array part, in order
 *   DECODED  JSON columns that were decoded, by name
 *   OLD      the data of the row before the change */
enum { ROWDATA_SET = 1, ROWDATA_DECODED, ROWDATA_OLD };

struct rowdata {
    const struct rowtype *rowtype; /* only compared with the class's: it may be freed */
    uint32_t n_columns;
    uint64_t xid;
    uint64_t seq;     /* 0: it has none */
    struct chunk_place place; /* if the row type <has_place> */
    struct chunk_log log;
    enum op op;
    bool is_split;    /* <ends> is filled in */
    bool has_side;    /* at least one of the side tables is there */
    bool has_old;
    bool is_key_only; /* there is no row, only its key */
    bool has_unknown; /* some of its values are not known, see rowdata_is_unknown */
    char ts[CLOCK_TEXT];
    uint32_t len;
    uint32_t ends[];  /* one for each column, then len bytes */
};

/* Pushes the data of a row of a chunk, which may be freed afterwards. Returns it, borrowed. */
struct rowdata *rowdata_push(lua_State *L, const struct chunk *chunk,
                             const struct chunk_row *row);

/* Pushes row data that is to be that of one row after the other, of <n> columns and <len> bytes at
 * most, while nobody else has it. rowdata_refill makes it that of a row of a chunk that has no old
 * one; false: it has not that much room. */
void rowdata_push_room(lua_State *L, size_t n, size_t len);
bool rowdata_refill(lua_State *L, int index, const struct chunk *chunk,
                    const struct chunk_row *row);

/* Pushes row data of <rowtype> with the op, xid, seq and ts of <like> and room for <n> columns and
 * <len> bytes, which the caller fills. Returns it, borrowed. */
struct rowdata *rowdata_push_like(lua_State *L, const struct rowdata *like,
                                  const struct rowtype *rowtype, size_t n, size_t len);

/* Makes the table at <index> hold the row data on top of the stack, which is popped. */
void rowdata_set(lua_State *L, int index);

/* The row data of the table at <index>, borrowed; throws if it has none that fits the class. */
struct rowdata *rowdata_at(lua_State *L, int index, const struct row_class *class);
/* The row data of the value at <index>, borrowed; NULL if it has none or is no table. */
struct rowdata *rowdata_find(lua_State *L, int index);
/* Pushes the row data of the table at <index>; nil if it has none. */
void rowdata_push_of(lua_State *L, int index);                 /* [-0, +1] */

/* Pushes side table <which> of the row data of the table at <index>; nil if it is not there. */
void rowdata_push_side(lua_State *L, int index, int which);    /* [-0, +1] */
/* Pushes side table <which> of the row data at <data_at>; it is made if it is not there. */
void rowdata_make_side(lua_State *L, int data_at, int which);  /* [-0, +1] */

/* The raw text of column <i>; valid as long as the row data. */
struct copytext_field rowdata_field(lua_State *L, const struct row_class *class,
                                    struct rowdata *d, size_t i);

/* True if nobody knows the value of column <i>, because the update left it as it was. */
bool rowdata_is_unknown(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i);

/* Pushes the value of column <i> as the server sent it, nil for NULL and where it is unknown. */
void rowdata_push_field(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i);

/* Appends the JSON of column <i> as the server sent it. */
void rowdata_put_json(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i,
                      struct buf *b);

/* Appends the xid, or the seq, as JSON; null for a row that has none. */
void rowdata_put_xid(const struct row_class *class, const struct rowdata *d, struct buf *b);
void rowdata_put_seq(const struct rowdata *d, struct buf *b);

#endif
