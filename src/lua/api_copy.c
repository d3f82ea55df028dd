/* api_copy.c -- changes as the lines of a COPY.
 * SPDX-License-Identifier: MIT */
#include "lua/api_copy.h"

#include "lua/api_copy_plan.h"
#include "lua/api_copy_value.h"
#include "lua/change.h"
#include "lua/change_row.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

/* ---- columns ---- */

static const char *const kind_names[] = {
    [TYPES_TEXT] = "text", [TYPES_BOOL] = "bool", [TYPES_INT] = "int", [TYPES_FLOAT] = "float",
    [TYPES_NUMERIC] = "numeric", [TYPES_BYTEA] = "bytea", [TYPES_TIMESTAMP] = "timestamp",
    [TYPES_JSON] = "json",
};

/* Sets a field of the table on top of the stack, unless <text> is NULL. */
static void set_text(lua_State *L, const char *name, const char *text)
{
    if (text != NULL) {
        lua_pushstring(L, text);
        lua_setfield(L, -2, name);
    }
}

/* Sets a field of the table on top of the stack to the list of these lines, which have COPY's
 * backslashes. */
static void set_lines(lua_State *L, const char *name, const char *lines)
{
    lua_createtable(L, 0, 0);
    for (lua_Integer i = 1; lines != NULL && *lines != '\0'; i++) {
        size_t len = strcspn(lines, "\n");
        luaL_Buffer b;
        char *to = luaL_buffinitsize(L, &b, len);

        luaL_pushresultsize(&b, copytext_unescape((struct copytext_field){ lines, len }, to));
        lua_rawseti(L, -2, i);
        lines += len + 1;
    }
    lua_setfield(L, -2, name);
}

static int columns(lua_State *L)
{
    const struct rowtype *s;
    size_t n;

    if (!change_is(L, 1) && !change_row_is(L, 1))
        return 0;
    s = row_class_at(L, 1)->rowtype;
    n = s->n_columns - (s->hides_key ? 1 : 0);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        const struct rowtype_column *c = &s->columns[i];

        lua_createtable(L, 0, 13);
        lua_pushstring(L, c->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, c->type);
        lua_setfield(L, -2, "type");
        set_text(L, "base_type", c->base_type);
        set_text(L, "parts", c->parts);
        set_text(L, "expression", c->expression);
        set_text(L, "former", c->former);
        set_text(L, "former_expression", c->former_expression);
        if (c->number != 0) {
            lua_pushinteger(L, c->number);
            lua_setfield(L, -2, "number");
        }
        lua_pushstring(L, kind_names[c->kind]);
        lua_setfield(L, -2, "kind");
        lua_pushboolean(L, c->wants_to_json);
        lua_setfield(L, -2, "wants_json");
        lua_pushboolean(L, c->has_json_cast);
        lua_setfield(L, -2, "has_json_cast");
        lua_pushboolean(L, c->is_computed);
        lua_setfield(L, -2, "is_computed");
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
    set_text(L, "table_id", s->table_id);
    set_text(L, "started", s->started);
    set_text(L, "numbers", s->numbers);
    set_lines(L, "dropped", s->dropped);
    return 1;
}

/* Pushes what a script added to the row whose data the table at <index> holds. */
static void push_added(lua_State *L, int index)
{
    lua_createtable(L, 0, 0);                                  /* added */
    rowdata_push_of(L, index);
    lua_getiuservalue(L, -1, ROWDATA_SET);                     /* added data side */
    for (lua_Integer i = 1; lua_istable(L, -1); i++) {
        if (lua_rawgeti(L, -1, i) == LUA_TNIL) {
            lua_pop(L, 1);
            break;
        }
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);                                     /* added data side name value */
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
    return 1; /* else what the script put in the place of the row: all of it is its own */
}

/* ---- fields of a line ---- */

/* True if the document on top of the stack, which the script decoded, is not any more what the
 * server sent. */
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

bool api_copy_push_touched(lua_State *L, const struct row_class *class, int row, struct rowdata *d,
                           size_t i)
{
    const struct rowtype_column *column = &class->rowtype->columns[i];

    rowdata_push_side(L, row, ROWDATA_SET);
    if (lua_istable(L, -1) && i < class->rowtype->n_row &&
        lua_getfield(L, -1, column->name) != LUA_TNIL)         /* side value */
        return true;
    if (column->kind != TYPES_JSON)
        return false;
    rowdata_push_side(L, row, ROWDATA_DECODED);
    return lua_istable(L, -1) && lua_getfield(L, -1, column->name) != LUA_TNIL &&
           is_changed(L, class, d, i);
}

