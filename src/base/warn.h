/* warn.h -- attributes of functions that make compilers warn.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WARN_H
#define WARN_H

/* The result must be used. */
#define WARN_UNUSED __attribute__((warn_unused_result))
/* Parameter <fmt> is a format as printf has it, for the parameters from <args> on. */
#define WARN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
