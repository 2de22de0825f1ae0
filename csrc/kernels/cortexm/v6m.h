/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernels for ARMv6-M share. That instruction set has eight registers for all but moves,
 * additions and comparisons, no multiply-accumulate and no load of a signed byte at a constant
 * offset.
 */
#ifndef EK_V6M_H
#define EK_V6M_H

#include "../requant_fixed.h"
#include "../window.h"
#include "assembly.h"

/* Four sums stand in r8 to r11. */
#define EK_V6M_ENTER         \
    "    push {r4-r7, lr}\n" \
    "    mov r4, r8\n"       \
    "    mov r5, r9\n"       \
    "    mov r6, r10\n"      \
    "    mov r7, r11\n"      \
    "    push {r4-r7}\n"

#define EK_V6M_LEAVE      \
    "    pop {r4-r7}\n"   \
    "    mov r8, r4\n"    \
    "    mov r9, r5\n"    \
    "    mov r10, r6\n"   \
    "    mov r11, r7\n"   \
    "    pop {r4-r7, pc}\n"

#endif /* EK_V6M_H */
