/* fuzz_row.c -- any bytes as a row of COPY: Lua values, JSON, and lines of COPY again.
 * SPDX-License-Identifier: MIT
 *
 * The input: the number of columns less one, a byte for each (its kind; 8: part of the key; 16: a
 * script assigns the column what it has read), and the row. Whatever the row is (but for integers,
 * which are not looked at), the JSON of its change is one line of UTF-8 or an error. Where each
 * field is what the server sends for a column of its kind, moreover: the line is JSON; to read
 * every column changes nothing; text, integers and booleans of the JSON are those of Lua; what a
 * script assigns comes out as it went in, in JSON and in COPY. */
#include "fuzz.h"

#include "lua/api_copy_lines.h"
#include "lua/json.h"
#include "lua/change.h"
#include "pg/document.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define MOST_COLUMNS 8
#define IS_KEY 8
#define IS_ASSIGNED 16
#define LONGEST_TIMESTAMP 50

static const char *const names[MOST_COLUMNS] = { "id", "a\"b\\c", "t\tb", "n\nl", "\xc3\xa9",
    "\xf0\x9f\x90\x98", "end", "\x01" };

struct job {
    const uint8_t *kinds;
    size_t n;
    struct chunk *chunk;
    bool is_sound; /* every field is what the server sends */
    bool has_odd_integers;
};

/* ---- what the server sends ---- */

/* Backslashes stand before what COPY puts them before, and the bytes are UTF-8. */
static bool is_text(struct copytext_field f)
{
    for (size_t i = 0; i < f.len; i++) {
        if (f.p[i] != '\\')
            continue;
        if (++i == f.len || f.p[i] == '\0' || strchr("bfnrtv\\", f.p[i]) == NULL)
            return false;
    }
    return fuzz_is_line(f.p, f.len) && memchr(f.p, '\n', f.len) == NULL;
}

static bool is_integer(struct copytext_field f)
{
    char text[24], again[24];
    long long n;

    if (f.len == 0 || f.len >= sizeof text)
        return false;
    memcpy(text, f.p, f.len);
    text[f.len] = '\0';
    n = strtoll(text, NULL, 10);
    snprintf(again, sizeof again, "%lld", n);
    /* a zero byte is no end */
    return strlen(again) == f.len && memcmp(text, again, f.len) == 0;
}

static bool is_one_of(struct copytext_field f, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strlen(*words) == f.len && memcmp(*words, f.p, f.len) == 0)
            return true;
    return false;
}

static bool is_bytes(struct copytext_field f)
{
    if (f.len < 3 || memcmp(f.p, "\\\\x", 3) != 0 || f.len % 2 == 0)
        return false;
    for (size_t i = 3; i < f.len; i++)
        if (f.p[i] == '\0' || strchr("0123456789abcdef", f.p[i]) == NULL)
            return false;
    return true;
}

static bool is_document(struct copytext_field f)
{
    char *to = malloc(f.len + 1);
    size_t n;
    bool is;

    CHECK(to != NULL);
    n = copytext_unescape(f, to);
    is = is_text(f) && fuzz_is_json(to, n);
    free(to);
    return is;
}

static bool is_sound(enum types_kind kind, struct copytext_field f)
{
    static const char *const odd[] = { "NaN", "Infinity", "-Infinity", NULL };
    static const char *const truths[] = { "t", "f", NULL };

    if (copytext_is_null(f))
        return true;
    switch (kind) {
    case TYPES_BOOL:
        return is_one_of(f, truths);
    case TYPES_INT:
        return is_integer(f);
    case TYPES_FLOAT:
    case TYPES_NUMERIC:
        return document_is_number(f.p, f.len) || is_one_of(f, odd);
    case TYPES_BYTEA:
        return is_bytes(f);
    case TYPES_JSON:
        return is_document(f);
    case TYPES_TEXT:
    case TYPES_TIMESTAMP:
        break;
    }
    return is_text(f) && (kind == TYPES_TEXT ||
                          (f.len <= LONGEST_TIMESTAMP && memchr(f.p, '\\', f.len) == NULL));
}

/* ---- making the change ---- */

static char *copy(const char *text)
{
    char *s = strdup(text);

    CHECK(s != NULL);
    return s;
}

static struct rowtype *new_shape(const uint8_t *kinds, size_t n)
{
    struct rowtype *s = calloc(1, sizeof *s);

