/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Helium kernels share: functions of assembly, requantization, copies.
 */
#ifndef EK_MVE_H
#define EK_MVE_H

#include <arm_mve.h>

#include "../kernel.h"
#include "assembly.h"

/* sat(rne(v) + zero), clamped, as in requant.h but on integers: vcvtn rounds to nearest even and
 * saturates to int32, and the zero point, within int8, is added with saturation. */
static inline int32x4_t ek_mve_round(float32x4_t v, const ek_clamp *clamp)
{
    int32x4_t q = vqaddq_n_s32(vcvtnq_s32_f32(v), clamp->zero);
    q = vmaxq_s32(q, vdupq_n_s32(clamp->lo));
    return vminq_s32(q, vdupq_n_s32(clamp->hi));
}

static inline int32x4_t ek_mve_requantize(int32x4_t acc, float32x4_t multiplier,
                                          const ek_clamp *clamp)
{
    return ek_mve_round(vmulq_f32(vcvtq_f32_s32(acc), multiplier), clamp);
}

/* `count` bytes, 0 or more. */
static inline void ek_mve_fill(int8_t *to, int32_t value, int32_t count)
{
    __asm__ volatile("vdup.8 q0, %2\n\t"
                     "wlstp.8 lr, %1, 2f\n"
                     "1:\n\t"
                     "vstrb.8 q0, [%0], #16\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : "+l"(to)
                     : "r"(count), "r"(value)
                     : "q0", "lr", "memory");
}

#endif /* EK_MVE_H */
