/* fault.h -- where a source stands, against what the server says.
 *
 * A position and the facts it is held against. This is the fault table: it
 * decides whether the position still means what it says, and mends it where
 * it does not: forget what was seen, or read the table again from its start.
 * Reads no rows.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FAULT_H
#define FAULT_H

#include "capture/message.h"
#include "capture/method_trigger.h"
#include "capture/begin.h"

struct source {
    const struct config *config; /* borrowed */
    size_t number;
    struct position position;
    struct horizon_durable durable;
    struct begin_facts facts;
    struct stamps stamps;               /* where the capture is by triggers */
    size_t indexed_leaves;              /* CONFIG_BY_INCREMENT: so many leaves had been looked at */
    char *polled;                       /* the text of the snapshot of the last complete poll */
    uint64_t glance_lsn;                /* how far a standby had come before the step's snapshot */
    bool is_ready;                      /* the ready word was given */
    bool is_impatient;                  /* waits no longer for a standby that is behind */
    struct queue_list words;     /* notices and the like, to be handed out before rows */
};

void fault_init(struct source *s, const struct config *config, size_t number);
void fault_fini(struct source *s);

/* Takes over a position that was kept (copied). False: out of memory. */
bool fault_restore(struct source *s, const struct position *kept) WARN_UNUSED;

/* Asks in one statement whether anything has committed in the cluster since the last complete
 * poll; *unchanged false where only a poll can tell. */
bool fault_glance(struct source *s, struct conn *conn, bool *unchanged, struct err *e) WARN_UNUSED;

/* begin_transaction, and what is known of the triggers where the capture is by them. */
bool fault_look(struct source *s, struct conn *conn, bool with_sizes, struct err *e) WARN_UNUSED;

enum fault_news {
    FAULT_GOES_ON,
    FAULT_STARTS,     /* a new position, to be kept before anything is read on its ground */
    FAULT_STARTS_NOW, /* likewise; what is there already is yet to be passed over */
};

/* Opens the step's transaction and brings the position in line with what the facts finds. */
bool fault_begin(struct source *s, struct conn *conn, enum fault_news *news,
                 struct err *e) WARN_UNUSED;

/* In the snapshot phase, behind fault_begin: drops leaves that are gone and starts
 * those again whose file changed under us. */
bool fault_check_leaves(struct source *s, struct err *e) WARN_UNUSED;

/* Notes who answered, and what of it a crash cannot take back. */
void fault_keep_identity(struct source *s);

/* D of the capture rule. */
uint64_t fault_durable_bound(const struct source *s);

/* The leaves of the facts are the ones that the position knows. */
bool fault_know_leaves(struct source *s, struct err *e) WARN_UNUSED;

/* A notice for the log, which the source gives before what comes next. */
bool fault_add_notice(struct source *s, enum log_level level, const char *text,
                      struct err *e) WARN_UNUSED;

/* The next word, or NULL. Returns owned. */
struct message *fault_take_word(struct source *s);
bool fault_add_ready(struct source *s, struct err *e) WARN_UNUSED;

#endif
