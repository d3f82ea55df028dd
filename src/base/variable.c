/* variable.c -- what is in the environment or in credential files, in the place of its name.
 * SPDX-License-Identifier: MIT */
#include "base/variable.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define FOLDER "CREDENTIALS_DIRECTORY"
#define LONGEST_NAME 200

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
static const char file_names[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-";

/* The value of a variable whose name has <len> characters; NULL with <e> if it is not set. */
static const char *value_of(const char *name, size_t len, struct err *e)
{
    char copy[LONGEST_NAME];
    const char *value;

    snprintf(copy, sizeof copy, "%.*s", (int)(len < LONGEST_NAME ? len : LONGEST_NAME), name);
    value = len < LONGEST_NAME ? getenv(copy) : NULL;
    if (value == NULL)
        err_set(e, ERR_USAGE, "$%s is not set in the environment ($$ is a dollar)", copy);
    return value;
}

/* Takes away the last byte if it is <c>, and is not before <start>. */
static void cut(struct buf *to, size_t start, char c)
{
    if (to->len > start && to->data[to->len - 1] == c)
        to->data[--to->len] = '\0';
}

/* Appends what is in a file of the folder of credentials. */
static bool put_file(struct buf *to, const char *name, size_t len, struct err *e)
{
    const char *folder = value_of(FOLDER, strlen(FOLDER), e);
    char path[PATH_MAX], block[4096];
    size_t start = to->len, n;
    bool ok;
    FILE *f;

    if (folder == NULL)
        return false;
    snprintf(path, sizeof path, "%s/%.*s", folder, (int)len, name);
    f = fopen(path, "rbe");
    errno = f != NULL ? 0 : errno;
    while (f != NULL && (n = fread(block, 1, sizeof block, f)) > 0)
        buf_add(to, block, n);
    ok = f != NULL && !ferror(f);
    if (!ok)
        err_set(e, ERR_USAGE, "the credential file $" FOLDER "/%.*s cannot be read: %s", (int)len,
                name, strerror(errno));
    if (f != NULL)
        fclose(f);
    cut(to, start, '\n');
    cut(to, start, '\r');
    return ok;
}

/* Appends what stands for the variable behind a dollar; *p: moves behind it. */
static bool put_variable(struct buf *to, const char **p, struct err *e)
{
    static const char folder[] = FOLDER "/";
    bool has_braces = **p == '{';
    const char *name = *p + has_braces, *value;
    size_t len = strspn(name, letters);

    len += len > 0 ? strspn(name + len, more) : 0;
    if (!has_braces && strncmp(name, folder, sizeof folder - 1) == 0) {
        name += sizeof folder - 1;
        len = strspn(name, file_names);
        *p = name + len;
        if (len > 0)
            return put_file(to, name, len, e);
    }
    if (len == 0 || (has_braces && name[len] != '}'))
        return err_set(e, ERR_USAGE, "after a $ comes the name of a variable; $$ is a dollar");
    value = value_of(name, len, e);
    if (value == NULL)
        return false;
    buf_puts(to, value);
    *p = name + len + has_braces;
    return true;
}

bool variable_expand(struct buf *to, const char *text, struct err *e)
{
    while (*text != '\0') {
        size_t plain = strcspn(text, "$");

        buf_add(to, text, plain);
        text += plain;
        if (text[0] == '\0')
            break;
        text++;
        if (text[0] == '$') {
            buf_putc(to, '$');
            text++;
        } else if (!put_variable(to, &text, e)) {
            return false;
        }
    }
    return buf_ok(to) || err_memory(e);
}
