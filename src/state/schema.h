/* schema.h -- the tables of a state that is kept in a database, see database.h.
 *
 * A comment on pgcdc.lease says of which format they are: a program works with its own one only.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "pg/conn.h"

/* Refuses a database that state cannot be kept in, tables of another format and a role without the
 * rights that it needs, with what mends that. *is_there: the tables are. */
bool schema_look(struct conn *c, bool *is_there, struct err *e) WARN_UNUSED;

/* Makes them. */
bool schema_make(struct conn *c, struct err *e) WARN_UNUSED;

/* The statements that make them, or bring those of an older format up to date, each of which
 * changes nothing where it was run before; NULL ends the list. */
extern const char *const schema_statements[];

/* What a role needs, on which tables. */
#define SCHEMA_RIGHTS "SELECT, INSERT, UPDATE, DELETE"
#define SCHEMA_TABLES "pgcdc.state, pgcdc.state_rows, pgcdc.lease, pgcdc.standby"

#endif