static int assigned(lua_State *L)
{
    struct rowdata *d;
    const struct row_class *class;
    lua_Integer n = 0;

    luaL_argcheck(L, change_is(L, 1), 1, "a change is needed");
    lua_settop(L, 1);
    class = row_class_at(L, 1);
    lua_createtable(L, 0, 0);                                  /* change numbers */
    lua_pushliteral(L, "row");
    if (lua_rawget(L, 1) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushvalue(L, 1);
    }
    d = rowdata_find(L, 3);                                    /* change numbers row */
    if (d != NULL && (!d->has_side || row_class_at(L, 3) != class))
        lua_settop(L, 2); /* the server's values, or a row of another table: add() refuses that */
    for (size_t i = 0; lua_gettop(L) == 3 && i < class->rowtype->n_row; i++) {
        if (d == NULL || api_copy_push_touched(L, class, 3, d, i)) {
            lua_pushinteger(L, (lua_Integer)i + 1);
            lua_rawseti(L, 2, ++n);
        }
        lua_settop(L, 3);
    }
    lua_settop(L, 2);
    return 1;
}

/* Appends the fields of the row at <row>, which has the row data <d>. False if it has a value of
 * the script's in a column for which the plan has none. */
static bool put_fields(lua_State *L, const struct api_copy_plan *p, int row, struct rowdata *d,
                       struct buf *b)
{
    int top = lua_gettop(L);

    for (size_t i = 0; i < p->n; i++) {
        const struct api_copy_plan_field *from = &p->fields[i];

        if (i > 0)
            buf_putc(b, '\t');
        if (!from->is_column) {
            api_copy_plan_push_name(L, i);
            change_row_push_extra(L, row, lua_tostring(L, -1));
            api_copy_value_put(L, NULL, b);
        } else if (d->has_side && api_copy_push_touched(L, p->class, row, d, from->column)) {
            if (!from->may_be_assigned)
                return false;
            api_copy_value_put(L, &p->class->rowtype->columns[from->column], b);
        } else {
            struct copytext_field field = rowdata_field(L, p->class, d, from->column);

            if (copytext_is_unknown(field))
                return false;
            buf_add(b, field.p, field.len);
        }
        lua_settop(L, top);
    }
    return true;
}

/* The column of field <i>; NULL if it is none. */
static const struct rowtype_column *column_of(const struct api_copy_plan *p, size_t i)
{
    return p->fields[i].is_column ? &p->class->rowtype->columns[p->fields[i].column] : NULL;
}

/* Pushes the value of each field from tables by name: from the table at <from>, or, where that has
 * none, from the one at <other> (0: there is no other). Code of the script may run. [-0, +n] */
static void push_named_fields(lua_State *L, const struct api_copy_plan *p, int from, int other)
{
    luaL_checkstack(L, (int)p->n + 20, "columns");
    for (size_t i = 0; i < p->n; i++) {
        const struct rowtype_column *column = column_of(p, i);

        if (column != NULL)
            lua_pushstring(L, column->name);
        else
            api_copy_plan_push_name(L, i);                     /* name */
        lua_pushvalue(L, -1);
        row_class_get(L, from);                                /* name value */
        if (lua_isnil(L, -1) && other != 0) {
            lua_pop(L, 1);
            row_class_get(L, other);                           /* value */
        } else {
            lua_remove(L, -2);
        }
        if (json_null_at(L, -1)) { /* JSON's null cannot be told from NULL here */
            lua_pop(L, 1);
            lua_pushnil(L);
        }
    }
}

/* Appends the values that push_named_fields left at <first> and above. */
static void put_named_fields(lua_State *L, const struct api_copy_plan *p, int first, struct buf *b)
{
    for (size_t i = 0; i < p->n; i++) {
        if (i > 0)
            buf_putc(b, '\t');
        lua_pushvalue(L, first + (int)i);
        api_copy_value_put(L, column_of(p, i), b);
        lua_pop(L, 1);
    }
}

static void put_version(struct buf *b, const char *op, const char *ts)
{
    buf_putc(b, '\t');
    copytext_escape(b, op, strlen(op));
    buf_putc(b, '\t');
    copytext_escape(b, ts, strlen(ts));
}

/* ---- adding ---- */

/* What goes into a line, of the change at index 2. */
struct line {
    const char *op, *ts; /* of the row data, or on the stack if set in the change */
    int row;             /* index of the row, or of the change */
    struct rowdata *d;   /* of the row; NULL: it is a plain table */
};

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
        is = api_copy_plan_is_known(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return is;
}

/* True if all names of the plain table at <row> are known, and the script may have given values to
 * all columns. */
static bool knows_all(lua_State *L, const struct api_copy_plan *p, int row)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->fields[i].is_column && p->fields[i].column < p->class->rowtype->n_row &&
            !p->fields[i].may_be_assigned)
            return false;
    for (lua_pushnil(L); lua_next(L, row); lua_pop(L, 1))
        if (lua_type(L, -2) != LUA_TSTRING || !api_copy_plan_is_known(L, -2)) {
            lua_pop(L, 2);
            return false;
        }
    return true;
}

/* Throws unless the field of the change on top of the stack is text; returns it. */
static const char *check_text(lua_State *L, const char *name)
{
    if (!lua_isstring(L, -1))
        luaL_error(L, "the field '%s' of the change is a %s, not text", name, luaL_typename(L, -1));
    return lua_tostring(L, -1);
}

