/* control.h -- takes commands for the running program: `pgcdc-lua ctl`, and POST /ctl/COMMAND.
 *
 * A thread of its own listens on a socket beside the state file, which only this user can use. It
 * answers status and stop by itself, so that these work whatever the loop does; all others are the
 * host's. One that the host does not take soon, since a handler is at work, is answered "it will
 * be done", and is.
 *
 *    client ──▶ the thread ──▶ control_take     the host, woken by <news_fd>
 *               the thread ◀── control_answer
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONTROL_H
#define CONTROL_H

#include "serve/health.h"
#include "serve/request.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

/* All borrowed. */
struct control_options {
    const char *state;      /* the state file */
    bool is_shared;         /* other processes may use it at the same time: then the socket is left
                             * to one that has it already */
    const char *version;    /* of the program */
    struct figures_board *board;
    const struct health_options *health;
    struct control_bells {  /* how the program is told */
        atomic_int *stop;   /* set, and stop_fd written to, if it is to stop */
        int stop_fd, news_fd;
    } bells;
};

struct control;

/* The socket beside a state file. However long its path is, it is reached by a descriptor of its
 * folder. */
struct control_place {
    char path[4096]; /* for people */
    char near[sizeof((struct sockaddr_un){ 0 }.sun_path)]; /* by way of <folder> */
    int folder;      /* owned by the caller; -1: none */
};

/* False: the file has too long a name, or its folder is not there. */
bool control_find(struct control_place *p, const char *state, struct err *e) WARN_UNUSED;

union control_address {
    struct sockaddr any;
    struct sockaddr_un local;
};
union control_address control_address(const struct control_place *p);

/* Begins to listen. Unless it is shared, the state file must be open, since that is what makes sure
 * that no other program has the socket. Returns owned, or NULL. */
struct control *control_new(const struct control_options *o, struct err *e);

/* Ends the thread, and removes the socket. NULL is legal. */
void control_free(struct control *c);

/* Tells runs of the program apart, also those of one process. Borrowed. */
const char *control_run(const struct control *c);

/* ---- the host's thread ---- */

/* The next request, owned; NULL: there is none. */
struct request *control_take(struct control *c);

/* Sends <len> bytes to a client; <is_over>: nothing follows. False: the client has hung up, or does
 * not take what was sent before; then nothing may follow. */
bool control_send(struct control *c, uint64_t client, const char *bytes, size_t len, bool is_over);

/* ---- any thread ---- */

/* Asks, as a client would, and waits for the first line of the answer. The request is taken. */
void control_call(struct control *c, struct request *r, struct buf *answer);

#endif
