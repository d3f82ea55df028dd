/* pgoutput.h -- the messages of the plug-in pgoutput, protocol version 1.
 *
 * Pure functions from bytes to structs. A message is checked as a whole before anything of it is
 * given: each length lies within it, each kind is known, and nothing follows. So what reads its
 * columns and fields need not check. All pointers borrow from the message.
 *
 * What a sequence of messages means (a Begin before its Commit, a relation before its rows) is up
 * to the caller.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PGOUTPUT_H
#define PGOUTPUT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum pgoutput_kind {
    PGOUTPUT_BEGIN,
    PGOUTPUT_COMMIT,
    PGOUTPUT_ORIGIN,
    PGOUTPUT_RELATION,
    PGOUTPUT_TYPE,
    PGOUTPUT_INSERT,
    PGOUTPUT_UPDATE,
    PGOUTPUT_DELETE,
    PGOUTPUT_TRUNCATE,
    PGOUTPUT_MESSAGE,
};

struct pgoutput_begin {
    uint64_t commit_lsn; /* of its commit record */
    int64_t ts;          /* of the commit, in microseconds since 2000-01-01 UTC */
    uint32_t xid;        /* of the top-level transaction */
};

struct pgoutput_commit {
    uint64_t commit_lsn, end_lsn; /* the record, and the byte after it */
    int64_t ts;
};

/* pgoutput_next_column gives them. */
struct pgoutput_columns {
    const char *p;
    size_t n; /* that are still to be given */
};

struct pgoutput_relation {
    uint32_t oid;
    const char *schema; /* "" is pg_catalog */
    const char *name;
    char identity;      /* d, n, f or i, as in pg_class.relreplident */
    struct pgoutput_columns columns;
};

struct pgoutput_column {
    bool is_key; /* part of the replica identity */
    const char *name;
    uint32_t type;    /* oid */
    int32_t modifier;
};

/* pgoutput_next_field gives them. */
struct pgoutput_tuple {
    const char *p;
    size_t n;
};

enum pgoutput_value { PGOUTPUT_NULL, PGOUTPUT_UNCHANGED, PGOUTPUT_TEXT };

struct pgoutput_field {
    enum pgoutput_value value;
    const char *p; /* of a PGOUTPUT_TEXT: <len> bytes, without a NUL */
    size_t len;
};

enum pgoutput_old {
    PGOUTPUT_NO_OLD,
    PGOUTPUT_OLD_KEY, /* the columns of the replica identity; the others are NULL */
    PGOUTPUT_OLD_ROW,
};

/* INSERT, UPDATE, DELETE. */
struct pgoutput_row {
    uint32_t relation; /* oid */
    enum pgoutput_old has_old;
    struct pgoutput_tuple old, new; /* <old> unless PGOUTPUT_NO_OLD; <new> not of a DELETE */
};

struct pgoutput_truncate {
    bool cascades, restarts;
    size_t n;
    const char *relations; /* see pgoutput_truncated */
};

struct pgoutput_logical {
    bool is_transactional;
    uint64_t lsn;
    const char *prefix;
    const char *p; /* the content, <len> bytes */
    size_t len;
};

struct pgoutput_message {
    enum pgoutput_kind kind;
    union { /* ORIGIN, TYPE: nothing */
        struct pgoutput_begin begin;
        struct pgoutput_commit commit;
        struct pgoutput_relation relation;
        struct pgoutput_row row;
        struct pgoutput_truncate truncate;
        struct pgoutput_logical logical;
    };
};

/* Reads a message. False with ERR_ANSWER, which names its kind and what is wrong with it. */
bool pgoutput_read(struct pgoutput_message *m, const char *p, size_t len,
                   struct err *e) WARN_UNUSED;

/* The next one. False: there are no more. */
bool pgoutput_next_column(struct pgoutput_columns *columns, struct pgoutput_column *column);
bool pgoutput_next_field(struct pgoutput_tuple *tuple, struct pgoutput_field *field);

/* The oid of the <i>th relation, from 0. */
uint32_t pgoutput_truncated(const struct pgoutput_truncate *t, size_t i);

#endif
