/* steer.h -- does what users ask of the running program: commands of `pgcdc-lua ctl`, SIGHUP and
 * SIGUSR1.
 *
 * On the host's thread, between two messages. What a source was told to do outlives the program:
 * that it is paused is a record of the state file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STEER_H
#define STEER_H

#include "host/delivery.h"
#include "host/lead.h"
#include "host/news.h"
#include "host/publish.h"
#include "host/reload.h"
#include "serve/control.h"

/* A client sees so many changes of a source. */
struct steer_tap {
    uint64_t client, left;
    size_t source;
};

/* All borrowed but what is said to be owned. */
struct steer {
    struct control *control;    /* owned; NULL: no command can come */
    struct news *news;
    const struct news_command *command;
    struct script *script;
    struct publish *publish;
    struct lead lead;
    struct reader *reader;      /* NULL before the sources are read */
    struct reload reload;       /* owned */
    uint64_t reload_client;     /* who waits for it; 0: nobody, a signal has asked */
    struct steer_tap *taps;     /* owned */
    size_t n_taps, cap_taps;
    uint64_t *rereads;          /* of each source: who waits for what comes of that; owned */
};

/* Zeroed at birth, but for reload.fd: -1. Begins to listen beside the state file; where that is not
 * possible a warning is logged. */
void steer_open(struct steer *s, const struct control_options *o);
void steer_close(struct steer *s);

/* The source has its name: it is paused if it was. To be called before reader_restore. */
bool steer_resolve(struct steer *s, size_t source, struct err *e) WARN_UNUSED;

/* This process leads now, or is alone: answers who has asked for that. */
void steer_lead(struct steer *s);

/* The reader says what comes of reading a source again: logs it, and answers who has asked. */
void steer_tell_reread(struct steer *s, size_t source, const struct message_notice *n);

/* Does what was asked for since. */
bool steer_turn(struct steer *s, struct err *e) WARN_UNUSED;

/* How long the loop may sleep; -1: for ever. */
int64_t steer_wait_ms(const struct steer *s);

#endif
