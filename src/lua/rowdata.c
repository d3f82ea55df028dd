/* rowdata.c -- one row's raw bytes inside Lua, decoded on demand.
 *
 * Registry: &form_key -> the metatable of forms.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/rowdata.h"

#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

const char *const rowdata_op_names[OP_COUNT] = { "read", "upsert", "insert", "update", "delete" };

static const char rowdata_key, form_key;

static int drop_form(lua_State *L)
{
    struct row_class *f = lua_touserdata(L, 1);

    for (size_t i = 0; f->labels != NULL && i < f->rowtype->n_columns; i++)
        free(f->labels[i].p);
    free(f->labels);
    for (size_t op = 0; op < OP_COUNT; op++)
        free(f->heads[op].p);
    free(f->id_head.p);
    rowtype_unref(f->rowtype);
    *f = (struct row_class){ 0 };
    return 0;
}

void rowdata_open(lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, drop_form);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &form_key);
}

/* Keeps what was built in <b>, which is emptied, in <to>. */
static void keep(lua_State *L, struct buf *b, bool is_utf8, struct rowdata_text *to)
{
    to->len = b->len;
    to->p = buf_take(b);
    if (to->p == NULL)
        luaL_error(L, "out of memory");
    if (!is_utf8)
        luaL_error(L, "the name of a table or of a column is not valid UTF-8");
}

static void make_label(lua_State *L, const char *name, struct rowdata_text *to)
{
    struct buf b;
    bool ok;

    buf_init(&b, SIZE_MAX / 2);
    ok = types_put_string(&b, name, strlen(name));
    buf_putc(&b, ':');
    keep(L, &b, ok, to);
}

static void make_head(lua_State *L, const struct rowtype *s, const char *op,
                      struct rowdata_text *to)
{
    struct buf b;
    bool ok;

    buf_init(&b, SIZE_MAX / 2);
    buf_printf(&b, "{\"op\":\"%s\",\"schema\":", op);
    ok = types_put_string(&b, s->schema, strlen(s->schema));
    buf_puts(&b, ",\"table\":");
    ok = types_put_string(&b, s->table, strlen(s->table)) && ok;
    buf_puts(&b, ",\"key\":");
    keep(L, &b, ok, to);
}

static void make_id_head(lua_State *L, const struct rowtype *s, struct rowdata_text *to)
{
    struct buf b, name;
    bool ok;

    buf_init(&name, SIZE_MAX / 2);
    buf_printf(&name, "%s.%s/", s->schema, s->table);
    buf_init(&b, SIZE_MAX / 2);
    ok = buf_ok(&name) && types_put_string(&b, name.data, name.len);
    buf_fini(&name);
    if (ok)
        b.len--; /* the quote: an id goes on */
    keep(L, &b, ok, to);
}

void rowdata_push_class(lua_State *L, struct rowtype *rowtype)
{
    struct row_class *f = lua_newuserdatauv(L, sizeof *f, ROW_CLASS_SHARED); /* form */

    *f = (struct row_class){ 0 };
    lua_rawgetp(L, LUA_REGISTRYINDEX, &form_key);
    lua_setmetatable(L, -2);
    f->rowtype = rowtype_ref(rowtype);
    f->labels = calloc(rowtype->n_columns + 1, sizeof *f->labels);
    if (f->labels == NULL)
        luaL_error(L, "out of memory");
    for (size_t i = 0; i < rowtype->n_columns; i++)
        make_label(L, rowtype->columns[i].name, &f->labels[i]);
    for (size_t op = 0; op < OP_COUNT; op++)
        make_head(L, rowtype, rowdata_op_names[op], &f->heads[op]);
    make_id_head(L, rowtype, &f->id_head);
}

static struct rowdata *push_raw(lua_State *L, const struct chunk *chunk,
                                const struct chunk_row *row, const char *bytes, size_t len,
                                int n_values)
{
    size_t n = chunk->rowtype->n_columns;
    struct rowdata *c = lua_newuserdatauv(L, sizeof *c + n * sizeof c->ends[0] + len, n_values);

    c->mark = &rowdata_key;
    c->rowtype = chunk->rowtype;
    c->n_columns = (uint32_t)n;
    c->xid = row->xid;
    c->op = row->op;
    c->is_gone = row->is_key_only;
    c->is_split = c->has_side = c->has_old = false;
    memcpy(c->ts, chunk->ts, sizeof c->ts);
    c->len = (uint32_t)len;
    memcpy((char *)(c->ends + n), bytes, len);
    return c;
}

