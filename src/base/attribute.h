/* attribute.h -- what compilers check of a function's callers.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ATTRIBUTE_H
#define ATTRIBUTE_H

#define WARN_UNUSED __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
