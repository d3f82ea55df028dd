/* ctl.h -- `pgcdc-lua ctl`: asks a running program, over the socket beside its state file.
 *
 *    pgcdc-lua ctl [OPTION]... [SCRIPT [NAME=VALUE]...] COMMAND [SOURCE] [NAME=VALUE]...
 *
 * SPDX-License-Identifier: MIT */
#ifndef CTL_H
#define CTL_H

#include "base/err.h"

#include <stddef.h>

struct ctl {
    const char *script;      /* that runs; NULL: the only one that does */
    char *const *words;      /* its NAME=VALUE words */
    size_t n_words;
    const char *command;     /* what is asked, */
    char *const *more;       /* and <n_more> words after it */
    size_t n_more;
    bool as_json;
};

/* Reads what stands after the options. ERR_USAGE. All is borrowed. */
bool ctl_read(struct ctl *ctl, char *const *words, size_t n, struct err *e) WARN_UNUSED;

void ctl_help(void);

/* Asks, and prints the answer. <state>: the state file; NULL: that of the only program that
 * runs. *status: of the exit: 1 if what was asked is not possible. False: nobody answers, or the
 * answer cannot be read. */
bool ctl_run(const struct ctl *ctl, const char *state, int *status, struct err *e) WARN_UNUSED;

#endif
