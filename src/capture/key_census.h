/* key_census.h -- which rows the server still has, counted.
 *
 * Part of a poll, in its snapshot: a count and a xor of key hashes for each bucket, which the host
 * compares with the rows that it knows; then the keys of the buckets that the host asks for. The
 * hashes of the poll's own rows are sent with the counts, since the host does not know these rows
 * yet.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEY_CENSUS_H
#define KEY_CENSUS_H

#include "capture/source.h"

struct key_census {
    bool is_owed;          /* a census was due, or none was ever made; none is complete since */
    bool is_behind;        /* polls were completed after the newest census, so the next one has
                            * something to find */
    bool is_wanted;        /* the poll in hand makes a census */
    bool is_skipped;       /* the poll in hand has too many rows: the next one makes it */
    unsigned n_after;      /* so many are still to be made after the poll's rows, see
                            * key_census_goes_first */
    unsigned n_narrow;     /* so many tallies are still to be of narrow buckets, see tally.h */
    bool is_truncated;     /* all files of the table are new since the newest census */
    int64_t check_ms;      /* from census to census, as it counts now, see load.h */
    int64_t last_ms;       /* when the newest one was complete, see clock_mono_ms */
    uint64_t *hashes;      /* of the keys of the poll's rows; owned */
    size_t n_hashes, cap_hashes;
    bool is_answered;      /* the host has said which keys it asks for */
    struct tally_request *asked; /* what it asks for, owned; NULL: nothing */
    bool is_start;         /* the position begins with the census: all rows are old */
    bool learns_all;       /* all rows are old whose keys the poll in hand does not bring */
    uint64_t *brought;     /* if so: <hashes>, sorted, once they are sent; owned */
    size_t n_brought;
    struct message *message; /* being filled; owned; NULL: none */
    bool has_counts;       /* it has those of the tally in hand */
};

/* True if a census is due now. */
bool key_census_is_due(const struct key_census *c, const struct source *s);

/* True if a census is due now, and must be made although nothing has committed. */
bool key_census_is_overdue(const struct key_census *c, const struct source *s);

/* When the next one is due if it has an interval of its own and a step was made just now, see
 * clock_mono_ms; INT64_MAX: it has none. */
int64_t key_census_due_ms(const struct key_census *c, const struct source *s);

/* A poll begins: decides whether it makes a census. The position must still know the leaves of the
 * poll before. <is_start>: nothing is polled, and the position begins with what is there. */
void key_census_begin(struct key_census *c, const struct source *s, bool is_start);

/* True if the poll in hand has made one that the host has answered. */
bool key_census_is_answered(const struct key_census *c);

/* Forgets what the poll in hand brought. To be called when a poll ends unfinished;
 * key_census_complete calls it too. */
void key_census_drop(struct key_census *c);

/* Reads the hash at *p, with the tab after it, and puts it before the next row of <chunk>; *p is
 * moved after the tab. */
bool key_census_take_hash(struct key_census *c, struct chunk *chunk, const char **p,
                          const char *end, struct err *e) WARN_UNUSED;

/* Counts a row that is left to the next poll, since the server counts it too. <p>: its hash and
 * what comes after it. */
bool key_census_leave(struct key_census *c, const char *p, const char *end,
                      struct err *e) WARN_UNUSED;

/* How wide the buckets of the tally in hand are. */
unsigned key_census_width(const struct key_census *c);

/* True if the tally of the poll in hand, which is a scan, is to be read before the poll's rows: it
 * tells whether there are any. As a rule there are none or, while something is written all the
 * time, some each time; so where there were some it is tried again after a while only. */
bool key_census_goes_first(const struct key_census *c);

/* Reads the answer to sql_census_tally, a COPY, to its end. *n_new: so many rows are new. */
bool key_census_read_tally(struct key_census *c, const struct source *s, struct conn *conn,
                           uint64_t *n_new, struct err *e) WARN_UNUSED;

/* Puts the hashes of the poll's rows to the tally that was read. Returns the message for the host,
 * owned by the caller; NULL: out of memory. */
struct message *key_census_take_tally(struct key_census *c) WARN_UNUSED;

/* The answer of the host (copied), or NULL: it asks for no keys. False: out of memory. */
bool key_census_answer(struct key_census *c, const struct tally_request *asked) WARN_UNUSED;

/* True if whole rows are asked for: the host learns what is there, and will want the rows before
 * the next changes. */
bool key_census_wants_rows(const struct key_census *c, const struct source *s);

/* Reads the next chunk of the answer to sql_keys, which the caller owns; it <ends> if it is the
 * last one, and has a row type if its rows are whole. Old rows are OP_READ, those that this poll or
 * the next delivers are OP_UPSERT. */
bool key_census_read_keys(struct key_census *c, const struct source *s, struct conn *conn,
                          struct message **message, struct err *e) WARN_UNUSED;

/* The poll is complete. */
void key_census_complete(struct key_census *c, const struct source *s);

/* Reads the xmin at the beginning of a COPY line and the tab after it or, if <is_alone>, a line
 * that has no other field; *p is moved after it. False: it cannot be read, *p stays. */
bool key_census_read_xmin(const char **p, const char *end, bool is_alone,
                          uint32_t *xmin) WARN_UNUSED;

/* Reads the hash at *p, a decimal number, and the tab after it; *p is moved after the tab. False:
 * it cannot be read, *p stays. */
bool key_census_read_hash(const char **p, const char *end, uint64_t *hash) WARN_UNUSED;

#endif
