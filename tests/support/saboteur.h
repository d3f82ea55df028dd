/* saboteur.h -- what the parts of the saboteur share.
 * SPDX-License-Identifier: MIT */
#ifndef SABOTEUR_H
#define SABOTEUR_H

#include <stdbool.h>

enum sabotage { MEMORY = 1, LUA = 2, POSTGRES = 4, SQLITE = 8, PAGES = 16, FILES = 32, LIMIT = 64,
                SENDS = 128, ANSWERS = 256 };

/* A step. 0: go on; 1: fail; the process may end here unless <dies> is given, which is then set. */
bool saboteur_strikes(enum sabotage class, const char *name, bool *dies);

/* True if steps of this class count. */
bool saboteur_counts(enum sabotage class);

/* The end of the process, which *dies has asked for. */
void saboteur_kill(void);

#endif
