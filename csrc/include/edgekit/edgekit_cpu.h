/* SPDX-License-Identifier: Apache-2.0
 *
 * What the processor can do, for ek_config.kernels. Stands outside the core: a build for a
 * microcontroller knows its kernels and leaves it out.
 */
#ifndef EDGEKIT_CPU_H
#define EDGEKIT_CPU_H

#include "edgekit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The kernel sets that this processor can run and whose registers its operating system saves,
 * whether or not this build contains them. Always holds EK_KERNELS_SCALAR. */
EK_API ek_kernels ek_cpu_kernels(void);

#ifdef __cplusplus
}
#endif
#endif /* EDGEKIT_CPU_H */
