/* reload.h -- whether the script would load, if the program were started anew.
 *
 * A child tries: the program's file as it is now, with --graph, which loads the script and connects
 * nowhere. So what a script does when it is loaded is done once more.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RELOAD_H
#define RELOAD_H

#include "base/buf.h"

#include <sys/types.h>

/* Zeroed at birth, but for <fd>: -1. */
struct reload {
    pid_t pid;       /* of the child; 0: none */
    int fd;          /* what it says on standard error; -1: none */
    struct buf said;
    int64_t due_ms;  /* it is ended then */
};

enum reload_state {
    RELOAD_NONE, /* no child is at work */
    RELOAD_RUNS,
    RELOAD_GOOD,
    RELOAD_BAD,  /* <why> is the reason */
};

/* Starts the child: <exe> with <argv>, where --graph is put in, and <environment>. False: why
 * not. */
bool reload_begin(struct reload *r, const char *exe, char *const *argv, char *const *environment,
                  struct err *e) WARN_UNUSED;

/* Looks how far it is; does not wait. */
enum reload_state reload_look(struct reload *r, char why[], size_t size);

/* How long the loop may sleep, unless <fd> is readable before; -1: for ever. */
int64_t reload_wait_ms(const struct reload *r);

/* Ends the child, if there is one, and frees what it holds. */
void reload_fini(struct reload *r);

#endif
