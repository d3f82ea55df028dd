/* script_list.h -- --list: the bundled scripts.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SCRIPT_LIST_H
#define SCRIPT_LIST_H

#include "base/err.h"

#include <dirent.h>

/* True if an entry of the folder is a script: for scandir. */
int script_list_has(const struct dirent *entry);

/* Prints the name of each script of the folder, and its first line. ERR_INTERNAL if the folder
 * cannot be read. */
bool script_list_print(const char *folder, struct err *e) WARN_UNUSED;

#endif
