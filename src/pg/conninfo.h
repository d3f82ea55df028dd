/* conninfo.h -- connection strings: what they say, their variables, and what the sandbox allows.
 *
 * --dsn is resolved once, before the script runs: what the environment and the service file add
 * becomes part of its text, which the script never sees. A connection string of the script's own is
 * confined: it has only the keywords of a list, and uses nothing that the user of the program has
 * in files or in the environment.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONNINFO_H
#define CONNINFO_H

#include "base/buf.h"

/* Appends <conninfo> with what its variables stand for (see base/variable.h): in each value apart,
 * so that a password may hold any character; or a variable alone that is a whole connection string.
 * ERR_USAGE names the keyword. */
bool conninfo_expand(struct buf *to, const char *conninfo, struct err *e) WARN_UNUSED;

/* Appends <conninfo> with what the environment and the service file say in place of what it leaves
 * out. May set PGSERVICE. False with ERR_USAGE if it cannot be read. */
bool conninfo_resolve(struct buf *to, const char *conninfo, struct err *e) WARN_UNUSED;

/* Appends the role that <conninfo> connects as; nothing if that is not known. */
void conninfo_user(struct buf *to, const char *conninfo);

/* Clears libpq's variables. (The folder of service files stays known: a resolved string names its
 * service, so that libpq says if there is none.) For a program that has one thread. */
void conninfo_clear_environment(void);

/* Appends <conninfo>, a script's, as a string that makes libpq read no file but the certificates
 * that the user trusts (root.crt). False with ERR_USAGE if it cannot be read, or has a keyword that
 * no sandboxed script may use. */
bool conninfo_confine(struct buf *to, const char *conninfo, struct err *e) WARN_UNUSED;

/* True if conninfo_confine made this string. */
bool conninfo_is_confined(const char *conninfo);

#endif
