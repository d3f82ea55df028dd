/* api_copy.c -- changes as the lines of a COPY.
 * SPDX-License-Identifier: MIT */
#include "lua/api_copy.h"

#include "base/text.h"
#include "lua/api_copy_lines.h"
#include "lua/json.h"
#include "lua/change.h"
#include "lua/change_row.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#define PLAN "pgcdc.plan"

struct kept_index_entry {
    bool is_column;
    uint32_t column;
};

enum tail { TAIL_NONE, TAIL_COUNT, TAIL_VERSION };

/* User values of a plan. SLOTS: the list it was made of; KNOWN: the set of names; METATABLE: that
 * of its changes. */
enum { PLAN_LINES = 1, PLAN_CLASS, PLAN_METATABLE, PLAN_SLOTS, PLAN_KNOWN };

struct plan {
    struct lines *lines;
    struct row_class *class;
    const void *metatable;
    enum tail tail;
    bool is_verbatim; /* its slots are the columns of the class as they stand */
    size_t n;
    struct kept_index_entry slots[];
};

/* ---- columns ---- */

static const char *const kind_names[] = {
    [KIND_TEXT] = "text", [KIND_BOOL] = "bool", [KIND_INT] = "int", [KIND_FLOAT] = "float",
    [KIND_NUMERIC] = "numeric", [KIND_BYTEA] = "bytea", [KIND_TIMESTAMP] = "timestamp",
    [KIND_JSON] = "json",
};

static int columns(lua_State *L)
{
    const struct rowtype *s;
    size_t n;

    if (!change_is(L, 1))
        return 0;
    s = row_class_at(L, 1)->rowtype;
    n = s->n_columns - (s->hides_key ? 1 : 0);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        const struct rowtype_column *c = &s->columns[i];

        lua_createtable(L, 0, 6);
        lua_pushstring(L, c->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, c->type);
        lua_setfield(L, -2, "type");
        lua_pushstring(L, kind_names[c->kind]);
        lua_setfield(L, -2, "kind");
        lua_pushboolean(L, c->wants_to_json);
        lua_setfield(L, -2, "wants_json");
        lua_pushboolean(L, i < s->n_row);
        lua_setfield(L, -2, "in_row");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    for (size_t k = 0; k < s->n_key; k++) {
        lua_rawgeti(L, -1, (lua_Integer)s->key[k] + 1);
        lua_pushinteger(L, (lua_Integer)k + 1);
        lua_setfield(L, -2, "key");
        lua_pop(L, 1);
    }
    return 1;
}

/* Pushes what a script added to the row whose cells the table at <index> holds. */
static void push_added(lua_State *L, int index)
{
    lua_createtable(L, 0, 0);                                  /* added */
    rowdata_push_of(L, index);
    lua_getiuservalue(L, -1, ROWDATA_SET);                     /* added cells side */
    for (lua_Integer i = 1; lua_istable(L, -1); i++) {
        if (lua_rawgeti(L, -1, i) == LUA_TNIL) {
            lua_pop(L, 1);
            break;
        }
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);                                     /* added cells side name value */
        lua_rawset(L, -5);
    }
    lua_pop(L, 2);
}

static int added(lua_State *L)
{
    luaL_argcheck(L, change_is(L, 1), 1, "a change is needed");
    lua_settop(L, 1);
    lua_pushliteral(L, "row");
    if (lua_rawget(L, 1) == LUA_TNIL)
        lua_pop(L, 1);
    if (rowdata_find(L, -1) != NULL)
        push_added(L, lua_gettop(L));
    return 1; /* a table that the script put in the place of the row is all its own */
}

/* ---- plans ---- */

static void read_slot(lua_State *L, struct plan *p, size_t i)
{
    const struct rowtype *s = p->class->rowtype;
    struct kept_index_entry *slot = &p->slots[i];

    lua_rawgeti(L, 3, (lua_Integer)i + 1);
    if (lua_isinteger(L, -1)) {
        lua_Integer column = lua_tointeger(L, -1);

        luaL_argcheck(L, column >= 1 && (size_t)column <= s->n_columns, 3, "no such column");
        *slot = (struct kept_index_entry){ true, (uint32_t)column - 1 };
    } else {
        luaL_argcheck(L, lua_isstring(L, -1), 3, "a slot is a number or a name");
        *slot = (struct kept_index_entry){ false, 0 };
    }
    lua_pop(L, 1);
}

