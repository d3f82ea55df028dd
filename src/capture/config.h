/* config.h -- what a source was declared to be.
 *
 * Filled from what the script says, and immutable once the host runs, so that every thread may
 * read it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How changes are found: by the xmin of rows, by a column that grows, by stamps of triggers, by the
 * server's log; or not by us: the Lua half brings those that somebody else has found. */
enum config_capture { CONFIG_BY_XMIN, CONFIG_BY_INCREMENT, CONFIG_BY_TRIGGER, CONFIG_BY_LOGICAL,
                      CONFIG_BY_FEED };

/* What becomes of a long value that an update left as it was, which the log does not have. */
enum config_toast {
    CONFIG_TOAST_FILL,   /* it is looked for, and may stay unknown */
    CONFIG_TOAST_LEAVE,  /* it is unknown */
    CONFIG_TOAST_REQUIRE /* the log must have the row before */
};

/* What becomes of a slot that holds more than it may. */
enum config_on_full { CONFIG_FULL_DROP, CONFIG_FULL_KEEP, CONFIG_FULL_STOP };

/* Whether a poll may be spared blocks that the server's WAL does not name, see hinted.h. */
enum config_hints {
    CONFIG_HINTS_NEVER,
    CONFIG_HINTS_AUTO,  /* where that works, and is quicker */
    CONFIG_HINTS_WAL,   /* it must work */
    CONFIG_HINTS_CHECK, /* the same, and each poll is compared with a scan */
};

enum config_start { CONFIG_START_SNAPSHOT, CONFIG_START_NOW, CONFIG_START_XID };

struct config {
    char *conninfo;
    char *table;    /* as the server is to resolve it */
    char *name;     /* of the source; NULL: the table's, "schema.table", once it is resolved */
    char **columns; /* n_columns 0: all */
    size_t n_columns;
    char **pk;      /* n_pk 0: the primary key */
    size_t n_pk;
    char *where;    /* or NULL */
    char *soft_delete; /* a column whose value says that the row is deleted; or NULL */
    char *column;      /* CONFIG_BY_INCREMENT: the one that grows */
    double lookback;   /* in the units of an integer column, or in seconds; below 0: the type's
                        * default */
    int64_t recheck_ms; /* how often all rows are read again, see increment.h; 0: never */
    char *slot, *publication; /* CONFIG_BY_LOGICAL */
    char *slot_conninfo;   /* of the connections that use the slot; NULL: <conninfo> */
    char holder[64];       /* what connections that use the slot are called, and <epoch>; see */
    uint64_t epoch;        /* slot_holder.h; 0: as all others */
    bool has_own_slot;     /* its name was made by us, not given by the script */
    bool has_failover;     /* the slot is to be on standbys too */
    uint64_t max_retained; /* bytes of the server's log that the slot may hold */
    enum config_toast toast;
    enum config_on_full on_full;
    bool wants_commits, wants_messages; /* of the log, see message.h; set while the script loads */
    enum config_capture capture;
    enum config_start start;
    uint64_t start_xid;
    int64_t interval_min_ms, interval_max_ms; /* the same unless the interval is adaptive */
    unsigned readers;     /* connections that read a range of the snapshot: 1 or 2 */
    unsigned parallel;    /* workers that may share a scan; 0: none */
    double max_load;      /* the share of time that scans may take, see load.h; 1: any */
    size_t connections;   /* that the sources of this database have at most, see reader.h */
    bool is_joint;        /* it is read together with the other sources of its unit, see unit.h */
    size_t unit;          /* the number of the first source of its unit, if <is_joint> */
    enum config_hints hints;
    int64_t quiet_ms;     /* for so long counters stand in for a scan, see quiet.h; 0: never */
    bool rls;             /* captures what row-level security shows of the table */
    bool deletes;         /* looks for rows that were deleted, and tells inserts from updates */
    bool counts_first;    /* does so during the first read, until the log tells deletes */
    int64_t check_ms;     /* how often it looks for them; 0: in every poll */
    bool keeps_old;       /* changes carry the row as it was before */
    bool is_exact;        /* after a crash, those who listen have what the position says, no more:
                           * set when the script is loaded */
    bool skips_unchanged; /* no update is delivered in which no column changed */
};

/* The milliseconds from a poll to the next one, if they were <interval_ms> before it: few after one
 * that found rows; they grow while polls find none. */
int64_t config_next_interval(const struct config *c, int64_t interval_ms, bool had_rows);

/* True if deletes are told by the capture itself, and need not be looked for. */
bool config_tells_deletes(const struct config *c);

/* True if one stream of the server's log is read for both of them. */
bool config_share_log(const struct config *a, const struct config *b);

/* The state of <pipeline> is in a database, and this process has it with this epoch; 0: in a file.
 * Its connections are called after that, see slot_holder.h. Before a reader is started. */
void config_lead(struct config *c, const char *pipeline, uint64_t epoch);

/* NULL is legal. */
void config_free(struct config *c);

#endif
