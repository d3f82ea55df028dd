/* stream.h -- one stream of the server's log for the sources of a slot.
 *
 * Makes chunks of what pgoutput sends, in the order of commits across all sources:
 *
 *     Begin    orders   items   orders   Commit   Begin    items   Commit      nothing more
 *              chunk    chunk   chunk                      chunk               last chunks
 *
 * A batch is a group of whole transactions. It ends when it is big enough, or when nothing more is
 * there and whoever uses the stream ends it; then each source that it brought something for gets a
 * last chunk with its position, of which the last one ends the batch: until then the sources are at
 * different moments. (A transaction that is big enough by itself is in several batches.) A source
 * skips what its position has. If the connection is lost in the middle of a transaction, of which
 * rows were handed out, they are passed over when it comes again: the log does not change.
 *
 * A source that is attached belongs to the stream, until it is detached between two batches.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_H
#define STREAM_H

#include "capture/source.h"

struct stream;

/* <config>, of one of the sources: says which slot, and how it is reached. <publications>: their
 * names, quoted, with commas between. Both are borrowed. Returns owned, or NULL: out of memory. */
struct stream *stream_new(const struct config *config, const char *publications, size_t n_sources);
void stream_free(struct stream *st);

/* Source <i> of the stream, whose changes come by the log, from its position on. */
void stream_attach(struct stream *st, size_t i, struct source *source);
void stream_detach(struct stream *st, size_t i);

/* True in the middle of a batch: nothing may be attached or detached. */
bool stream_is_amid(const struct stream *st);

/* The log was read up to here. */
uint64_t stream_passed(const struct stream *st);

enum stream_found {
    STREAM_NOTHING, /* nothing came until the deadline */
    STREAM_SOME,
    STREAM_BATCH,   /* a batch is over */
    STREAM_LEAF,    /* a partition that is new is to be read before the stream goes on: it is to be
                     * abandoned, and the source's next step reads that */
};

/* Reads what there is to read, on a connection like <conn>, which is for other questions. If there
 * is nothing it waits until <deadline_ms>, and where a batch could end for <rest_ms> only. Adds
 * messages to <out>. After an error the stream is closed, and begins anew with the next call. */
bool stream_read(struct stream *st, struct conn *conn, int64_t deadline_ms, int64_t rest_ms,
                 struct queue_list *out, enum stream_found *found, struct err *e) WARN_UNUSED;

/* True if there is a batch, and no transaction is in its middle. */
bool stream_can_end(const struct stream *st);

/* Ends the batch, which can end. <conn> as above. */
bool stream_end(struct stream *st, struct conn *conn, struct queue_list *out,
                struct err *e) WARN_UNUSED;

/* True if the batch has something of source <i>. */
bool stream_has(const struct stream *st, size_t i);

/* Adds the position of each source that has moved since it was told last. Not amid a batch. */
bool stream_tell(struct stream *st, struct queue_list *out, struct err *e) WARN_UNUSED;

/* Tells the server that all before <lsn> is saved; <asks>: it is to say how far it is. */
bool stream_confirm(struct stream *st, uint64_t lsn, bool asks, struct err *e) WARN_UNUSED;

/* Ends a batch that cannot go on: adds what there is of it to <out>. Of a transaction that is not
 * whole rows may come again. <conn>: as above. After a failure it can be called again. */
bool stream_abandon(struct stream *st, struct conn *conn, struct queue_list *out,
                    struct err *e) WARN_UNUSED;

/* Closes the connection. */
void stream_close(struct stream *st);

#endif
