/* page.h -- the status page, page.html, as it is in the program.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PAGE_H
#define PAGE_H

#include <stddef.h>

/* Static; *len: its bytes. */
const char *page_html(size_t *len);

#endif
