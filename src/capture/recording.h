/* recording.h -- the file of --record: all that reaches a script, so that it can be fed again.
 *
 * Lines of JSON, in the order in which a script got what they tell:
 *
 *   {"recording":1,"version":"1.0","script":"paid.lua","at":"2026-..."}    a run of the program
 *   {"class":1,"source":"public.orders","table":"orders","columns":[...]}  what its rows are
 *   {"op":"insert","of":1,"xid":749,"seq":17,"ts":"...","row":"1\tAda"}    a change of class 1
 *   {"event":"batch","source":"public.orders","at":"..."}                  and other events
 *
 * A row is the line of COPY that the server sent: so its values have exactly their types again. A
 * field "row_hex" stands for "row" where the bytes are no UTF-8. Classes have numbers of their run.
 *
 * Only our own user may read the file. A later run is added to it; a line that a killed run has
 * begun is cut off. A recording never stops a run: where it cannot be written it ends.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RECORDING_H
#define RECORDING_H

#include "capture/message.h"

/* The words for the kinds of columns. */
enum { RECORDING_KINDS = TYPES_JSON + 1 };
extern const char *const recording_kinds[RECORDING_KINDS];

/* Append lines of a recording, without the newline: one of a class, and one of a row of a chunk
 * whose class has that number. */
void recording_put_class(struct buf *b, size_t number, const char *source,
                         const struct rowtype *s);
void recording_put_row(struct buf *b, size_t class, const struct chunk *chunk, size_t i);

struct recording;

/* Opens the file, makes it if it is not there, and tells that a run begins. Returns owned; or NULL:
 * ERR_USAGE if the file cannot be written, is no recording, or another program writes to it;
 * ERR_MEMORY. */
struct recording *recording_open(const char *path, const char *version, const char *script,
                                 struct err *e);

/* Writes what waits to the file, and frees. NULL is legal. */
void recording_close(struct recording *r);

/* The changes <from> to before <to> of a chunk came to the handlers of the source. */
void recording_add_rows(struct recording *r, const char *source, const struct chunk *chunk,
                        size_t from, size_t to);

/* The source had an event, such as "batch". <log>: what belongs to it, or NULL. What waits is
 * written to the file. */
void recording_add_event(struct recording *r, const char *source, const char *event,
                         const struct message_log *log);

/* True, once, if the recording had to end: <e> says why. */
bool recording_take_failure(struct recording *r, struct err *e);

#endif
