/* list.h -- the bundled scripts: --list.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LIST_H
#define LIST_H

#include "base/err.h"

#include <dirent.h>

/* For scandir: whether it is one by its name. */
int list_is_script(const struct dirent *entry);

/* Prints the name and the first line of each in <folder>. ERR_INTERNAL. */
bool list_print(const char *folder, struct err *e) WARN_UNUSED;

#endif
