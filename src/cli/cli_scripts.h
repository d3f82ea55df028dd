/* cli_scripts.h -- the bundled scripts, for the command line.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLI_SCRIPTS_H
#define CLI_SCRIPTS_H

#include "base/err.h"

/* Prints each script of the folder with what it is for. */
bool cli_scripts_print(const char *folder, struct err *e) WARN_UNUSED;

/* Sets the error for a script that is not there, with the nearest that is. Returns false. */
bool cli_scripts_fail(const char *asked, const char *folder, struct err *e);

#endif
