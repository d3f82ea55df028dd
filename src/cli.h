/* cli.h -- the command line: options, NAME=VALUE words, the files that they name, --list.
 *
 * Turns the arguments of the program into what host_run takes. Prints what the user asks for
 * instead of a run: --help, --version, --list. Does not log.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLI_H
#define CLI_H

#include "cli/ctl.h"
#include "host/host.h"

struct cli {
    struct host_options host; /* what it points to belongs to this struct or to argv */
    struct log log;
    bool is_answered;         /* --help, --version, --list: it was printed; nothing is to be run */
    bool is_list, is_version;
    const char *tool;         /* --test and the like: the name in lua/pgcdc/testing; else NULL */
    bool is_bundled;          /* the script is one of ours, asked for by its name */
    bool is_old_state;        /* the state file is one that an earlier version named */
    bool is_ctl;              /* <ctl> is to be asked, and nothing is to be run */
    struct ctl ctl;
    int n_options;            /* how many words of argv stand before the script */
    const char *asked;        /* the script, as the command line names it */
    char *script, *state;     /* owned paths */
    char *pipeline;           /* owned; NULL: an option names it, or it has no name */
    char *database;           /* owned; NULL: as the command line says it */
    char *dsn;                /* owned; NULL: as the command line says it */
    char *lua_dir, *scripts_dir, *modules_dir; /* owned paths */
};

/* <cli> must not be moved between init and fini. */
void cli_init(struct cli *cli);
void cli_fini(struct cli *cli);

/* Reads the command line and finds the files, or prints on standard output, which is not flushed.
 * ERR_USAGE if the command line is wrong, ERR_INTERNAL if our own files are not there, ERR_MEMORY.
 * argv must outlive <cli>. */
bool cli_read(struct cli *cli, int argc, char **argv, struct err *e) WARN_UNUSED;

#endif
