/* SPDX-License-Identifier: Apache-2.0
 *
 * A small pool of threads, for ek_config.parallel_for, and a pipeline for streams of inputs. Stands
 * outside the core and uses malloc and POSIX threads; any other parallel loop does as well.
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

/* ---- Pipeline ----------------------------------------------------------------------------- */

/* Computes a stream of inputs in stages, each by a thread of its own, for throughput: while one
 * stage is at an input, the stage before is at the next. Results are the bits of ek_run, in order.
 *
 *     ek_config config = {.kernels = ek_cpu_kernels(), .threads = 1};  // of all six instances
 *     const uint32_t cuts[] = {0, 12, 20};                       // three stages begin there
 *     ek_status status = ek_pipeline_create(&pipeline, &model, instances, 6, cuts, 3);
 *     for (uint32_t in = 0, out = 0; out < total; out++) {
 *         for (; in < total && in - out < 6; in++) {
 *             fill(in % 6);                                      // the inputs of that instance
 *             ek_pipeline_push(pipeline);
 *         }
 *         status = ek_pipeline_pop(pipeline);
 *         use(out % 6);                                          // its outputs
 *     }
 *     ek_pipeline_destroy(pipeline);
 *
 * One thread at a time calls these functions. It is the last stage, so that as many threads as
 * stages are at work. */
typedef struct ek_pipeline ek_pipeline;

/* A pipeline over `count` instances of `model`, which take turns; as many inputs are in flight at
 * most, and two per stage keep all busy. They must be bound to buffers of their own and used by
 * nobody else meanwhile. Stage s computes the operators cuts[s] to cuts[s + 1] - 1, as ek_run_ops
 * does, and the last one all that are left; cuts[0] is 0, and cuts grow.
 *
 * Stages work on different instances at the same time. So each instance is created with one thread,
 * or with a pool of its own, and on_op is called from the stages' threads, for several instances at
 * once.
 *
 * EK_ERROR_ARGUMENT also if there is more than one instance of a model that keeps state between
 * runs, EK_ERROR_MEMORY if memory or threads run out; *pipeline is then null. */
EK_API ek_status ek_pipeline_create(ek_pipeline **pipeline, const ek_model *model,
                                    ek_instance *const *instances, uint32_t count,
                                    const uint32_t *cuts, uint32_t stages);

/* Ends the threads; null is fine. Outputs of inputs that are in flight are undefined. */
EK_API void ek_pipeline_destroy(ek_pipeline *pipeline);

/* Lets the next input in: the k-th push that of instance k % count, k from 0. Its buffers must not
 * be touched until it is popped. EK_ERROR_ARGUMENT if all instances are in flight. */
EK_API ek_status ek_pipeline_push(ek_pipeline *pipeline);

/* Waits for the oldest input in flight: the k-th pop for that of the k-th push. Returns what ek_run
 * would have; an error concerns this input alone. EK_ERROR_ARGUMENT also if none is in flight. */
EK_API ek_status ek_pipeline_pop(ek_pipeline *pipeline);

#ifdef __cplusplus
}
#endif
#endif /* EDGEKIT_THREADS_H */
