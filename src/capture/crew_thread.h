/* crew_thread.h -- the threads of a crew: which unit is due, and who works on it.
 *
 * Each thread has a connection of its own. There are as many as the database has units (sources
 * that are read together are one unit, see unit.h), at most 8 or what <connections> of a source
 * says; more units share them, the longest due first. Where several are due at the same time, or
 * nearly, one thread asks for all of them in common (round.h).
 *
 * SPDX-License-Identifier: MIT */
#ifndef CREW_THREAD_H
#define CREW_THREAD_H

#include "capture/crew.h"

/* Starts them. They end after crew_stop; crew_free waits for them. */
bool crew_thread_start(struct crew *crew, struct err *e) WARN_UNUSED;

#endif