static int new_plan(lua_State *L)
{
    static const char *const tails[] = { "", "count", "version", NULL };
    struct lines *to = api_copy_lines_at(L, 2);
    enum tail tail = (enum tail)luaL_checkoption(L, 4, "", tails);
    struct plan *p;
    size_t n;

    luaL_argcheck(L, change_is(L, 1), 1, "a change is needed");
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 5, LUA_TTABLE);
    lua_settop(L, 5);
    n = lua_rawlen(L, 3);
    p = lua_newuserdatauv(L, sizeof *p + n * sizeof p->slots[0], PLAN_KNOWN);
    *p = (struct plan){ .lines = to, .tail = tail, .n = n };
    luaL_setmetatable(L, PLAN);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, PLAN_LINES);
    p->class = row_class_at(L, 1);
    row_class_push_of(L, 1);
    lua_setiuservalue(L, -2, PLAN_CLASS);
    lua_getmetatable(L, 1);
    p->metatable = lua_topointer(L, -1);
    lua_setiuservalue(L, -2, PLAN_METATABLE);
    p->is_verbatim = n == p->class->rowtype->n_columns;
    for (size_t i = 0; i < n; i++) {
        read_slot(L, p, i);
        p->is_verbatim = p->is_verbatim && p->slots[i].is_column && p->slots[i].column == i;
    }
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, PLAN_SLOTS);
    lua_pushvalue(L, 5);
    lua_setiuservalue(L, -2, PLAN_KNOWN);
    return 1;
}

/* ---- values ---- */

static void put_json(lua_State *L, struct buf *b)
{
    struct buf *scratch = script_scratch(L);

    json_put(L, -1, scratch);
    json_check(L, scratch);
    field_escape(b, scratch->data, scratch->len);
}

