/* SPDX-License-Identifier: Apache-2.0
 *
 * What driver.c needs of the machine it runs on.
 */
#ifndef EK_TEST_DRIVER_H
#define EK_TEST_DRIVER_H

#include <stddef.h>

/* Whether all of `bytes` could be read or written. */
int read_exact(void *data, size_t bytes);
int write_all(const void *data, size_t bytes);

/* Bytes of a guard between two buffers, a power of two of at least 64; guards are aligned to it. */
size_t guard_bytes(void);

/* Where memory can be protected: any access to the guard is a fault while it is closed. */
void set_guard(void *guard, int closed);

/* Serves requests until the stream ends; 0 if it ended where it may. */
int serve(void);

#endif /* EK_TEST_DRIVER_H */
