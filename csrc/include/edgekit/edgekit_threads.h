/* SPDX-License-Identifier: Apache-2.0
 *
 * A small pool of threads, for ek_config.parallel_for. Stands outside the core and uses malloc and
 * POSIX threads; any other parallel loop does as well.
 *
 *     ek_threads *threads = ek_threads_create(4);
 *     ek_config config = {.kernels = ek_cpu_kernels(), .threads = 4,
 *                         .parallel_for = ek_threads_parallel_for, .parallel_context = threads};
 *     ...
 *     ek_threads_destroy(threads);
 */
#ifndef EDGEKIT_THREADS_H
#define EDGEKIT_THREADS_H

#include "edgekit.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ek_threads ek_threads;

/* A pool of `threads` (at least 1), of which the caller of ek_threads_parallel_for is one. Null if
 * memory or threads run out. */
EK_API ek_threads *ek_threads_create(uint32_t threads);

/* Ends the threads; null is fine. No loop may be running. */
EK_API void ek_threads_destroy(ek_threads *threads);

/* An ek_parallel_for whose context is the pool. One caller at a time: an instance, or several that
 * take turns. Idle threads spin for 100 microseconds, unless there are more of them than processors,
 * then sleep; loops that are over before a sleeper could help wake none. */
EK_API void ek_threads_parallel_for(void *pool, ek_task task, void *argument, uint32_t count);

#ifdef __cplusplus
}
#endif
#endif /* EDGEKIT_THREADS_H */