static void put_float(struct buf *b, double d)
{
    char text[FLOAT_TEXT];

    if (isfinite(d)) {
        types_float_text(d, text);
        buf_puts(b, text);
        return;
    }
    buf_puts(b, isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
}

static void put_string(lua_State *L, enum kind kind, struct buf *b)
{
    size_t len;
    const char *s = lua_tolstring(L, -1, &len);
    char *to;

    if (kind != KIND_BYTEA) {
        field_escape(b, s, len);
        return;
    }
    buf_puts(b, "\\\\x");
    to = buf_reserve(b, 2 * len);
    json_check(L, b);
    *text_put_hex(to, s, len) = '\0';
    b->len += 2 * len;
}

/* Appends the value on top of the stack, which stays there; <column> is NULL where a script added
 * it. */
static void put_value(lua_State *L, const struct rowtype_column *column, struct buf *b)
{
    enum kind kind = column != NULL ? column->kind : KIND_TEXT;
    int type = lua_type(L, -1);

    if (column != NULL ? change_row_is_null(L, column) : type == LUA_TNIL || json_null_at(L, -1)) {
        buf_puts(b, "\\N");
    } else if (kind == KIND_JSON) {
        put_json(L, b);
    } else if (type == LUA_TBOOLEAN) {
        buf_puts(b, lua_toboolean(L, -1) ? "true" : "false");
    } else if (type == LUA_TNUMBER && lua_isinteger(L, -1)) {
        buf_printf(b, "%lld", (long long)lua_tointeger(L, -1));
    } else if (type == LUA_TNUMBER) {
        put_float(b, lua_tonumber(L, -1));
    } else if (type == LUA_TSTRING) {
        put_string(L, kind, b);
    } else {
        put_json(L, b);
    }
}

/* ---- rows ---- */

/* The document on top of the stack was decoded by the script: is it still what it was? */
static bool is_changed(lua_State *L, const struct row_class *class, struct rowdata *d, size_t i)
{
    struct buf *b = script_scratch(L);
    size_t middle;

    json_put(L, -1, b);
    middle = b->len;
    rowdata_push_field(L, class, d, i);
    json_put(L, -1, b);
    lua_pop(L, 1);
    json_check(L, b);
    return b->len != 2 * middle || memcmp(b->data, b->data + middle, middle) != 0;
}

/* Column <i> of the row at <row>, whose cells somebody may have written over. */
static void put_touched(lua_State *L, const struct row_class *class, int row, struct rowdata *d,
                        size_t i, struct buf *b)
{
    const struct rowtype_column *column = &class->rowtype->columns[i];
    struct field field;

    rowdata_push_side(L, row, ROWDATA_SET);
    if (lua_istable(L, -1) && i < class->rowtype->n_row &&
        lua_getfield(L, -1, column->name) != LUA_TNIL) {       /* side value */
        put_value(L, column, b);
        lua_pop(L, 2);
        return;
    }
    lua_settop(L, row + 1);
    if (column->kind == KIND_JSON) {
        rowdata_push_side(L, row, ROWDATA_DECODED);
        if (lua_istable(L, -1) && lua_getfield(L, -1, column->name) != LUA_TNIL &&
            is_changed(L, class, d, i)) {
            put_value(L, column, b);
            lua_settop(L, row + 1);
            return;
        }
    }
    lua_settop(L, row + 1);
    field = rowdata_field(L, class, d, i);
    buf_add(b, field.p, field.len);
}

/* The slots of a row with cells; the row is on top of the stack but one. */
static void put_slots(lua_State *L, const struct plan *p, int row, struct rowdata *d, struct buf *b)
{
    lua_settop(L, row + 1);
    for (size_t i = 0; i < p->n; i++) {
        const struct kept_index_entry *slot = &p->slots[i];

        if (i > 0)
            buf_putc(b, '\t');
        if (!slot->is_column) {
            lua_getiuservalue(L, 1, PLAN_SLOTS);
            lua_rawgeti(L, -1, (lua_Integer)i + 1);
            change_row_push_extra(L, row, lua_tostring(L, -1));
            put_value(L, NULL, b);
        } else if (d->has_side) {
            put_touched(L, p->class, row, d, slot->column, b);
        } else {
            struct field field = rowdata_field(L, p->class, d, slot->column);

            buf_add(b, field.p, field.len);
        }
        lua_settop(L, row + 1);
    }
}

/* The slots by name, of tables that the script made: of the table at <from>, or, where that has
 * none, at <other> (0: nowhere). */
static void put_named(lua_State *L, const struct plan *p, int from, int other, struct buf *b)
{
    int top = lua_gettop(L);

    for (size_t i = 0; i < p->n; i++) {
        const struct kept_index_entry *slot = &p->slots[i];

        if (i > 0)
            buf_putc(b, '\t');
        if (slot->is_column) {
            lua_pushstring(L, p->class->rowtype->columns[slot->column].name);
        } else {
            lua_getiuservalue(L, 1, PLAN_SLOTS);
            lua_rawgeti(L, -1, (lua_Integer)i + 1);
        }
        lua_pushvalue(L, -1);
        if (lua_gettable(L, from) == LUA_TNIL && other != 0) {
            lua_pop(L, 1);
            lua_gettable(L, other);
        }
        if (json_null_at(L, -1)) { /* no other NULL can be told in what was JSON */
            lua_pop(L, 1);
            lua_pushnil(L);
        }
        put_value(L, slot->is_column ? &p->class->rowtype->columns[slot->column] : NULL, b);
        lua_settop(L, top);
    }
}

/* ---- adding ---- */

static bool is_known(lua_State *L, int name)
{
    bool is;

    lua_getiuservalue(L, 1, PLAN_KNOWN);
    lua_pushvalue(L, name < 0 ? name - 1 : name);
    is = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return is;
}

/* True if all that the script added to the row at <row> is known. */
static bool knows_added(lua_State *L, int row)
{
    bool is = true;

    rowdata_push_side(L, row, ROWDATA_SET);
    for (lua_Integer i = 1; is && lua_istable(L, -1); i++) {
        if (lua_rawgeti(L, -1, i) == LUA_TNIL) {
            lua_pop(L, 1);
            break;
        }
        is = is_known(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return is;
}

static bool knows_all(lua_State *L, int row)
{
    for (lua_pushnil(L); lua_next(L, row); lua_pop(L, 1))
        if (lua_type(L, -2) != LUA_TSTRING || !is_known(L, -2)) {
            lua_pop(L, 2);
            return false;
        }
    return true;
}

static void put_version(struct buf *b, const char *op, const char *ts)
{
    buf_putc(b, '\t');
    field_escape(b, op, strlen(op));
    buf_putc(b, '\t');
    field_escape(b, ts, strlen(ts));
}

/* What the script has set in the change itself; borrowed, anchored there. */
static const char *own_text(lua_State *L, const char *name, const char *else_)
{
    const char *s = else_;

    lua_pushstring(L, name);
    if (lua_rawget(L, 2) == LUA_TSTRING)
        s = lua_tostring(L, -1);
    lua_pop(L, 1);
    return s;
}

/* Has the script set or asked for fields of the change? */
static bool has_own(lua_State *L)
{
    bool has = false;

    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) {
            lua_pop(L, 2);
            return true;
        }
    return has;
}

static struct plan *plan_at(lua_State *L)
{
    return luaL_checkudata(L, 1, PLAN);
}

static bool is_of(lua_State *L, const struct plan *p)
{
    bool is;

    if (!lua_istable(L, 2) || !lua_getmetatable(L, 2))
        return false;
    is = lua_topointer(L, -1) == p->metatable;
    lua_pop(L, 1);
    return is;
}

static int answer(lua_State *L, bool is)
{
    lua_pushboolean(L, is);
    return 1;
}

static int add(lua_State *L)
{
    struct plan *p = plan_at(L);
    struct rowdata *d;
    const char *op, *ts;
    struct buf *b;
    int row = 2;

    lua_settop(L, 2);
    if (!is_of(L, p) || (d = rowdata_find(L, 2)) == NULL)
        return answer(L, false);
    op = row_class_op_names[d->op];
    ts = d->ts;
    if (has_own(L)) {
        op = own_text(L, "op", op);
        ts = own_text(L, "ts", ts);
        lua_pushliteral(L, "row");
        if (lua_rawget(L, 2) != LUA_TNIL) { /* it was asked for, or is the script's own */
            row = 3;
            luaL_argcheck(L, lua_istable(L, 3), 2, "the row of the change is not a table");
            d = rowdata_find(L, 3);
            if (d != NULL && row_class_at(L, 3) != p->class)
                return luaL_error(L, "the row of the change is that of another table");
        }
    }
    if (*op == 'd' && strcmp(op, "delete") == 0)
        return answer(L, false);
    if (d == NULL ? !knows_all(L, row) : d->has_side && !knows_added(L, row))
        return answer(L, false);
    b = api_copy_lines_begin(L, p->lines);
    if (d == NULL) {
        put_named(L, p, row, 0, b);
    } else if (p->is_verbatim && !d->has_side) {
        buf_add(b, (const char *)(d->ends + d->n_columns), d->len);
    } else {
        lua_settop(L, row);
        lua_pushnil(L);
        put_slots(L, p, row, d, b);
    }
    if (p->tail == TAIL_VERSION)
        put_version(b, op, ts);
    api_copy_lines_end(L, p->lines, strcmp(op, "read") == 0);
    return answer(L, true);
}

static int add_delete(lua_State *L)
{
    struct plan *p = plan_at(L);
    lua_Integer count = luaL_optinteger(L, 3, 0);
    struct buf *b;

    lua_settop(L, 2);
    luaL_argcheck(L, is_of(L, p), 2, "the change is of another form");
    lua_getfield(L, 2, "key");
    lua_getfield(L, 2, "old");
    lua_getfield(L, 2, "ts");
    b = api_copy_lines_begin(L, p->lines);
    put_named(L, p, 3, lua_istable(L, 4) ? 4 : 0, b);
    if (p->tail == TAIL_COUNT)
        buf_printf(b, "\t%lld", (long long)count);
    else if (p->tail == TAIL_VERSION)
        put_version(b, "delete", lua_tostring(L, 5));
    api_copy_lines_end(L, p->lines, false);
    return 0;
}

void api_copy(lua_State *L)
{
    static const luaL_Reg methods[] = { { "add", add }, { "add_delete", add_delete },
                                        { NULL, NULL } };
    static const luaL_Reg functions[] = { { "copy_columns", columns }, { "copy_added", added },
                                          { "copy_plan", new_plan }, { NULL, NULL } };

    luaL_newmetatable(L, PLAN);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
