/* host.h -- the loop: take a message, deliver, flush, save, acknowledge.
 *
 * The main thread, which owns the Lua state and the state file. Delivery
 * always precedes the position, so that dying anywhere means redelivery and
 * never loss. Logs; does not exit.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOST_H
#define HOST_H

#include "base/err.h"
#include "capture/reader.h"
#include "lua/script.h"
#include "host/member.h"
#include "host/news.h"
#include "serve/server.h"

struct host_options {
    struct script_options script;
    struct news *news;                   /* borrowed */
    const struct news_command *command;  /* borrowed */
    struct member *member;               /* borrowed */
    const char *state;      /* path of the state file */
    enum reader_mode mode;
    struct server_options listen; /* --listen */
    bool is_graph;          /* --graph: load the script, print its pipeline, no more */
};

/* Runs a script until it is over. *status: what the script asked for (0 if it
 * did not). False with <e> for everything that went wrong. */
bool host_run(const struct host_options *o, int *status, struct err *e) WARN_UNUSED;

#endif
