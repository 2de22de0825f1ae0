/* SPDX-License-Identifier: Apache-2.0
 *
 * Serves the protocol of protocol.h: ek_serve, and what the program around it gives.
 */
#ifndef EK_SERVE_H
#define EK_SERVE_H

#include "edgekit/edgekit.h"

/* Answers requests until the other side ends; returns the program's exit code. */
int ek_serve(void);

/* ---- What the program gives ------------------------------------------------------------------ */

/* Exactly `bytes`, or the program ends with EK_SERVE_BROKEN_PIPE. */
void serve_get(void *data, size_t bytes);
void serve_put(const void *data, size_t bytes);

/* What was put is on its way. */
void serve_flush(void);

/* Memory aligned to EK_ALIGN, kept until all of it is released, or the program ends with
 * EK_SERVE_TOO_LARGE. */
void *serve_allocate(size_t bytes);
void serve_release(void);

/* Kernel sets that this build and this processor have. */
ek_kernels serve_kernels(void);

/* Processors, and a parallel loop on `threads` of them, at least 2, which stays until
 * serve_release; 0 where there are no threads. */
uint32_t serve_processors(void);
int serve_threads(uint32_t threads, ek_config *config);

/* A file in memory of serve_allocate; null where it cannot be read, or there are no files. */
const void *serve_file(const char *path, size_t *bytes);

/* Nanoseconds since any moment; 0 where there is no clock. */
uint64_t serve_clock(void);

/* The most bytes of stack that were ever in use; 0 where that is not known. */
uint32_t serve_stack(void);

_Noreturn void serve_exit(int code);

#endif /* EK_SERVE_H */
