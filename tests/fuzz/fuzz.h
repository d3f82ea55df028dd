/* fuzz.h -- what the targets of the fuzzer have in common.
 * SPDX-License-Identifier: MIT
 *
 * A target takes any bytes as one of the program's inputs, and ends the process where something
 * does not hold that must. fuzz.c runs them: under libFuzzer, which makes inputs up, or, in the
 * program `replay`, on files. */
#ifndef FUZZ_H
#define FUZZ_H

#include "base/buf.h"
#include "lua/script.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *p, size_t len);
};

void fuzz_answer(const uint8_t *p, size_t len);   /* fuzz_answer.c: answers of a server */
void fuzz_json(const uint8_t *p, size_t len);     /* fuzz_json.c: a JSON text */
void fuzz_options(const uint8_t *p, size_t len);  /* fuzz_options.c: words of the command line */
void fuzz_pgoutput(const uint8_t *p, size_t len); /* fuzz_pgoutput.c: a message of the log */
void fuzz_position(const uint8_t *p, size_t len); /* fuzz_position.c: a position as text */
void fuzz_row(const uint8_t *p, size_t len);      /* fuzz_row.c: a row of COPY */
void fuzz_state(const uint8_t *p, size_t len);    /* fuzz_state.c: a state file, or what is in it */

/* Ends the process, with the text that was found wrong, unless <ok>. */
void fuzz_check(bool ok, const char *what, const char *text, size_t len, const char *file,
                int line);

#define CHECK(x) fuzz_check((x), #x, NULL, 0, __FILE__, __LINE__)
#define CHECK_OF(x, text, len) fuzz_check((x), #x, (text), (len), __FILE__, __LINE__)

/* A script that lives as long as the process: tests/fuzz/options.lua, loaded. */
struct script *fuzz_script(void);

/* A function of the module pgcdc.raw, on top of the stack. */
void fuzz_push_raw(lua_State *L, const char *name);            /* [-0, +1] */

/* True if the bytes are valid UTF-8 without control characters: a line, or a part of one. */
bool fuzz_is_line(const char *s, size_t len);

/* True if the bytes are one JSON text, by the letter of RFC 8259 (a depth of 4000 at most). */
bool fuzz_is_json(const char *s, size_t len);

#endif
