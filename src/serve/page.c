/* page.c -- the status page, as it is in the program. The file is put in when this one is compiled.
 * SPDX-License-Identifier: MIT */
#include "serve/page.h"

__asm__(".section .rodata\n"
        "page_begin: .incbin \"src/serve/page.html\"\n"
        "page_end: .byte 0\n"
        ".previous\n");

extern const char page_begin[], page_end[];

const char *page_html(size_t *len)
{
    *len = (size_t)(page_end - page_begin);
    return page_begin;
}
