/* badtext.h -- which column holds text that cannot be sent.
 *
 * A database of encoding SQL_ASCII takes any bytes; the server then refuses to
 * send them as UTF-8, and says which bytes, but not where they are.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BADTEXT_H
#define BADTEXT_H

#include "capture/sql.h"

/* If <e> is that refusal (22021), looks for the first column of <q> that holds such bytes, and puts
 * its name in front of the message of <e>; otherwise <e> stays as it is. Reads the table once for
 * each column up to there, each time in a transaction of its own: none may be open. <rls>: as
 * declared in struct config. */
void badtext_name_column(struct conn *conn, const struct sql_query *q, bool rls, struct err *e);

#endif
