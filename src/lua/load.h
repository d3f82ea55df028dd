/* load.h -- a script is loaded: what it can require, then its main chunk.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOAD_H
#define LOAD_H

#include "lua/script.h"

/* Loads our modules and runs the main chunk of the script. Afterwards s->sources is what it
 * declared. Does not throw; a failure of the script is an ERR_SCRIPT, or ERR_USAGE for wrong
 * NAME=VALUE words, and s->traceback tells from where it came. */
bool load_script(struct script *s, struct err *e) WARN_UNUSED;

#endif
