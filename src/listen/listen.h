/* listen.h -- what the module listen.so shows to the program: HTTP over a socket that listens.
 *
 * The module knows HTTP and nothing of what is served; the program has the socket and the thread,
 * and answers. All functions are to be called by one thread.
 *
 *    open ──▶ turn, turn, turn ...   requests call <answer>
 *             tell                   what streams get next
 *             close
 *
 * SPDX-License-Identifier: MIT */
#ifndef LISTEN_H
#define LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#define LISTEN_ABI 2u /* changes whenever what is below does */
#define LISTEN_SYMBOL "listen_module"
#define LISTEN_BODY_MAX ((size_t)64 << 10) /* of a POST; what is longer is not read */

/* All borrowed; NULL where the client did not send it. */
struct listen_request {
    const char *method, *path; /* path: without what follows a "?" */
    const char *authorization, *host, *accept;
    const char *body;      /* of a POST, <body_len> bytes; NULL: none, or it was not read */
    size_t body_len;
    bool is_too_long;      /* it was not read, since it is longer than LISTEN_BODY_MAX, or nobody
                            * says how long it is */
};

/* Zeroed at first. */
struct listen_answer {
    unsigned status;
    const char *type;      /* of the content; static, as the next two */
    const char *allow;     /* the methods that are allowed, or NULL */
    const char *authenticate; /* how a client can log in, or NULL */
    char *body;            /* owned by the module from then on, which frees it; or NULL */
    size_t len;
    bool is_stream;        /* <body> is its beginning, and it never ends */
};

/* Answers a request. */
typedef void listen_answerer(void *arg, const struct listen_request *r, struct listen_answer *a);

struct listen_options {
    int fd;                /* listens, does not block; the module closes it */
    listen_answerer *answer;
    void *arg;             /* borrowed, of <answer> */
};

struct listen;

struct listen_module {
    unsigned abi;          /* LISTEN_ABI when it was compiled */
    const char *(*version)(void); /* of the library, "libmicrohttpd 0.9.75"; static */
    struct listen *(*open)(const struct listen_options *o); /* owned; NULL: out of memory */
    /* Serves for <ms> milliseconds, or until <stop_fd> is readable. */
    void (*turn)(struct listen *l, int ms, int stop_fd);
    /* True if somebody reads a stream. */
    bool (*has_streams)(const struct listen *l);
    /* All streams whose clients have read what came before get these bytes; others miss them. */
    void (*tell)(struct listen *l, const char *bytes, size_t len);
    void (*close)(struct listen *l);
};

#endif
