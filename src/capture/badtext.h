/* badtext.h -- which column holds text that cannot be sent.
 *
 * A database of encoding SQL_ASCII takes any bytes; the server then refuses to
 * send them as UTF-8, and says which bytes, but not where they are.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BADTEXT_H
#define BADTEXT_H

#include "capture/sql.h"

/* If <e> is that refusal (22021), puts the name of the first column of <q> in front of it that
 * holds such bytes, if there is one. Reads the table once for each column up to there, in a
 * transaction of its own: none may be open. */
void badtext_name_column(struct conn *conn, const struct sql_query *q, bool rls, struct err *e);

#endif
