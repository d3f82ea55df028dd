/* lsn.h -- positions in the server's log.
 *
 * An LSN is a byte's position in the WAL, in 64 bits; LSNs are compared as numbers. As text it is
 * two hex numbers: 16/B374D848. Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LSN_H
#define LSN_H

#include "base/warn.h"

#include <stdbool.h>
#include <stdint.h>

#define LSN_TEXT 18 /* the longest text, and a NUL */

/* True if <text> is an LSN and nothing else; else *lsn is 0. */
bool lsn_read(const char *text, uint64_t *lsn) WARN_UNUSED;

/* Writes it as the server does. Returns <text>. */
const char *lsn_write(uint64_t lsn, char text[LSN_TEXT]);

/* True if all before <target> is before <lsn> too. (At the beginning of a page of the log, an LSN
 * of the server may be that of what follows its head.) */
bool lsn_reaches(uint64_t lsn, uint64_t target);

#endif
