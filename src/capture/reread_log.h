/* reread_log.h -- what is read again of a source whose changes come by the log.
 *
 * A range (reread.h) is read in a snapshot R while the stream stands still at the position, whose
 * LSN is L, between two transactions. W is the log's end, read after R was taken. A row version of
 * the range is delivered, as a read, if
 *
 *     its xid is old by the position's horizon (below the floor, or seen), or
 *     the log from the position up to W has no change of its key (log_keys.h).
 *
 * The range waits for a later R if one does not show all that the stream has delivered: a commit is
 * in the log before other sessions see it.
 *
 *    Nothing is told before its time: what R shows was committed before W. If the stream has not
 *    delivered it, it commits from L on, so the log between has its key; and its xid is not old,
 *    since all of an xid that is was delivered. So what is delivered was delivered before, or was
 *    there before the source began.
 *
 *    A key never goes back: a version that was delivered after the one in hand would be in R, as
 *    all that was delivered, and that one would not. What R does not show comes later, by the
 *    stream.
 *
 *    Nothing is missed, nothing comes twice: the position moves over ranges only, so the stream
 *    goes on where it was. A version that is left out has a key of which the stream brings a newer
 *    version, or its end.
 *
 * That R shows all is known by its text, which lists all top-level transactions that are under way;
 * the log names those, and the horizon has them, or its floor is above them: then they were over in
 * an ordinary snapshot before. (A standby's text lists nobody, so there nothing is read again.)
 *
 * Between two ranges the stream goes on, at least up to W: so the server need not keep the log for
 * longer, and what is read of it for one range is short.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REREAD_LOG_H
#define REREAD_LOG_H

#include "capture/log_keys.h"
#include "capture/method.h"

/* Why no row of the source can be read again; NULL: they can, or it is not known yet. */
const char *reread_log_why_not(const struct source *s);

/* True if the position, which is one of the log, may have a range read. */
bool reread_log_is_due(const struct source *s);

/* In the transaction of a range: reads what the log has, into <keys>. *is_ready false: the range is
 * to be read later. */
bool reread_log_begin(struct log_keys *keys, struct source *s, const struct method_extent *extent,
                      struct conn *conn, bool *is_ready, struct err *e) WARN_UNUSED;

/* The <take> of a row of it. */
bool reread_log_take(struct log_keys *keys, const struct source *s, struct method_row *row,
                     struct err *e) WARN_UNUSED;

/* The step has ended: the next range waits for the stream. */
void reread_log_end(struct log_keys *keys, struct source *s);

#endif
