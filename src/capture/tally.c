/* tally.c -- how many keys there are, counted by the upper bits of their hashes.
 * SPDX-License-Identifier: MIT */
#include "capture/tally.h"

#include <stdlib.h>

void tally_free(struct tally *t)
{
    if (t != NULL)
        free(t->hashes);
    free(t);
}
