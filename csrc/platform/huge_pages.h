/* SPDX-License-Identifier: Apache-2.0
 *
 * Large pages for large blocks: a network whose weights fill thousands of ordinary pages waits for
 * their addresses to be looked up. Where Linux leaves the choice to programs ("madvise"), it has to
 * be asked. Sources that include this in strict C define _DEFAULT_SOURCE.
 */
#ifndef EK_HUGE_PAGES_H
#define EK_HUGE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* What most processors have beside pages of 4 KiB. */
#define HUGE_PAGE ((uintptr_t)2 << 20)

/* Asks for the large pages that lie inside a block which nothing has touched yet, and for none
 * beyond it, so that the block takes no more memory. A system may refuse: that costs speed alone. */
static inline void use_huge_pages(void *memory, size_t bytes)
{
#if defined(MADV_HUGEPAGE)
    const uintptr_t first = ((uintptr_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    const uintptr_t end = ((uintptr_t)memory + bytes) & ~(HUGE_PAGE - 1);
    if (first < end)
        (void)madvise((uint8_t *)memory + (first - (uintptr_t)memory), end - first, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

#endif /* EK_HUGE_PAGES_H */
