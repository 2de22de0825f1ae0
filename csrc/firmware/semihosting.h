/* SPDX-License-Identifier: Apache-2.0
 *
 * Files, text and exit through a debugger or emulator ("Semihosting for AArch32 and AArch64",
 * Arm): what bare-metal programs use to talk to the machine that runs them. Without a debugger
 * attached, real hardware stops at the first call.
 */
#ifndef EK_SEMIHOSTING_H
#define EK_SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

/* How a file is opened, by the numbers of C's fopen modes "rb" and "wb". */
enum { SEMI_READ = 1, SEMI_WRITE = 5 };

/* A handle, or -1. Paths are relative to the folder of the emulator. */
int32_t semi_open(const char *path, int32_t mode);

/* Whether all of `bytes` were read or written. */
int semi_read(int32_t handle, void *data, size_t bytes);
int semi_write(int32_t handle, const void *data, size_t bytes);

void semi_puts(const char *text);
void semi_number(uint32_t value);

_Noreturn void semi_exit(int code);

#endif /* EK_SEMIHOSTING_H */
