/* hooks_feed.h -- what the host asks of the Lua half for sources that it feeds, see api_feed.h.
 *
 * Through the one door; no function here throws, errors are those of script_call.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOOKS_FEED_H
#define HOOKS_FEED_H

#include "base/err.h"
#include "base/warn.h"
#include "lua/script.h"

/* The source is to be fed from now on, after position <at>; NULL: there is none. <mode>: "run",
 * "once" or "check". */
bool hooks_feed_start(struct script *s, size_t source, const char *at, const char *mode,
                      struct err *e) WARN_UNUSED;

/* One turn of a member of a group, see host/workers.h. *wait_ms: until the next one, unless
 * something that is watched is readable before; *is_over: it has ended all that it began, as it
 * does once the program is to stop. */
bool hooks_feed_group(struct script *s, int64_t *wait_ms, bool *is_over, struct err *e) WARN_UNUSED;

/* Asks for what has come for all such sources. *has_some: something was fed. */
bool hooks_feed_fetch(struct script *s, bool *has_some, struct err *e) WARN_UNUSED;

#endif
