/* SPDX-License-Identifier: Apache-2.0
 *
 * How threads wait for each other: awake for some time, then asleep. To wake a sleeper takes its
 * waker some microseconds and itself some tens; one that waits awake has news within a fraction of
 * one.
 */
#ifndef EK_WAITING_H
#define EK_WAITING_H

#include <sched.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

/* Microseconds that a thread waits awake: longer than what lies between two loops of a model, and
 * between two runs of one that is run again and again. */
#define AWAKE_US 100

/* Rounds of waiting, of some tens of nanoseconds, between two looks at the clock. */
#define SPIN_ROUNDS 64

#define CACHE_LINE 64

static inline int64_t microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

/* Whether there was news in time. */
static inline int wait_awake(int (*has_news)(void *context), void *context)
{
    const int64_t end = microseconds() + AWAKE_US;
    do {
        for (int round = 0; round < SPIN_ROUNDS; round++) {
            if (has_news(context))
                return 1;
            pause_briefly();
        }
        sched_yield(); /* who brings the news may wait for this processor */
    } while (microseconds() < end);
    return 0;
}

/* Whether so many threads can run at the same time, as far as the system says. */
static inline int have_processors(uint32_t threads)
{
#ifdef _SC_NPROCESSORS_ONLN
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 || threads <= (unsigned long)processors;
#else
    (void)threads;
    return 1;
#endif
}

/* The next multiple of CACHE_LINE, by hand, as not every system has aligned_alloc. */
static inline void *line_start(uint8_t *memory)
{
    return memory + (CACHE_LINE - (uintptr_t)memory % CACHE_LINE) % CACHE_LINE;
}

#endif /* EK_WAITING_H */
