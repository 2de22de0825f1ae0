/* SPDX-License-Identifier: Apache-2.0
 *
 * Processors without detection of their own run the scalar kernels.
 */
#include "edgekit/edgekit_cpu.h"

#if !defined(__x86_64__) && !defined(__i386__)

ek_kernels ek_cpu_kernels(void)
{
    return EK_KERNELS_SCALAR;
}

#endif
