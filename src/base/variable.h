/* variable.h -- what is in the environment or in credential files, in the place of its name.
 *
 *   $NAME, ${NAME}                 the variable of the environment
 *   $CREDENTIALS_DIRECTORY/FILE    what is in that file of that folder, without a newline at its
 *                                  end; FILE has letters, digits and ". _ -"
 *   $$                             a dollar
 *
 * The one rule for connection strings, options of sinks, and --dsn. Errors never show a value.
 *
 * SPDX-License-Identifier: MIT */
#ifndef VARIABLE_H
#define VARIABLE_H

#include "base/buf.h"

/* Appends <text>, up to its NUL, with what its variables stand for. ERR_USAGE: one is not set, a
 * file cannot be read, or a dollar has no name behind it. ERR_MEMORY. */
bool variable_expand(struct buf *to, const char *text, struct err *e) WARN_UNUSED;

#endif
