/* rowdata.c -- one row's raw bytes inside Lua, decoded on demand.
 * SPDX-License-Identifier: MIT */
#include "lua/rowdata.h"

#include "lua/field.h"
#include "lua/hidden.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

/* Pushes row data with room for <n> columns and <len> bytes. */
static struct rowdata *push_room(lua_State *L, size_t n, size_t len, int n_values)
{
    struct rowdata *d = lua_newuserdatauv(L, sizeof *d + n * sizeof d->ends[0] + len, n_values);

    d->n_columns = (uint32_t)n;
    d->is_split = d->has_side = d->has_old = false;
    d->len = (uint32_t)len;
    return d;
}

/* Fills in <d> for <row>, with the bytes of the chunk from <start> on. */
static void fill(struct rowdata *d, const struct chunk *chunk, const struct chunk_row *row,
                 size_t start)
{
    d->rowtype = chunk->rowtype;
    d->xid = row->xid;
    d->seq = chunk->seq != 0 ? chunk->seq + (uint64_t)(row - chunk->rows) : 0;
    d->place = row->place;
    d->log = row->log;
    d->op = row->op;
    d->is_key_only = row->is_key_only;
    d->has_unknown = row->has_unknown;
    memcpy(d->ts, chunk->ts, sizeof d->ts);
    memcpy((char *)(d->ends + d->n_columns), chunk->bytes + start, d->len);
}

struct rowdata *rowdata_push(lua_State *L, const struct chunk *chunk,
                             const struct chunk_row *row)
{
    const struct chunk_side *side = chunk->sides != NULL ? &chunk->sides[row - chunk->rows] : NULL;
    bool has_old = side != NULL && side->old_len > 0;
    size_t n = chunk->rowtype->n_columns;
    struct rowdata *d = push_room(L, n, row->len, has_old ? ROWDATA_OLD : ROWDATA_DECODED), *old;

    fill(d, chunk, row, row->start);
    if (has_old) {
        old = push_room(L, n, side->old_len, ROWDATA_DECODED);
        fill(old, chunk, row, side->old_start);
        old->is_key_only = old->has_unknown = false;
        lua_setiuservalue(L, -2, ROWDATA_OLD);
        d->has_old = true;
    }
    return d;
}

void rowdata_push_room(lua_State *L, size_t n, size_t len)
{
    push_room(L, n, len, 0);
}

bool rowdata_refill(lua_State *L, int index, const struct chunk *chunk,
                    const struct chunk_row *row)
{
    struct rowdata *d = lua_touserdata(L, index);
    size_t n = chunk->rowtype->n_columns;

    if (d == NULL || lua_rawlen(L, index) < sizeof *d + n * sizeof d->ends[0] + row->len)
        return false;
    *d = (struct rowdata){ .n_columns = (uint32_t)n, .len = row->len };
    fill(d, chunk, row, row->start);
    return true;
}

struct rowdata *rowdata_push_like(lua_State *L, const struct rowdata *like,
                                  const struct rowtype *rowtype, size_t n, size_t len)
{
    struct rowdata *d;

    if (len > UINT32_MAX)
        luaL_error(L, "a row is longer than 4 GB");
    d = push_room(L, n, len, ROWDATA_DECODED);
    d->rowtype = rowtype;
    d->xid = like->xid;
    d->seq = like->seq;
    d->place = like->place;
    d->log = like->log;
    d->op = like->op;
    d->is_key_only = like->is_key_only;
    d->has_unknown = like->has_unknown;
    memcpy(d->ts, like->ts, sizeof d->ts);
    return d;
}

void rowdata_set(lua_State *L, int index)
{
    hidden_set(L, index);
}

void rowdata_push_of(lua_State *L, int index)
{
    hidden_push(L, index);
}

void rowdata_push_side(lua_State *L, int index, int which)
{
    rowdata_push_of(L, index);                                 /* data */
    lua_getiuservalue(L, -1, which);
    lua_remove(L, -2);                                         /* side */
}

void rowdata_make_side(lua_State *L, int data_at, int which)
{
    data_at = lua_absindex(L, data_at);
    if (lua_getiuservalue(L, data_at, which) == LUA_TNIL) {    /* nil */
        ((struct rowdata *)lua_touserdata(L, data_at))->has_side = true;
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, data_at, which);                  /* side */
    }
}

