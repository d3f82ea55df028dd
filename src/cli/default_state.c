/* default_state.c -- which state file a run uses if none is named.
 * SPDX-License-Identifier: MIT */
#include "cli/default_state.h"

#include "base/hash.h"
#include "pg/connect.h"
#include "state/store.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_TABLES 60 /* bytes of the tables' names in that of the file */

/* The value of NAME=VALUE among the words; NULL if it is not there. */
static const char *word(const struct script_options *s, const char *name)
{
    size_t len = strlen(name);
    const char *value = NULL;

    for (size_t i = 0; i < s->n_words; i++)
        if (strncmp(s->words[i], name, len) == 0 && s->words[i][len] == '=')
            value = s->words[i] + len + 1;
    return value;
}

void default_state_folder(struct buf *path)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (xdg != NULL && *xdg == '/')
        buf_printf(path, "%s/pgcdc-lua/", xdg);
    else if (home != NULL && *home != '\0')
        buf_printf(path, "%s/.local/state/pgcdc-lua/", home);
}

static void fail_home(struct err *e)
{
    err_set(e, ERR_USAGE, "neither XDG_STATE_HOME nor HOME is set: say where positions are kept, "
            "with --state FILE");
}

static void put_script(struct buf *path, const char *script)
{
    const char *slash = strrchr(script, '/'), *name = slash != NULL ? slash + 1 : script;
    size_t len = strlen(name);

    buf_add(path, name, len > 4 && strcmp(name + len - 4, ".lua") == 0 ? len - 4 : len);
}

static void put_tables(struct buf *path, const char *tables)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,";

    buf_putc(path, '-');
    for (size_t i = 0; tables[i] != '\0' && i < MAX_TABLES; i++)
        buf_putc(path, strchr(plain, tables[i]) != NULL ? tables[i] : '_');
}

/* Appends the text whose hash tells runs of one script for other data apart. */
static bool put_identity(struct buf *text, const struct script_options *s, struct err *e)
{
    static const char *const paths[] = { "out", "dir" };
    const char *target = word(s, "target"), *tables = word(s, "table"), *suffix = word(s, "suffix");
    char cwd[PATH_MAX];

    if (!connect_put_place(text, s->dsn, e) ||
        (target != NULL && !connect_put_place(text, target, e)))
        return false;
    buf_printf(text, "table=%s\nsuffix=%s\n", tables != NULL ? tables : "",
               suffix != NULL ? suffix : "");
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *path = word(s, paths[i]);

        if (path == NULL || *path == '/' || strcmp(path, "-") == 0 ||
            getcwd(cwd, sizeof cwd) == NULL)
            cwd[0] = '\0';
        if (path != NULL && strcmp(path, "-") != 0)
            buf_printf(text, "%s=%s/%s\n", paths[i], cwd, path);
    }
    return buf_ok(text) || err_memory(e);
}

/* True if the state file has a position of one of these tables, and no other process uses it. */
static bool has_positions(const char *path, const char *tables)
{
    struct err ignored = { .code = ERR_NONE };
    struct store *store = access(path, F_OK) == 0 ? store_open(path, &ignored) : NULL;
    bool found = false;

    while (store != NULL && !found && *tables != '\0') {
        size_t len = strcspn(tables, ",");
        char *table = strndup(tables, len);

        found = table != NULL && store_has_position(store, table);
        free(table);
        tables += len + (tables[len] == ',');
    }
    store_close(store);
    return found;
}

char *default_state_path(const struct host_options *host, bool is_bundled, bool *is_old,
                         struct err *e)
{
    const struct script_options *s = &host->script;
    const char *tables = word(s, "table");
    struct buf path, old, text;
    char *found;

    *is_old = false;
    buf_init(&path, PATH_MAX);
    buf_init(&old, PATH_MAX);
    buf_init(&text, BUF_SQL_MAX);
    default_state_folder(&path);
    if (path.len == 0) {
        fail_home(e);
        return NULL;
    }
    put_script(&path, s->path);
    buf_printf(&old, "%s.db", path.data);
    if (is_bundled && tables != NULL && put_identity(&text, s, e)) {
        put_tables(&path, tables);
        buf_printf(&path, "-%08x.db", (unsigned)hash_bytes(HASH_START, text.data, text.len));
    } else {
        buf_puts(&path, ".db");
    }
    *is_old = e->code == ERR_NONE && buf_ok(&path) && buf_ok(&old) &&
              strcmp(path.data, old.data) != 0 && access(path.data, F_OK) != 0 &&
              has_positions(old.data, tables);
    found = e->code == ERR_NONE ? buf_take(*is_old ? &old : &path) : NULL;
    if (found == NULL && e->code == ERR_NONE)
        err_memory(e);
    buf_fini(&path);
    buf_fini(&old);
    buf_fini(&text);
    return found;
}

char *default_state_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;

    return strndup(name, strlen(name) - strlen(".db"));
}

char *default_state_of(const char *name, struct err *e)
{
    struct buf path;
    char *found = NULL;

    buf_init(&path, PATH_MAX);
    default_state_folder(&path);
    if (path.len == 0)
        fail_home(e);
    else
        buf_printf(&path, "%s.db", name);
    if (path.len > 0 && (found = buf_take(&path)) == NULL)
        err_memory(e);
    buf_fini(&path);
    return found;
}
