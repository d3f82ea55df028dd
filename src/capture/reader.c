/* reader.c -- the sources of a script, and the crews that read them.
 * SPDX-License-Identifier: MIT */
#include "capture/reader.h"

#include "base/array.h"
#include "capture/crew_steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct database {
    const char *conninfo; /* borrowed */
    struct crew *crew;
};

struct reader_source {
    struct crew *crew; /* owned, as the crew owns <source>; NULL: the Lua half feeds it */
    struct crew_source *source;
};

struct reader {
    struct queue *queue;
    char *spool_dir;
    enum reader_mode mode;
    bool has_debug; /* the log wants to know of every poll */
    int stop_fd;
    struct reader_source *sources; /* by number */
    size_t n_sources, cap_sources;
    struct database *databases;
    size_t n_databases, cap_databases;
};

struct reader *reader_new(struct queue *queue, const char *spool_dir, enum reader_mode mode,
                          bool has_debug, struct err *e)
{
    struct reader *r = calloc(1, sizeof *r);

    if (r == NULL || (r->spool_dir = strdup(spool_dir)) == NULL) {
        free(r);
        err_memory(e);
        return NULL;
    }
    r->queue = queue;
    r->mode = mode;
    r->has_debug = has_debug;
    r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->stop_fd >= 0)
        return r;
    err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    free(r->spool_dir);
    free(r);
    return NULL;
}

/* The crew of the database that <conninfo> names, made on first demand. */
static struct crew *find_crew(struct reader *r, const char *conninfo)
{
    const struct crew_job job = {
        .queue = r->queue,
        .spool_dir = r->spool_dir,
        .stop_fd = r->stop_fd,
        .is_once = r->mode == READER_ONCE,
        .is_check = r->mode == READER_CHECK,
        .has_debug = r->has_debug,
    };
    struct database new = { .conninfo = conninfo };

    for (size_t i = 0; i < r->n_databases; i++)
        if (strcmp(r->databases[i].conninfo, conninfo) == 0)
            return r->databases[i].crew;
    if ((new.crew = crew_new(&job)) == NULL)
        return NULL;
    if (ARRAY_PUSH(r->databases, r->n_databases, r->cap_databases, new))
        return new.crew;
    crew_free(new.crew);
    return NULL;
}

bool reader_add(struct reader *r, const struct config *config, struct err *e)
{
    struct reader_source s = { 0 };

    if (config->capture != CONFIG_BY_FEED &&
        ((s.crew = find_crew(r, config->conninfo)) == NULL ||
         (s.source = crew_add(s.crew, config, r->n_sources)) == NULL))
        return err_memory(e);
    return ARRAY_PUSH(r->sources, r->n_sources, r->cap_sources, s) || err_memory(e);
}

bool reader_start(struct reader *r, struct err *e)
{
    for (size_t i = 0; i < r->n_databases; i++)
        if (!crew_start(r->databases[i].crew, e))
            return false;
    return true;
}

bool reader_restore(struct reader *r, size_t source, const struct position *kept, struct err *e)
{
    return crew_steer_restore(r->sources[source].source, kept) || err_memory(e);
}

bool reader_answer(struct reader *r, size_t source, const struct tally_request *asked)
{
    return crew_steer_answer(r->sources[source].source, asked);
}

void reader_wake(struct reader *r, size_t source)
{
    crew_steer_wake(r->sources[source].crew);
}

void reader_pause(struct reader *r, size_t source, bool is_paused)
{
    if (r->sources[source].crew != NULL)
        crew_steer_pause(r->sources[source].source, is_paused);
}

void reader_poll(struct reader *r, size_t source)
{
    if (r->sources[source].crew != NULL)
        crew_steer_poll(r->sources[source].source);
}

bool reader_reread(struct reader *r, size_t source, const char *where, struct err *e)
{
    return crew_steer_reread(r->sources[source].source, where) || err_memory(e);
}

void reader_saved(struct reader *r, size_t source, uint64_t lsn)
{
    if (r->sources[source].crew != NULL)
        crew_steer_saved(r->sources[source].source, lsn);
}

void reader_meter(struct reader *r, size_t source, struct meter_values *to)
{
    *to = (struct meter_values){ 0 };
    if (r->sources[source].crew != NULL)
        crew_steer_meter(r->sources[source].source, to);
}

void reader_stop(struct reader *r)
{
    uint64_t one = 1;

    if (write(r->stop_fd, &one, sizeof one) < 0) {
        /* only a full counter can refuse, and a full counter is readable */
    }
    for (size_t i = 0; i < r->n_databases; i++)
        crew_stop(r->databases[i].crew);
}

void reader_free(struct reader *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->n_databases; i++)
        crew_free(r->databases[i].crew);
    free(r->databases);
    free(r->sources);
    free(r->spool_dir);
    close(r->stop_fd);
    free(r);
}
