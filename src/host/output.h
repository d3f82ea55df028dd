/* output.h -- standard output, as a sink of the whole program.
 *
 * Scripts write to it with print() and io.write(), which do not tell when
 * nothing reads it any more. So it is flushed and checked before a position is saved.
 *
 * SPDX-License-Identifier: MIT */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "base/beat.h"
#include "base/err.h"

/* Gives it a large buffer. Call it before anything is written. ERR_OUTPUT if the program was
 * started without one, <is_closed>. */
bool output_open(bool is_closed, struct err *e) WARN_UNUSED;

/* Writes out what is buffered; <beat>, which may be NULL, is told that this may have to wait.
 * ERR_STOPPED if its reader has left, ERR_OUTPUT for anything else. */
bool output_flush(struct beat *beat, struct err *e) WARN_UNUSED;

#endif
