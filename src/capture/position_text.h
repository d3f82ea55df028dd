/* position_text.h -- a position as text, and back.
 *
 * How a position is kept: lines of a word and what belongs to it, and a sum
 * over all of it, so that a flipped bit does not pass for a position. No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef POSITION_TEXT_H
#define POSITION_TEXT_H

#include "base/buf.h"
#include "capture/position.h"

/* Appends the text of <p>, the position of <source>. See buf_ok. */
void position_text_write(const struct position *p, const char *source, struct buf *b);

/* Reads what position_text_write wrote for the same <source> into <p>, zeroed
 * before. False, with <p> zeroed: the text is damaged, or of another source. */
bool position_text_read(struct position *p, const char *source, const char *text) WARN_UNUSED;

/* The LSN that a position in this text has of the log, see logical.h; 0: none. */
uint64_t position_text_log_lsn(const char *text);

/* What a position in this text says of a source that is fed. Returns owned, or NULL: nothing, or no
 * memory. */
char *position_text_fed(const char *text);

#endif
