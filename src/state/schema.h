/* schema.h -- the tables of a state that is kept in a database, see database.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "pg/conn.h"

/* Refuses a database that state cannot be kept in. *is_there: our tables are. */
bool schema_look(struct conn *c, bool *is_there, struct err *e) WARN_UNUSED;

/* Makes them. */
bool schema_make(struct conn *c, struct err *e) WARN_UNUSED;

#endif
