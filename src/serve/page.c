/* page.c -- the status page, as it is in the program. Its files are put in when this one is
 * compiled.
 * SPDX-License-Identifier: MIT */
#include "serve/page.h"

#define FILE_OF(name) ".incbin \"src/serve/" name "\"\n"
#define TEXT_OF(text) ".ascii \"" text "\"\n"

__asm__(".section .rodata\n"
        "page_begin:\n"
        TEXT_OF("<!doctype html>\\n<html lang='en'>\\n<style>\\n") FILE_OF("page.css")
        TEXT_OF("</style>\\n") FILE_OF("page.html")
        TEXT_OF("<script>\\n") FILE_OF("page_pipeline.js") FILE_OF("page.js")
        TEXT_OF("</script>\\n</html>\\n")
        "page_end: .byte 0\n"
        ".previous\n");

extern const char page_begin[], page_end[];

const char *page_html(size_t *len)
{
    *len = (size_t)(page_end - page_begin);
    return page_begin;
}
