/* SPDX-License-Identifier: Apache-2.0
 *
 * Processors without detection of their own run what their architecture always has.
 */
#include "edgekit/edgekit_cpu.h"

#if !defined(__x86_64__) && !defined(__i386__) && \
    !(defined(__linux__) && (defined(__aarch64__) || defined(__arm__)))

ek_kernels ek_cpu_kernels(void)
{
#if defined(__aarch64__)
    return EK_KERNELS_SCALAR | EK_KERNELS_NEON;
#else
    return EK_KERNELS_SCALAR;
#endif
}

#endif
