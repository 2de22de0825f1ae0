/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.c on a POSIX system: standard input and output, and guard pages.
 */
#define _GNU_SOURCE
#include "driver.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int read_exact(void *data, size_t bytes)
{
    char *to = data;
    while (bytes > 0) {
        const ssize_t got = read(STDIN_FILENO, to, bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        to += got;
        bytes -= (size_t)got;
    }
    return 1;
}

int write_all(const void *data, size_t bytes)
{
    const char *from = data;
    while (bytes > 0) {
        const ssize_t put = write(STDOUT_FILENO, from, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return 0;
        from += put;
        bytes -= (size_t)put;
    }
    return 1;
}

size_t guard_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void set_guard(void *guard, int closed)
{
    if (mprotect(guard, guard_bytes(), closed ? PROT_NONE : PROT_READ | PROT_WRITE) != 0)
        abort();
}

int main(void)
{
    return serve();
}
