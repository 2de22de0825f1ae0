/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EK_START_H
#define EK_START_H

#include <stdint.h>

/* The most bytes of the stack that were ever in use. */
uint32_t stack_used(void);

#endif /* EK_START_H */
