/* home.h -- where a state is kept: in a file or in a database.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOME_H
#define HOME_H

#include "state/database.h"

/* Opens the state of a pipeline that is kept in a database, all of which is read. Returns owned,
 * or NULL. */
struct store *home_open_database(const struct database_options *o, struct err *e);

/* Appends the names of sources whose positions are kept, some of them, commas between. */
struct buf;
bool home_put_sources(struct store *s, struct buf *text, struct err *e) WARN_UNUSED;

#endif