struct rowdata *rowdata_push(lua_State *L, const struct chunk *chunk,
                             const struct chunk_row *row)
{
    const struct chunk_side *side = chunk->sides != NULL ? &chunk->sides[row - chunk->rows] : NULL;
    bool has_old = side != NULL && side->old_len > 0;
    struct rowdata *c = push_raw(L, chunk, row, chunk->bytes + row->start, row->len,
                                 has_old ? ROWDATA_OLD : ROWDATA_DECODED);

    if (has_old) {
        push_raw(L, chunk, row, chunk->bytes + side->old_start, side->old_len,
                 ROWDATA_DECODED)->is_gone = false;
        lua_setiuservalue(L, -2, ROWDATA_OLD);
        c->has_old = true;
    }
    return c;
}

struct rowdata *rowdata_push_like(lua_State *L, const struct rowdata *like,
                                  const struct rowtype *rowtype, size_t n, size_t len)
{
    struct rowdata *c;

    if (len > UINT32_MAX)
        luaL_error(L, "a row is longer than 4 GB");
    c = lua_newuserdatauv(L, sizeof *c + n * sizeof c->ends[0] + len, 2);
    *c = *like;
    c->rowtype = rowtype;
    c->n_columns = (uint32_t)n;
    c->is_split = c->has_side = c->has_old = false;
    c->len = (uint32_t)len;
    return c;
}

void rowdata_set(lua_State *L, int index)
{
    lua_rawsetp(L, index, &rowdata_key);
}

void rowdata_push_of(lua_State *L, int index)
{
    lua_rawgetp(L, index, &rowdata_key);
}

struct rowdata *rowdata_find(lua_State *L, int index)
{
    struct rowdata *c = NULL;

    if (lua_istable(L, index)) {
        rowdata_push_of(L, index);
        if (lua_type(L, -1) == LUA_TUSERDATA && lua_rawlen(L, -1) >= sizeof *c)
            c = lua_touserdata(L, -1);
        lua_pop(L, 1);
    }
    return c != NULL && c->mark == &rowdata_key ? c : NULL;
}

struct rowdata *rowdata_at(lua_State *L, int index, const struct row_class *f)
{
    struct rowdata *c = rowdata_find(L, index);

    if (c == NULL || c->rowtype != f->rowtype || c->n_columns != f->rowtype->n_columns)
        luaL_error(L, "this is not a change, nor the row of one");
    return c;
}

void rowdata_set_class(lua_State *L, int metatable, int form)
{
    metatable = lua_absindex(L, metatable);
    lua_pushvalue(L, form);
    lua_rawsetp(L, metatable, &form_key);
}

struct row_class *rowdata_metatable_class(lua_State *L, int metatable)
{
    struct row_class *f;

    lua_rawgetp(L, metatable, &form_key);
    f = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return f;
}

struct row_class *rowdata_class(lua_State *L, int index)
{
    struct row_class *f = NULL;

    if (lua_getmetatable(L, index)) {
        f = rowdata_metatable_class(L, -1);
        lua_pop(L, 1);
    }
    if (f == NULL)
        luaL_error(L, "this is not a change, nor a part of one");
    return f;
}

void rowdata_push_class_of(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) {
        lua_pushnil(L);
        return;
    }
    lua_rawgetp(L, -1, &form_key);
    lua_remove(L, -2);
}

struct field rowdata_field(lua_State *L, const struct row_class *f, struct rowdata *c, size_t i)
{
    const char *p = (const char *)(c->ends + f->rowtype->n_columns);
    size_t start;

