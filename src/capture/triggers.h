/* triggers.h -- what is installed for a table, so that capture = "trigger" finds its changes.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TRIGGERS_H
#define TRIGGERS_H

#include "capture/rowtype.h"
#include "pg/conn.h"

/* The table's triggers, as the server's table pgcdc.tables describes them. Zeroed: none. */
struct triggers {
    uint64_t number; /* stands for the table in tombstones and notifications */
    uint64_t since;  /* the xid that made the triggers; 0: there are none */
    uint64_t pruned; /* tombstones below this xid may have been deleted */
    bool notifies;   /* commits are announced */
    char *labels, *columns; /* of the key, newlines between, see sql_trigger_installed; owned */
};

void triggers_fini(struct triggers *t);

/* Replaces <t> by what the answer to sql_trigger_installed says. */
bool triggers_read(struct triggers *t, const struct result *r, struct err *e) WARN_UNUSED;

/* Asks the server for them, in the transaction that is open. If this role may not read
 * pgcdc.tables, there are none. */
bool triggers_ask(struct triggers *t, const struct relation *table, struct conn *conn,
                  struct err *e) WARN_UNUSED;

/* True if tombstones know each column of this row type's key. */
bool triggers_know_key(const struct triggers *t, const struct rowtype *rowtype);

#endif
