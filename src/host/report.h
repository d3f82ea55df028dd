/* report.h -- what the log says of a run: troubles of sources, totals, why it ended.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REPORT_H
#define REPORT_H

#include "host/delivery.h"
#include "lua/script.h"

/* A reader's notice of the source <name>. */
void report_notice(struct log *log, const char *name, const struct message_notice *n);

/* What was delivered of the source <name> since <began_ms>, by clock_mono_ms. */
void report_total(struct log *log, const char *name, const struct delivery *d, int64_t began_ms);

/* Why the run ended. <s>: its script, NULL: there is none. */
void report_failure(const struct script *s, struct log *log, const struct err *e);

#endif