    if (c->rowtype != f->rowtype || c->n_columns != f->rowtype->n_columns)
        luaL_error(L, "a change holds the row of another table");
    if (!c->is_split) {
        if (!field_split(p, c->len, c->ends, f->rowtype->n_columns))
            luaL_error(L, "a row of %s.%s has another number of columns than the table",
                       f->rowtype->schema, f->rowtype->table);
        c->is_split = true;
    }
    start = i > 0 ? c->ends[i - 1] + 1 : 0;
    return (struct field){ p + start, c->ends[i] - start };
}

void rowdata_throw_utf8(lua_State *L, const struct row_class *f, size_t i)
{
    luaL_error(L, "column %s of %s.%s holds text that is not valid UTF-8",
               f->rowtype->columns[i].name, f->rowtype->schema, f->rowtype->table);
}

void rowdata_put_json(lua_State *L, const struct row_class *f, struct rowdata *c, size_t i,
                      struct buf *b)
{
    struct field field = rowdata_field(L, f, c, i);

    if (field_is_null(field))
        buf_puts(b, "null");
    else if (!field_put_json(b, f->rowtype->columns[i].kind, field))
        rowdata_throw_utf8(L, f, i);
}

static void push_text(lua_State *L, struct field f)
{
    luaL_Buffer b;
    char *to;

    if (memchr(f.p, '\\', f.len) == NULL) {
        lua_pushlstring(L, f.p, f.len);
        return;
    }
    to = luaL_buffinitsize(L, &b, f.len);
    luaL_pushresultsize(&b, field_unescape(f, to));
}

static void push_bytes(lua_State *L, struct field f)
{
    luaL_Buffer b;
    size_t len = 0;
    char *to = luaL_buffinitsize(L, &b, f.len);

    if (!field_bytea(f, to, &len))
        luaL_error(L, "a bytea column came as something else than hex digits");
    luaL_pushresultsize(&b, len);
}

static void push_timestamp(lua_State *L, struct field f)
{
    char text[128];

    if (f.len + 3 > sizeof text)
        push_text(L, f);
    else
        lua_pushlstring(L, text, field_timestamp(f, text));
}

static void push_document(lua_State *L, const struct row_class *f, size_t i, struct field field)
{
    char why[160];
    const char *text;
    size_t len;

    push_text(L, field);                                       /* text */
    text = lua_tolstring(L, -1, &len);
    if (!json_push(L, text, len, why, sizeof why))             /* text value */
        luaL_error(L, "column %s of %s.%s holds JSON that cannot be decoded: %s",
                   f->rowtype->columns[i].name, f->rowtype->schema, f->rowtype->table, why);
    lua_remove(L, -2);
}

static lua_Integer to_integer(struct field f)
{
    lua_Unsigned n = 0;
    size_t i = f.len > 0 && f.p[0] == '-';

    for (; i < f.len; i++)
        n = n * 10 + (lua_Unsigned)(f.p[i] - '0');
    return (lua_Integer)(f.p[0] == '-' ? 0 - n : n);
}

static double to_float(struct field f)
{
    char text[64];
    size_t n = f.len < sizeof text ? f.len : sizeof text - 1;

    memcpy(text, f.p, n);
    text[n] = '\0';
    return strtod(text, NULL);
}

void rowdata_push_field(lua_State *L, const struct row_class *f, struct rowdata *c, size_t i)
{
    struct field field = rowdata_field(L, f, c, i);

    if (field_is_null(field)) {
        lua_pushnil(L);
        return;
    }
    switch (f->rowtype->columns[i].kind) {
    case KIND_BOOL:
        lua_pushboolean(L, field.len == 1 && field.p[0] == 't');
        return;
    case KIND_INT:
        lua_pushinteger(L, to_integer(field));
        return;
    case KIND_FLOAT:
        lua_pushnumber(L, to_float(field));
        return;
    case KIND_BYTEA:
        push_bytes(L, field);
        return;
    case KIND_TIMESTAMP:
        push_timestamp(L, field);
        return;
    case KIND_JSON:
        push_document(L, f, i, field);
        return;
    case KIND_NUMERIC:
    case KIND_TEXT:
        break;
    }
    push_text(L, field);
}

void rowdata_put_xid(const struct row_class *f, const struct rowdata *c, struct buf *b)
{
    if (f->rowtype->has_no_xid)
        buf_puts(b, "null");
    else
        buf_put_u64(b, c->xid);
}