/* Pushes what the script has set in the change; returns its text, or <else_>. [-0, +1] */
static const char *push_own_text(lua_State *L, const char *name, const char *else_)
{
    lua_pushstring(L, name);
    return lua_rawget(L, 2) != LUA_TNIL ? check_text(L, name) : else_;
}

/* True if the script has set fields of the change, or read fields that the change then keeps. */
static bool has_own(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) {
            lua_pop(L, 2);
            return true;
        }
    return false;
}

/* Replaces in <line> the fields that the script has set in the change; their values stay on the
 * stack. */
static void read_own(lua_State *L, const struct api_copy_plan *p, struct line *line)
{
    line->op = push_own_text(L, "op", line->op);
    if (p->tail == API_COPY_PLAN_VERSION)
        line->ts = push_own_text(L, "ts", line->ts);
    lua_pushliteral(L, "row");
    if (lua_rawget(L, 2) == LUA_TNIL)
        return;
    line->row = lua_gettop(L); /* it was asked for, or is the script's own */
    luaL_argcheck(L, lua_istable(L, -1), 2, "the row of the change is not a table");
    line->d = rowdata_find(L, -1);
    if (line->d != NULL && row_class_at(L, -1) != p->class)
        luaL_error(L, "the row of the change is that of another table");
}

/* Appends the line. Values that code of the script has made for it are at <first> and above. False
 * as put_fields. */
static bool put_line(lua_State *L, const struct api_copy_plan *p, const struct line *line,
                     int first, struct buf *b)
{
    if (line->d == NULL)
        put_named_fields(L, p, first, b);
    else if (!put_fields(L, p, line->row, line->d, b))
        return false;
    if (p->tail == API_COPY_PLAN_VERSION)
        put_version(b, line->op, line->ts);
    return true;
}

static bool add_line(lua_State *L, const struct api_copy_plan *p)
{
    struct line line = { .row = 2 };
    bool is_read;
    struct buf *b;
    int first;

    if (!api_copy_plan_is_for(L, p) || (line.d = rowdata_find(L, 2)) == NULL)
        return false;
    line.op = row_class_op_names[line.d->op];
    line.ts = line.d->ts;
    if (has_own(L))
        read_own(L, p, &line);
    if (*line.op == 'd' && strcmp(line.op, "delete") == 0)
        return false;
    if (line.d == NULL ? !knows_all(L, p, line.row) : line.d->has_side && !knows_added(L, line.row))
        return false;
    is_read = strcmp(line.op, "read") == 0;
    if (line.d != NULL && p->is_verbatim && !line.d->has_side && !line.d->has_unknown &&
        p->tail != API_COPY_PLAN_VERSION) { /* nearly all lines */
        api_copy_lines_add(L, p->lines, (const char *)(line.d->ends + line.d->n_columns),
                           line.d->len, is_read);
        return true;
    }
    first = lua_gettop(L) + 1;
    if (line.d == NULL)
        push_named_fields(L, p, line.row, 0);
    b = script_line(L);
    if (!put_line(L, p, &line, first, b))
        return false;
    json_check(L, b);
    api_copy_lines_add(L, p->lines, b->data, b->len, is_read);
    return true;
}

static int add(lua_State *L)
{
    const struct api_copy_plan *p = api_copy_plan_at(L);

    lua_settop(L, 2);
    lua_pushboolean(L, add_line(L, p));
    return 1;
}

static int add_delete(lua_State *L)
{
    const struct api_copy_plan *p = api_copy_plan_at(L);
    lua_Integer count = luaL_optinteger(L, 3, 0);
    const char *ts = NULL;
    struct buf *b;

    lua_settop(L, 2);
    luaL_argcheck(L, api_copy_plan_is_for(L, p), 2, "the change is of another class");
    lua_getfield(L, 2, "key");
    lua_getfield(L, 2, "old");
    lua_getfield(L, 2, "ts");                                  /* plan change key old ts */
    if (p->tail == API_COPY_PLAN_VERSION)
        ts = check_text(L, "ts");
    push_named_fields(L, p, 3, lua_istable(L, 4) ? 4 : 0);
    b = script_line(L);
    put_named_fields(L, p, 6, b);
    if (p->tail == API_COPY_PLAN_COUNT)
        buf_printf(b, "\t%lld", (long long)count);
    else if (p->tail == API_COPY_PLAN_VERSION)
        put_version(b, "delete", ts);
    json_check(L, b);
    api_copy_lines_add(L, p->lines, b->data, b->len, false);
    return 0;
}

void api_copy_export(lua_State *L)
{
    static const luaL_Reg methods[] = { { "add", add }, { "add_delete", add_delete },
                                        { NULL, NULL } };
    static const luaL_Reg functions[] = { { "copy_columns", columns }, { "copy_added", added },
                                          { "copy_assigned", assigned },
                                          { "copy_plan", api_copy_plan_new }, { NULL, NULL } };

    api_copy_plan_open(L, methods);
    luaL_setfuncs(L, functions, 0);
}
