/* fuzz_json.c -- any bytes as a JSON text.
 * SPDX-License-Identifier: MIT
 *
 * What is decoded is JSON; it encodes to one line of JSON, and that decodes to the same again. */
#include "fuzz.h"

#include "lua/json.h"

#include <string.h>

struct job {
    const char *text;
    size_t len;
};

/* Encodes the value on top of the stack, which is popped, into <b>. */
static void encode(lua_State *L, struct buf *b)
{
    buf_clear(b);
    json_put(L, -1, b);
    lua_pop(L, 1);
    CHECK_OF(fuzz_is_line(b->data, b->len), b->data, b->len);
    CHECK_OF(fuzz_is_json(b->data, b->len), b->data, b->len);
}

static int run(lua_State *L)
{
    const struct job *job = lua_touserdata(L, 1);
    struct buf *b = script_scratch(L);
    char why[160] = "";
    const char *first;
    size_t len;

    if (!json_push(L, job->text, job->len, why, sizeof why)) {
        CHECK(lua_gettop(L) == 1 && why[0] != '\0');
        return 0;
    }
    CHECK_OF(fuzz_is_json(job->text, job->len), job->text, job->len);
    encode(L, b);
    lua_pushlstring(L, b->data, b->len);                       /* job first */
    first = lua_tolstring(L, 2, &len);
    CHECK_OF(json_push(L, first, len, why, sizeof why), why, strlen(why));
    encode(L, b);
    CHECK_OF(b->len == len && memcmp(b->data, first, len) == 0, b->data, b->len);
    return 0;
}

void fuzz_json(const uint8_t *p, size_t len)
{
    struct job job = { (const char *)p, len };
    struct err e = { 0 };
    bool ok = script_call(fuzz_script(), run, &job, &e);

    CHECK_OF(ok, e.msg, strlen(e.msg));
}