struct rowdata *rowdata_find(lua_State *L, int index)
{
    struct rowdata *d = NULL;

    if (lua_istable(L, index)) {
        rowdata_push_of(L, index);
        d = lua_touserdata(L, -1);
        lua_pop(L, 1);
    }
    return d;
}

struct rowdata *rowdata_at(lua_State *L, int index, const struct row_class *class)
{
    struct rowdata *d = rowdata_find(L, index);

    if (d == NULL || d->rowtype != class->rowtype || d->n_columns != class->rowtype->n_columns)
        luaL_error(L, "this is not a change, nor the row of one");
    return d;
}

struct copytext_field rowdata_field(lua_State *L, const struct row_class *class,
                                    struct rowdata *d, size_t i)
{
    const char *p = (const char *)(d->ends + class->rowtype->n_columns);
    size_t start;

    if (d->rowtype != class->rowtype || d->n_columns != class->rowtype->n_columns)
        luaL_error(L, "a change holds the row of another table");
    if (!d->is_split) {
        if (!copytext_split(p, d->len, d->ends, class->rowtype->n_columns))
            luaL_error(L, "a row of %s.%s has another number of columns than the table",
                       class->rowtype->schema, class->rowtype->table);
        d->is_split = true;
    }
    start = i > 0 ? d->ends[i - 1] + 1 : 0;
    return (struct copytext_field){ p + start, d->ends[i] - start };
}

bool rowdata_is_unknown(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i)
{
    return d->has_unknown && copytext_is_unknown(rowdata_field(L, class, d, i));
}

void rowdata_put_json(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i,
                      struct buf *b)
{
    struct copytext_field field = rowdata_field(L, class, d, i);

    if (copytext_is_null(field) || copytext_is_unknown(field))
        buf_puts(b, "null");
    else if (!types_put_json(b, class->rowtype->columns[i].kind, field))
        row_class_throw_text(L, class, i);
}

static void push_text(lua_State *L, struct copytext_field f)
{
    luaL_Buffer b;
    char *to;

    if (memchr(f.p, '\\', f.len) == NULL) {
        lua_pushlstring(L, f.p, f.len);
        return;
    }
    to = luaL_buffinitsize(L, &b, f.len);
    luaL_pushresultsize(&b, copytext_unescape(f, to));
}

static void push_bytes(lua_State *L, struct copytext_field f)
{
    luaL_Buffer b;
    size_t len = 0;
    char *to = luaL_buffinitsize(L, &b, f.len);

    if (!types_bytea(f, to, &len))
        luaL_error(L, "a bytea column came as something else than hex digits");
    luaL_pushresultsize(&b, len);
}

static void push_document(lua_State *L, const struct row_class *class, size_t i,
                          struct copytext_field field)
{
    char why[160];
    const char *text;
    size_t len;

    push_text(L, field);                                       /* text */
    text = lua_tolstring(L, -1, &len);
    if (!json_push(L, text, len, why, sizeof why))             /* text value */
        luaL_error(L, "column %s of %s.%s holds JSON that cannot be decoded: %s",
                   class->rowtype->columns[i].name, class->rowtype->schema, class->rowtype->table,
                   why);
    lua_remove(L, -2);
}

void rowdata_push_field(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i)
{
    enum types_kind kind = class->rowtype->columns[i].kind;
    struct copytext_field field = rowdata_field(L, class, d, i);

    if (copytext_is_null(field) || copytext_is_unknown(field))
        lua_pushnil(L);
    else if (kind == TYPES_BYTEA)
        push_bytes(L, field);
    else if (kind == TYPES_JSON)
        push_document(L, class, i, field);
    else if (field_push(L, kind, field))
        return;
    else if (kind == TYPES_INT || kind == TYPES_FLOAT || kind == TYPES_BOOL)
        row_class_throw_text(L, class, i);
    else
        push_text(L, field);
}

void rowdata_put_xid(const struct row_class *class, const struct rowdata *d, struct buf *b)
{
    if (class->rowtype->has_no_xid)
        buf_puts(b, "null");
    else
        buf_put_u64(b, d->xid);
}

void rowdata_put_seq(const struct rowdata *d, struct buf *b)
{
    if (d->seq == 0)
        buf_puts(b, "null");
    else
        buf_put_u64(b, d->seq);
}
