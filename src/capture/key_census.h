/* key_census.h -- which rows the server still has, counted.
 *
 * Part of a poll, in its snapshot: a count and a xor of key hashes for each
 * bucket, for the host to compare with what it knows; then the keys of the
 * buckets that it asks for. The hashes of the poll's own rows go along, since
 * the host does not know these rows yet.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEY_CENSUS_H
#define KEY_CENSUS_H

#include "capture/source.h"

struct key_census {
    bool is_owed;          /* one was wanted, or never made yet, and is not complete */
    bool is_wanted;        /* by the poll in hand */
    bool is_skipped;       /* the poll has too many rows: the next one does it */
    bool is_truncated;     /* all files of the table are new */
    int64_t last_ms;
    uint64_t *hashes;
    size_t n_hashes, cap_hashes;
    bool is_answered;      /* the host has said what it asks for */
    unsigned char *asked;  /* a bit for each bucket, owned; NULL: none */
    struct message *message;   /* being filled */
};

/* True if one is due now. */
bool key_census_is_due(const struct key_census *c, const struct source *s);

/* A poll begins, which makes one if it is due; the leaves that the position knows are those of the
 * poll before. */
void key_census_begin(struct key_census *c, const struct source *s);

/* Forgets what the poll in hand brought; its end without one of key_census_complete. */
void key_census_drop(struct key_census *c);

/* Takes the hash that the next row of <chunk> begins with; *p ends after it. */
bool key_census_take_hash(struct key_census *c, struct chunk *chunk, const char **p,
                          const char *end, struct err *e) WARN_UNUSED;

/* Counts a row that is left to the next poll, as the server will; <p>: where its hash is. */
bool key_census_leave(struct key_census *c, const char *p, const char *end,
                      struct err *e) WARN_UNUSED;

/* Reads the answer to sql_tally; *message is for the host. */
bool key_census_read_tally(struct key_census *c, const struct source *s, struct conn *conn,
                           struct message **message, struct err *e) WARN_UNUSED;

/* What the host asks for: TALLY_BUCKETS bits (copied) or, NULL, nothing. */
bool key_census_answer(struct key_census *c, const unsigned char *asked) WARN_UNUSED;

/* Reads of the answer to sql_keys what makes a chunk, which <ends> if it is the last one. Tells old
 * rows, OP_READ, from those that this poll or the next delivers, OP_UPSERT. */
bool key_census_read_keys(struct key_census *c, const struct source *s, struct conn *conn,
                          struct message **message, struct err *e) WARN_UNUSED;

/* The poll is over. */
void key_census_complete(struct key_census *c);

/* Reads the xmin that a COPY row begins with, and the tab after it, or, if <is_alone>, the row that
 * is nothing else; *p ends after it. */
bool key_census_read_xmin(const char **p, const char *end, bool is_alone,
                          uint32_t *xmin) WARN_UNUSED;

/* Reads the decimal number that a COPY row begins with, and the tab after it; *p ends there. */
bool key_census_read_hash(const char **p, const char *end, uint64_t *hash) WARN_UNUSED;

#endif
