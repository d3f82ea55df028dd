/* listing.h -- the bundled scripts and what they are for.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LISTING_H
#define LISTING_H

#include "base/err.h"

/* Prints the name of each script in <folder>, and what its first line says it does, on standard
 * output. ERR_INTERNAL if the folder cannot be read. */
bool listing_print(const char *folder, struct err *e) WARN_UNUSED;

#endif
