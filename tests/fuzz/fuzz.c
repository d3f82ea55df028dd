/* fuzz.c -- runs a target of the fuzzer, and what they have in common.
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "lua/load.h"
#include "base/text.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_JSON_DEPTH 4000

static const struct fuzz_target targets[] = {
    { "answer", fuzz_answer }, { "json", fuzz_json },
    { "options", fuzz_options }, { "pgoutput", fuzz_pgoutput },
    { "position", fuzz_position }, { "row", fuzz_row }, { "state", fuzz_state },
};

static const struct fuzz_target *chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

void fuzz_check(bool ok, const char *what, const char *text, size_t len, const char *file, int line)
{
    if (ok)
        return;
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
    if (text != NULL)
        fprintf(stderr, "%.*s\n", (int)len, text);
    abort();
}

static bool choose(const char *name)
{
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(name, targets[i].name) == 0)
            chosen = &targets[i];
    return chosen != NULL;
}

/* ---- Lua ---- */

struct script *fuzz_script(void)
{
    static const atomic_int stop = 0;
    static struct log log = { .level = LOG_ERROR };
    static struct script *s;
    struct err e = { 0 };
    const struct script_options o = {
        .path = FUZZ_TOP "/tests/fuzz/options.lua", .lua_dir = FUZZ_TOP "/lua",
        .scripts_dir = FUZZ_TOP "/scripts", .log = &log, .stop = &stop,
    };

    if (s == NULL) {
        s = script_new(&o, &e);
        CHECK_OF(s != NULL && load_script(s, &e), e.msg, strlen(e.msg));
    }
    return s;
}

void fuzz_push_raw(lua_State *L, const char *name)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);      /* loaded */
    lua_getfield(L, -1, "pgcdc.raw");
    lua_getfield(L, -1, name);                                 /* loaded raw function */
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* ---- what a text is ---- */

bool fuzz_is_line(const char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n)
        if ((unsigned char)s[i] < 0x20 || (n = text_utf8_length(s + i, len - i)) == 0)
            return false;
    return true;
}

struct reader {
    const char *p, *end;
};

static bool skip_value(struct reader *r, int depth);

static void skip_blanks(struct reader *r)
{
    while (r->p < r->end && memchr(" \t\r\n", *r->p, 4) != NULL)
        r->p++;
}

static bool take(struct reader *r, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
        return false;
    r->p += n;
    return true;
}

static bool skip_escape(struct reader *r)
{
    if (r->p == r->end)
        return false;
    if (*r->p != 'u')
        return strchr("\"\\/bfnrt", *r->p++) != NULL && r->p[-1] != '\0';
    r->p++;
    for (int i = 0; i < 4; i++, r->p++)
        if (r->p == r->end || *r->p == '\0' || strchr("0123456789abcdefABCDEF", *r->p) == NULL)
            return false;
    return true;
}

static bool skip_string(struct reader *r)
{
    if (!take(r, "\""))
        return false;
    while (r->p < r->end && *r->p != '"') {
        size_t n;

        if ((unsigned char)*r->p < 0x20)
            return false;
        if (*r->p == '\\') {
            r->p++;
            if (!skip_escape(r))
                return false;
            continue;
        }
        n = text_utf8_length(r->p, (size_t)(r->end - r->p));
        if (n == 0)
            return false;
        r->p += n;
    }
    return take(r, "\"");
}

static size_t skip_digits(struct reader *r)
{
    const char *start = r->p;

    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return (size_t)(r->p - start);
}

static bool skip_number(struct reader *r)
{
    take(r, "-");
    if (!take(r, "0") && skip_digits(r) == 0)
        return false;
    if (take(r, ".") && skip_digits(r) == 0)
        return false;
    if (take(r, "e") || take(r, "E")) {
        if (!take(r, "+"))
            take(r, "-");
        return skip_digits(r) > 0;
    }
    return true;
}

static bool skip_members(struct reader *r, bool is_object, int depth)
{
    const char *close = is_object ? "}" : "]";

    skip_blanks(r);
    if (take(r, close))
        return true;
    do {
        skip_blanks(r);
        if (is_object) {
            if (!skip_string(r))
                return false;
            skip_blanks(r);
            if (!take(r, ":"))
                return false;
        }
        if (!skip_value(r, depth + 1))
            return false;
    } while (take(r, ","));
    return take(r, close);
}

static bool skip_value(struct reader *r, int depth)
{
    bool ok;

    if (depth > MAX_JSON_DEPTH)
        return false;
    skip_blanks(r);
    if (take(r, "{"))
        ok = skip_members(r, true, depth);
    else if (take(r, "["))
        ok = skip_members(r, false, depth);
    else if (r->p < r->end && *r->p == '"')
        ok = skip_string(r);
    else
        ok = take(r, "true") || take(r, "false") || take(r, "null") || skip_number(r);
    skip_blanks(r);
    return ok;
}

bool fuzz_is_json(const char *s, size_t len)
{
    struct reader r = { s, s + len };

    return skip_value(&r, 0) && r.p == r.end;
}

/* ---- running ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *slash = strrchr((*argv)[0], '/');

    (void)argc;
    CHECK(choose(slash != NULL ? slash + 1 : (*argv)[0]));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
    chosen->run(p, len);
    return 0;
}

#ifdef FUZZ_REPLAY
/* The bytes are given to the target in a block of just their size. */
static bool replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct buf b;
    uint8_t *copy = NULL;
    size_t n = 1;

    if (f == NULL)
        return false;
    buf_init(&b, SIZE_MAX / 2);
    while (n > 0 && buf_reserve(&b, 4096) != NULL) {
        n = fread(b.data + b.len, 1, 4096, f);
        b.len += n;
    }
    fclose(f);
    copy = malloc(b.len + (b.len == 0));
    if (copy != NULL) {
        memcpy(copy, b.data, b.len);
        fprintf(stderr, "%s\n", path);
        chosen->run(copy, b.len);
    }
    free(copy);
    buf_fini(&b);
    return copy != NULL;
}

/* replay: the targets' names. replay TARGET FILE...: gives it each of the files, named on standard
 * error before it is tried. */
int main(int argc, char **argv)
{
    if (argc == 1) {
        for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
            puts(targets[i].name);
        return 0;
    }
    if (!choose(argv[1])) {
        fprintf(stderr, "there is no target %s\n", argv[1]);
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (!replay(argv[i])) {
            perror(argv[i]);
            return 2;
        }
    return 0;
}
#endif
