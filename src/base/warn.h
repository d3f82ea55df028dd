/* warn.h -- what compilers warn about.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WARN_H
#define WARN_H

#define WARN_UNUSED __attribute__((warn_unused_result))
#define WARN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
