/* native_liar_log.c -- lies about the server's log: one message of it is changed.
 * SPDX-License-Identifier: MIT */
#include "native.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#define HEAD (1 + 4 + 1 + 24) /* of CopyData, and of XLogData in it */
#define FIRST_FIELD (HEAD + 1 + 4 + 1 + 2) /* of the new row in an insert */

/* Ends the message after <len> bytes. */
static size_t end_at(char *message, size_t len)
{
    uint32_t size = htonl((uint32_t)len - 1);

    memcpy(message + 1, &size, 4);
    return len;
}

/* The row has its first field only. */
static size_t end_after_field(char *message)
{
    uint32_t size;

    memcpy(&size, message + FIRST_FIELD + 1, 4);
    message[FIRST_FIELD - 1] = 1;
    return end_at(message, FIRST_FIELD + 5 + ntohl(size));
}

size_t native_liar_change(const char *lie, char *message, size_t len)
{
    char kind;

    if (len <= HEAD || message[0] != 'd' || message[5] != 'w')
        return len;
    kind = message[HEAD];
    if ((strcmp(lie, "unannounced") == 0 && kind == 'R') ||
        (strcmp(lie, "no begin") == 0 && kind == 'B') ||
        (strcmp(lie, "no commit") == 0 && kind == 'C'))
        return 0;
    if (strcmp(lie, "other commit") == 0 && kind == 'C')
        message[HEAD + 2 + 7] ^= 1;
    if (kind != 'I')
        return len;
    if (strcmp(lie, "cut off") == 0)
        return end_at(message, len - 1);
    if (strcmp(lie, "length") == 0)
        message[FIRST_FIELD + 1] = 0x7f;
    else if (strcmp(lie, "kind") == 0)
        message[HEAD] = '?';
    else if (strcmp(lie, "columns") == 0)
        return end_after_field(message);
    return len;
}
