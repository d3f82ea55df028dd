/* database_load.h -- reads the state of a pipeline from a database, see database.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DATABASE_LOAD_H
#define DATABASE_LOAD_H

#include "pg/conn.h"
#include "state/kept_row.h"

/* Reads all that is kept of the pipeline: records, then rows, those of one table after the other.
 * What the functions get is valid until they return. */
struct database_load_visit {
    bool (*record)(void *arg, const struct store_record *r, struct err *e);
    bool (*row)(void *arg, const char *table, const struct kept_row *r, struct err *e);
    void *arg;
};

/* <pipeline>: its name, as a literal of SQL. */
bool database_load_all(struct conn *c, const char *pipeline,
                       const struct database_load_visit *visit, struct err *e) WARN_UNUSED;

#endif
