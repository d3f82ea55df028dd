/* api_host.h -- what scripts may ask of the program.
 *
 * Exports to Lua (module pgcdc.raw):
 *   version, dsn, lua_dir, scripts_dir, script, state_file, pipeline_name, is_sandboxed,
 *     has_network, is_reset (all is forgotten), words, files: what the program is and was started
 *     with, see struct script_options; histogram_bounds, those of base/histogram.h;
 *   log(level, message, fields, is_of_script): one line on standard error; keys of a script that
 *     are the program's own get the prefix field_;
 *   stop(status): the program stops in good order;
 *   hook(name, function): what the host calls, see hooks.c;
 *   is_watched() -> whether somebody watches the program; show_figures(table): shows these figures,
 *     see script_figures.c.
 * Errors:
 *   usage(message), refuse(message), stale(message): throw, so that the program ends with the
 *     status for a wrong command line (2), for a database that cannot be used as asked (3), or for
 *     a state file that does not fit (4);
 *   try(catch, f, ...) -> true, results ... | false, what catch made of the error. As xpcall, but
 *     what took too long counts as a failure like others, and the time starts again;
 *   rethrow(message, traceback): throws again what was caught;
 *   where(level) -> source, line, source as messages show it, of the function at that level of the
 *     stack; place(function) -> source, line of its definition; traceback(level): see
 *     script_push_traceback;
 *   explain(thrown) -> text, see explain.h;
 *   nearest(word, names) -> the name that was perhaps meant, or nil;
 *   size(text) -> bytes, for text such as "256M", or nil;
 *   expand(what, text) -> the text with what its variables stand for, see base/variable.h; in the
 *     sandbox as it is.
 * Time:
 *   now() -> seconds, by a clock that never goes back;
 *   sleep(seconds) -> true, or false if the program was asked to stop;
 *   nap(seconds): sleeps; a signal that the program handles ends it early;
 *   start_clock(): the time limit of a handler call starts again.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_HOST_H
#define API_HOST_H

#include <lua.h>

/* Adds these to the module on top of the stack. */
void api_host_export(lua_State *L);

#endif
