/* hooks_check.h -- what the host tells and asks the Lua half with --check.
 *
 * Through the one door; no function here throws, errors are those of script_call.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOOKS_CHECK_H
#define HOOKS_CHECK_H

#include "base/err.h"
#include "base/warn.h"
#include "lua/script.h"

/* A source was looked at. <text>: lines that say what would be read; those after the first are
 * warnings. NULL: it cannot be read, because of <fault>. */
bool hooks_check_source(struct script *s, size_t source, const char *text,
                        const struct err *fault, struct err *e) WARN_UNUSED;

/* All sources were: looks at the sinks, and prints everything that was found. Where something is
 * wrong, the script stops with status 3. */
bool hooks_check(struct script *s, struct err *e) WARN_UNUSED;

#endif
