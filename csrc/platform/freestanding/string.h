/* SPDX-License-Identifier: Apache-2.0
 *
 * For compilers that bring no C library: what the runtime calls of it. The firmware that links the
 * runtime defines these three.
 */
#ifndef EK_FREESTANDING_STRING_H
#define EK_FREESTANDING_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);

#endif /* EK_FREESTANDING_STRING_H */
