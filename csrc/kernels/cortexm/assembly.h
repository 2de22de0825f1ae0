/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions of assembly, for loops that hold more sums than compilers keep in registers: of an M0's
 * eight low registers, of the even ones that Helium's vmladav adds to.
 */
#ifndef EK_ASSEMBLY_H
#define EK_ASSEMBLY_H

/* EK_ASM_FUNCTION("name", BODY) defines a function that C declares. */
#define EK_ASM_FUNCTION(name, body)                            \
    __asm__("    .syntax unified\n"                            \
            "    .thumb\n"                                     \
            "    .section .text." name ", \"ax\", %progbits\n" \
            "    .align 2\n"                                   \
            "    .global " name "\n"                           \
            "    .hidden " name "\n"                           \
            "    .thumb_func\n"                                \
            "    .type " name ", %function\n" name ":\n" body  \
            "    .size " name ", . - " name "\n"               \
            "    .text\n")

#endif /* EK_ASSEMBLY_H */
