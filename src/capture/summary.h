/* summary.h -- what would be captured of a source, for people.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SUMMARY_H
#define SUMMARY_H

#include "capture/source.h"

/* Appends it in one line, once the facts are known. */
void summary_put(const struct source *s, int server_version, struct buf *report);

/* Names may hold anything: what stands from <begin> on becomes one line. */
void summary_make_line(struct buf *text, size_t begin);

#endif