    CHECK(s != NULL);
    s->refs = 1;
    s->database = copy("d");
    s->schema = copy("pub\"lic");
    s->table = copy("t\xc3\xa9");
    s->signature = copy("");
    s->columns = calloc(n, sizeof *s->columns);
    s->key = calloc(n, sizeof *s->key);
    CHECK(s->columns != NULL && s->key != NULL);
    s->n_columns = s->n_row = n;
    s->soft = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        s->columns[i] = (struct rowtype_column){
            .name = copy(names[i]), .type = copy("text"), .kind = (enum types_kind)(kinds[i] & 7),
            .is_nullable = true,
        };
        if (kinds[i] & IS_KEY)
            s->key[s->n_key++] = i;
    }
    if (s->n_key == 0)
        s->key[s->n_key++] = 0;
    return s;
}

static void look_at(struct job *job, const char *row, size_t len)
{
    const struct rowtype *s = job->chunk->rowtype;
    uint32_t ends[MOST_COLUMNS];
    size_t start = 0;

    if (!copytext_split(row, len, ends, s->n_columns))
        return;
    job->is_sound = true;
    for (size_t i = 0; i < s->n_columns; start = ends[i++] + 1)
        if (!is_sound(s->columns[i].kind,
                      (struct copytext_field){ row + start, ends[i] - start })) {
            job->is_sound = false;
            job->has_odd_integers |= s->columns[i].kind == TYPES_INT;
        }
}

/* ---- what must hold ---- */

static int to_text(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* Pushes the JSON of the change at <change>, or nil. */
static void push_json(lua_State *L, int change, const struct job *job)
{
    const char *s;
    size_t len;

    lua_pushcfunction(L, to_text);
    lua_pushvalue(L, change);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        s = lua_tolstring(L, -1, &len);
        CHECK_OF(!job->is_sound, s, len);
        lua_pop(L, 1);
        lua_pushnil(L);
        return;
    }
    s = lua_tolstring(L, -1, &len);
    CHECK_OF(job->has_odd_integers || fuzz_is_line(s, len), s, len);
    CHECK_OF(!job->is_sound || fuzz_is_json(s, len), s, len);
}

static int index_row(lua_State *L)
{
    lua_getfield(L, 1, "row");
    lua_pushvalue(L, 2);
    lua_gettable(L, -2);
    return 1;
}

/* Pushes the value of a column; false if it cannot be read, and nothing is pushed. */
static bool push_column(lua_State *L, int change, const char *name)
{
    lua_pushcfunction(L, index_row);
    lua_pushvalue(L, change);
    lua_pushstring(L, name);
    if (lua_pcall(L, 2, 1, 0) == LUA_OK)
        return true;
    lua_pop(L, 1);
    return false;
}

/* The row of a JSON text, at <text>, against what Lua sees of the change. */
static void check_values(lua_State *L, const struct job *job, int change, int text)
{
    char why[160];
    size_t len;
    const char *s = lua_tolstring(L, text, &len);
    int top = lua_gettop(L);

    if (!json_push(L, s, len, why, sizeof why)) /* a number may be too big for Lua */
        return;
    lua_getfield(L, -1, "row");
    for (size_t i = 0; i < job->n; i++) {
        enum types_kind kind = (enum types_kind)(job->kinds[i] & 7);

        if (kind == TYPES_FLOAT || kind == TYPES_NUMERIC || kind == TYPES_BYTEA ||
            kind == TYPES_JSON)
            continue;
        lua_getfield(L, top + 2, names[i]);
        CHECK(push_column(L, change, names[i]));
        CHECK_OF(lua_rawequal(L, -1, -2) || (json_null_at(L, -2) && lua_isnil(L, -1)), s, len);
        lua_pop(L, 2);
    }
    lua_settop(L, top);
}

/* Assigns columns what they are. */
static int assign(lua_State *L)
{
    const struct job *job = lua_touserdata(L, 2);

    lua_settop(L, 1);
    lua_getfield(L, 1, "row");
    for (size_t i = 0; i < job->n; i++) {
        if (!(job->kinds[i] & IS_ASSIGNED))
            continue;
        lua_getfield(L, 2, names[i]);
        lua_setfield(L, 2, names[i]);
    }
    return 0;
}

static bool has_assigned(const struct job *job, unsigned without)
{
    for (size_t i = 0; i < job->n; i++)
        if ((job->kinds[i] & IS_ASSIGNED) && (without >> (job->kinds[i] & 7) & 1))
            return true;
    return false;
}

