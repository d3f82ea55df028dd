/* stream_table.h -- the columns of a relation of the log in the rows of a source.
 *
 * The log announces a relation before its first row, and when its columns have changed, by the
 * names that they had then, which become those of now (log_columns.h). Columns are found by name:
 * those that the source does not read are passed over, and those that the relation does not have
 * are NULL. No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_TABLE_H
#define STREAM_TABLE_H

#include "capture/source.h"
#include "pg/pgoutput.h"

/* A relation, and for one source at a time where its columns are. */
struct stream_table {
    uint32_t oid;
    uint64_t serial; /* another one for each announcement, also of other tables */
    uint64_t hash;   /* of names and types of the columns */
    size_t *looked;  /* the sources that have read the facts since the columns are these; owned */
    size_t n_looked, cap_looked;
    char identity;
    char **told;  /* the names in the log; n of them, owned, as what follows */
    char **names; /* as of now; empty: it was dropped since */
    uint32_t *types;   /* oids, in the log */
    uint16_t *numbers; /* of the columns; meaningless unless <is_numbered> */
    uint16_t *before;  /* those of the announcement before, if it was the same; NULL: it was not */
    bool is_numbered;
    bool is_settled;   /* by facts that are not older than the announcement */
    bool *is_key;
    size_t n;
    size_t source;           /* its number in the stream; SIZE_MAX: none yet */
    struct rowtype *rowtype; /* counted reference; NULL: none yet */
    size_t *column;          /* of each of the row type's columns; SIZE_MAX: there is none; owned */
    struct pgoutput_field *fields, *old; /* scratch, n of each; owned */
};

/* Zeroed is empty. */
struct stream_table_list {
    struct stream_table *v;
    size_t n, cap;
    uint64_t serial; /* of the last announcement */
};

void stream_table_fini_all(struct stream_table_list *ts);

/* A relation message: what was known of it is not true any more. */
bool stream_table_announce(struct stream_table_list *ts, const struct pgoutput_relation *r,
                            struct err *e) WARN_UNUSED;

/* The table with this oid for source <i>, borrowed until the next call; *t NULL: it was not
 * announced. *is_known: the source knows its columns, all of them and no others, and their types:
 * once, for each source and after each announcement of other columns, it is false, for the facts to
 * be read. */
bool stream_table_find(struct stream_table_list *ts, uint32_t oid, size_t i,
                        const struct source *source, struct stream_table **t, bool *is_known,
                        struct err *e) WARN_UNUSED;

/* The sources are to look at the facts before the next row of the relation. */
void stream_table_look_again(struct stream_table_list *ts, uint32_t oid);

/* True if changes of the relation with this oid are of the source. (Those of a partition come
 * under the name of its table; its own name is that of rows that it got before it was one.) */
bool stream_table_is_of(const struct source *s, uint32_t oid);

/* As stream_table_find, where nothing is to be read: NULL if the source does not know its
 * columns. */
const struct stream_table *stream_table_known(struct stream_table_list *ts, uint32_t oid, size_t i,
                                              const struct source *source);

/* False, with ERR_REFUSED, if the key is no part of the replica identity: nobody knows which row
 * was updated or deleted. */
bool stream_table_check_key(const struct stream_table *t, struct err *e) WARN_UNUSED;

/* Write the fields of the row type into <line>, which is cleared: of the row; or of a key, the
 * others being NULL. ERR_ANSWER if the tuple has not the columns that were announced. *lacks: the
 * log does not have all values, since the update left them as they were; they are
 * COPYTEXT_UNKNOWN. */
bool stream_table_put_row(const struct stream_table *t, const struct pgoutput_row *row,
                          struct buf *line, bool *lacks, struct err *e) WARN_UNUSED;
bool stream_table_put_key(const struct stream_table *t, const struct pgoutput_tuple *old,
                          struct buf *line, struct err *e) WARN_UNUSED;

/* The whole row as it was before: <old> is a PGOUTPUT_OLD_ROW. ERR_ANSWER as above. */
bool stream_table_put_old(const struct stream_table *t, const struct pgoutput_tuple *old,
                          struct buf *line, struct err *e) WARN_UNUSED;

/* An update whose old row came too: *is: the key is another one now. */
bool stream_table_is_other_key(const struct stream_table *t, const struct pgoutput_row *row,
                               bool *is, struct err *e) WARN_UNUSED;

#endif
