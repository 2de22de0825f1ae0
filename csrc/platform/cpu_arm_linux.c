/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel sets of an ARM processor under Linux: the kernel's hardware capabilities (the bits are its ABI,
 * arch/arm64/include/uapi/asm/hwcap.h and arch/arm/include/uapi/asm/hwcap.h; older C libraries lack some).
 */
#include "edgekit/edgekit_cpu.h"

#if defined(__linux__) && (defined(__aarch64__) || defined(__arm__))

#include <sys/auxv.h>

#if defined(__aarch64__)

#define ASIMD (1ul << 1)    /* AT_HWCAP */
#define ASIMDDP (1ul << 20)
#define I8MM (1ul << 13)    /* AT_HWCAP2 */

ek_kernels ek_cpu_kernels(void)
{
    const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
    ek_kernels kernels = EK_KERNELS_SCALAR;
    if ((hwcap & ASIMD) == 0)
        return kernels;
    kernels |= EK_KERNELS_NEON;
    if ((hwcap & ASIMDDP) == 0)
        return kernels;
    kernels |= EK_KERNELS_NEON_DOTPROD;
    if (hwcap2 & I8MM)
        kernels |= EK_KERNELS_NEON_I8MM;
    return kernels;
}

#else

#define NEON (1ul << 12) /* AT_HWCAP */

ek_kernels ek_cpu_kernels(void)
{
    return EK_KERNELS_SCALAR | (getauxval(AT_HWCAP) & NEON ? EK_KERNELS_NEON : 0);
}

#endif
#endif