/* The line of COPY that the change at <change> is, against the row. */
static void check_copy(lua_State *L, const struct job *job, int change)
{
    const struct chunk *b = job->chunk;
    const char *row = b->bytes + b->rows[0].start;
    size_t len = b->rows[0].len, start = 0, from = 0;
    uint32_t was[MOST_COLUMNS], is[MOST_COLUMNS];
    struct api_copy_lines *lines;
    char *x = malloc(len + 1), *y;

    fuzz_push_raw(L, "copy_plan");
    lua_pushvalue(L, change);
    fuzz_push_raw(L, "copy_lines");
    lua_call(L, 0, 1);
    lines = api_copy_lines_at(L, -1);
    lua_newtable(L);
    for (size_t i = 0; i < job->n; i++) {
        lua_pushinteger(L, (lua_Integer)i + 1);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushliteral(L, "");
    lua_newtable(L);
    lua_pushvalue(L, -3); /* the script may have assigned to all of them */
    lua_call(L, 6, 1);                                         /* plan */
    lua_getfield(L, -1, "add");
    lua_insert(L, -2);
    lua_pushvalue(L, change);
    lua_call(L, 2, 1);
    CHECK(lua_toboolean(L, -1));
    y = malloc(lines->mem.len);
    CHECK(x != NULL && y != NULL && lines->mem.len > 0 &&
          lines->mem.data[lines->mem.len - 1] == '\n');
    CHECK_OF(memchr(lines->mem.data, '\n', lines->mem.len - 1) == NULL, lines->mem.data,
             lines->mem.len);
    CHECK(copytext_split(row, len, was, job->n));
    CHECK_OF(copytext_split(lines->mem.data, lines->mem.len - 1, is, job->n), lines->mem.data,
             lines->mem.len);
    for (size_t i = 0; i < job->n; start = was[i] + 1, from = is[i] + 1, i++) {
        struct copytext_field a = { row + start, was[i] - start };
        struct copytext_field z = { lines->mem.data + from, is[i] - from };
        size_t n;

        CHECK_OF(copytext_is_null(a) == copytext_is_null(z), lines->mem.data, lines->mem.len);
        if ((job->kinds[i] & IS_ASSIGNED) && ((job->kinds[i] & 7) == TYPES_FLOAT ||
                                              (job->kinds[i] & 7) == TYPES_BOOL ||
                                              (job->kinds[i] & 7) == TYPES_TIMESTAMP ||
                                              (job->kinds[i] & 7) == TYPES_JSON))
            continue; /* the same in other words */
        n = copytext_unescape(a, x);
        CHECK_OF(copytext_unescape(z, y) == n && memcmp(x, y, n) == 0, lines->mem.data,
                 lines->mem.len);
    }
    free(x);
    free(y);
}

static int run(lua_State *L)
{
    const struct job *job = lua_touserdata(L, 1);
    int ref = LUA_NOREF;
    bool is_readable = true;

    change_push_metatable(L, job->chunk->rowtype, "source", &ref);      /* job mt */
    change_push(L, 2, job->chunk, &job->chunk->rows[0]);       /* job mt change */
    push_json(L, 3, job);                                      /* job mt change json */
    for (size_t i = 0; i < job->n; i++) {
        bool is = push_column(L, 3, names[i]);

        is_readable = is_readable && is;
        lua_settop(L, 4);
    }
    push_json(L, 3, job);                                      /* job mt change json again */
    CHECK_OF(lua_rawequal(L, 4, 5), lua_tostring(L, 5), lua_rawlen(L, 5));
    if (job->is_sound && is_readable) {
        check_values(L, job, 3, 4);
        check_copy(L, job, 3);
        lua_settop(L, 4);
        lua_pushcfunction(L, assign);
        lua_pushvalue(L, 3);
        lua_pushvalue(L, 1);
        lua_call(L, 2, 0);
        push_json(L, 3, job);
        if (!has_assigned(job, 1u << TYPES_FLOAT | 1u << TYPES_JSON))
            CHECK_OF(lua_rawequal(L, 4, 5), lua_tostring(L, 5), lua_rawlen(L, 5));
        check_values(L, job, 3, 5);
        check_copy(L, job, 3);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    return 0;
}

void fuzz_row(const uint8_t *p, size_t len)
{
    struct job job = { .n = len > 0 ? 1u + p[0] % MOST_COLUMNS : 1 };
    struct chunk_row row = { .op = OP_UPSERT, .xid = 752 };
    struct err e = { 0 };
    bool ok;

    if (len < 1 + job.n)
        return;
    job.kinds = p + 1;
    row.len = (uint32_t)(len - 1 - job.n);
    job.chunk = chunk_new();
    CHECK(job.chunk != NULL);
    job.chunk->rowtype = new_shape(job.kinds, job.n);
    strncpy(job.chunk->ts, "2026-11-23T00:50:57.721Z", sizeof job.chunk->ts - 1);
    CHECK(chunk_add(job.chunk, &row, (const char *)p + 1 + job.n));
    look_at(&job, (const char *)p + 1 + job.n, row.len);
    ok = script_call(fuzz_script(), run, &job, &e);
    CHECK_OF(ok, e.msg, strlen(e.msg));
    chunk_free(job.chunk);
}
