/* workers.h -- a member of a group of Kafka: a process for each partition that it is assigned.
 *
 * The member has loaded the script, to know its sources, and runs none of it. Which partitions are
 * its own the Lua half finds out (lua/pgcdc/stream/workers.lua), which also says what is started,
 * stopped and accepted when. Here are the processes: the program's own file, with the same words,
 * the pipeline NAME/PARTITION, and $PGCDC_MEMBER, see member.h.
 *
 *    member ──┬── NAME/0   its own Lua state, positions, states, windows, lease
 *             ├── NAME/3
 *             └── NAME/7
 *
 * Why nothing is lost or comes twice: a worker is a pipeline, whose lease (state/lease.h) lets one
 * process at a time be at work on it, whatever the group believes; its position is in its state,
 * and the group's offsets are for those who look. So all that the order here has to achieve is that
 * nobody waits: a partition is given up when its worker has ended, not before.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WORKERS_H
#define WORKERS_H

#include "capture/reader.h"
#include "host/publish.h"
#include "host/steer.h"
#include "lua/script.h"

/* All borrowed. */
struct workers {
    struct script *script;
    struct steer *steer;
    struct publish *publish;
    const char *listen; /* --listen; NULL: nobody listens. A worker's port is the next one after its
                         * partition's number; of a path, that is at its end */
    enum reader_mode mode;
};

/* Is a member until the program is to stop; then all workers have ended. False: why it cannot be
 * one; then what is left of the workers is told to end, as it is when this process dies. */
bool workers_run(const struct workers *w, struct err *e) WARN_UNUSED;

#endif
