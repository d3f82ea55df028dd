/* server.h -- answers over HTTP how the program is: --listen.
 *
 * A thread of its own reads copies of the figures and answers from them, so that nobody who asks
 * can hold a change up. It needs the module listen.so, and loads it.
 *
 *    GET /healthz   200 while the loop turns, else 503
 *    GET /readyz    200 when it is ready (see health.h), else 503; JSON says why
 *    GET /metrics   for Prometheus, see metrics.h
 *    GET /status    JSON, see status.h
 *    GET /events    the same, again and again, as server-sent events
 *    GET /          the page, which reads /events
 *    POST /ctl/COMMAND   as pgcdc-lua ctl, with a token only: NAME=VALUE&...
 *
 * SPDX-License-Identifier: MIT */
#ifndef SERVER_H
#define SERVER_H

#include "serve/control.h"

/* All borrowed. */
struct server_options {
    const char *listen;      /* see address.h; NULL: the program does not listen */
    const char *token_file;  /* or NULL */
    const char *modules_dir; /* where listen.so is */
    struct health_options health;
};

struct server;

/* Reads the options, loads the module and opens the socket, but does not serve yet. Returns owned,
 * or NULL: ERR_USAGE, ERR_MEMORY. */
struct server *server_new(const struct server_options *o, struct figures_board *board,
                          struct err *e);

/* Commands go to <control> from now on, NULL: nowhere; borrowed. */
void server_set_control(struct server *s, struct control *control);

/* What it listens on. Borrowed. */
const char *server_address(const struct server *s);

/* Starts the thread. */
bool server_start(struct server *s, struct err *e) WARN_UNUSED;

/* Ends the thread and frees all. NULL is legal. */
void server_free(struct server *s);

/* Whether the module can be loaded; appends a line for --version where it is there. */
void server_put_version(const char *modules_dir, struct buf *to);

#endif
