/* role.h -- whether this process leads its pipeline, or waits for it; and who else does.
 *
 * Where the state is in a database two processes can have one pipeline, see lease.h. Any thread may
 * call these.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROLE_H
#define ROLE_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define ROLE_NAME 256 /* bytes of a host's name, with its NUL */

enum role_kind {
    ROLE_ALONE,   /* the state is in a file */
    ROLE_STANDBY, /* another process is at work; or that is not known yet */
    ROLE_LEADER,
    ROLE_MEMBER,  /* of a group of Kafka: its workers have roles */
};

struct role_process {
    char host[ROLE_NAME]; /* "": there is none */
    uint64_t pid;
    char owner[33];       /* see lease_row.h */
};

/* How it is, as a copy. */
struct role_facts {
    enum role_kind kind;
    uint64_t epoch;             /* of the lease; 0: it is not known */
    int lease_s;
    struct role_process leader; /* of a standby: who is at work, as it was told last */
    struct role_process other;  /* of a leader: the standby that was seen last */
    uint64_t standbys;          /* of a leader: how many there are */
    int64_t renewed_ms;         /* of a leader: when the lease was renewed, by clock_boot_ms */
};

struct role {
    pthread_mutex_t mutex;
    struct role_facts facts;
    struct role_process next; /* who is to be the leader; "": nobody asked for that */
    bool wants_lead;          /* a user wants this one to be */
    int wake_fd;              /* an eventfd, written to when <next> is set; -1: none */
};

bool role_init(struct role *r, int wake_fd, struct err *e) WARN_UNUSED;
void role_fini(struct role *r);

/* <facts> is copied out, or in: then <other> is what a leader had of it before. */
void role_get(struct role *r, struct role_facts *facts);
void role_set(struct role *r, const struct role_facts *facts);

/* Of a leader: who waits; and who of them wants to lead, whose host is "" where none does. */
void role_set_standby(struct role *r, uint64_t standbys, const struct role_process *other,
                      const struct role_process *wants, int64_t renewed_ms);

/* A leader is to hand over. False: nobody is known to wait. */
bool role_hand_over(struct role *r, struct role_process *next);

/* Who is to lead next, whose host is "" where nobody is. */
void role_next(struct role *r, struct role_process *next);

/* A user wants this standby to lead; and whether one did since role_take_wish was called last. */
void role_wish(struct role *r);
bool role_take_wish(struct role *r);

#endif
