/* news.h -- what others want of the loop: signals, and commands that end it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NEWS_H
#define NEWS_H

#include <stdatomic.h>
#include <stddef.h>

/* What <stop> is. */
enum news_stop {
    NEWS_STOP = 1, /* the program is to end */
    NEWS_RELOAD,   /* likewise, and to be run anew */
};

struct news {
    int fd;             /* an eventfd, written to after anything below was set */
    atomic_int stop;    /* 0 or enum news_stop */
    int stop_fd;        /* an eventfd, written to after <stop> was set */
    atomic_bool reload; /* the script is to be checked and, if it is good, run anew */
    atomic_bool report; /* the log is to say how the program is */
};

/* How the program was started. All owned by main. */
struct news_command {
    char *exe;          /* path of the program's file */
    char **argv;        /* without --reset: what was forgotten once is not forgotten again */
    size_t n_options;   /* how many of them stand before the script */
    char **environment;
};

#endif
