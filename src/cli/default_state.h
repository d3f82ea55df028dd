/* default_state.h -- which state file a run uses if none is named.
 *
 * $XDG_STATE_HOME/pgcdc-lua/SCRIPT.db, and of a bundled script SCRIPT-TABLES-HASH.db: the hash is
 * of the database, as given, and of the words that say what goes where, so that runs of one script
 * for other tables, databases or files do not meet. Versions before this one used SCRIPT.db for
 * bundled scripts too: such a file goes on being used if it has a position of one of the tables,
 * and there is no file of the new name.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DEFAULT_STATE_H
#define DEFAULT_STATE_H

#include "host/host.h"

/* Appends the default folder, with a slash at its end; nothing if the environment names none. */
void default_state_folder(struct buf *path);

/* Returns the path, owned, or NULL. <host>: the script, its connection and its words. *is_old: true
 * if it is the file of an earlier version. */
char *default_state_path(const struct host_options *host, bool is_bundled, bool *is_old,
                         struct err *e);

/* The path for a pipeline that is called so, as default_state_path. */
char *default_state_of(const char *name, struct err *e);

/* What a pipeline is called whose state file would have this path: its name without .db. Returns
 * owned, or NULL if there is no memory. */
char *default_state_name(const char *path);

#endif
