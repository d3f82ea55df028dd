/* version.h -- the version of the program.
 *
 * SPDX-License-Identifier: MIT */
#ifndef VERSION_H
#define VERSION_H

#define VERSION "0.1.0"

#endif
