/* command.h -- commands of users that are the Lua half's: lua/pgcdc/delivery/control.lua.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMMAND_H
#define COMMAND_H

#include "base/buf.h"
#include "lua/script.h"

#define COMMAND_ALL SIZE_MAX /* the command is about all sources */

struct command {
    const char *name;
    size_t source;             /* its number, or COMMAND_ALL */
    const char *const *words;  /* names of <n_words> words, */
    const char *const *values; /* and what they are, NULL: not given */
    size_t n_words;
    /* set by command_run: */
    bool is_ok;
    struct buf text, json;     /* appended; json: an object, or nothing */
};

/* Does what it asks for. Errors are those of script_call. */
bool command_run(struct script *s, struct command *c, struct err *e) WARN_UNUSED;

#endif
