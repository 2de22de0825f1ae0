/* SPDX-License-Identifier: Apache-2.0
 *
 * Semihosting calls of the M profile: BKPT 0xAB with the operation in r0 and its argument in r1.
 */
#include "semihosting.h"

#include <string.h>

enum {
    SYS_OPEN = 0x01,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
};

#define APPLICATION_EXIT 0x20026u

static int32_t call(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int32_t semi_open(const char *path, int32_t mode)
{
    const uint32_t block[3] = {(uint32_t)path, (uint32_t)mode, strlen(path)};
    return call(SYS_OPEN, block);
}

/* SYS_READ and SYS_WRITE return how many bytes are left; a pipe gives or takes fewer than it is
 * asked for. */
static int transfer(int32_t operation, int32_t handle, uintptr_t data, size_t bytes)
{
    while (bytes > 0) {
        const uint32_t block[3] = {(uint32_t)handle, data, bytes};
        const uint32_t left = (uint32_t)call(operation, block);
        if (left >= bytes)
            return 0;
        data += bytes - left;
        bytes = left;
    }
    return 1;
}

int semi_read(int32_t handle, void *data, size_t bytes)
{
    return transfer(SYS_READ, handle, (uintptr_t)data, bytes);
}

int semi_write(int32_t handle, const void *data, size_t bytes)
{
    return transfer(SYS_WRITE, handle, (uintptr_t)data, bytes);
}

void semi_puts(const char *text)
{
    call(SYS_WRITE0, text);
}

void semi_number(uint32_t value)
{
    char text[11]; /* ten digits of 2^32 - 1 */
    char *first = text + sizeof text;
    *--first = '\0';
    do
        *--first = (char)('0' + value % 10);
    while (value /= 10);
    semi_puts(first);
}

_Noreturn void semi_exit(int code)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;)
        call(SYS_EXIT_EXTENDED, block);
}
