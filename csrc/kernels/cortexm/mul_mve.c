/* SPDX-License-Identifier: Apache-2.0
 *
 * Multiplication with broadcasting with Helium, eight values at a time.
 */
#include "../kernels.h"
#include "elementwise_mve.h"

void ek_mve_mul(const int8_t *a, const int8_t *b, int8_t *y, const ek_mve_pair_job *job);

/* Factors are within 255, their product within 2^16: exact in binary32. */
EK_ASM_FUNCTION("ek_mve_mul",
                EK_MVE_PAIRS_BEGIN
                "    vmullt.s16 q2, q0, q1\n"
                "    vmullb.s16 q0, q0, q1\n"
                "    vcvt.f32.s32 q0, q0\n"
                "    vcvt.f32.s32 q2, q2\n"
                "    vmul.f32 q0, q0, r7\n"
                "    vmul.f32 q2, q2, r7\n"
                EK_MVE_PAIRS_END);

void ek_mul_mve(const void *params, const void *const in[], void *out, void *scratch,
                const ek_range *range)
{
    const ek_mul_params *p = params;
    ek_mve_pair_job job = {.a_zero = p->a_zero,
                           .b_zero = p->b_zero,
                           .a_multiplier = p->multiplier,
                           .zero = p->clamp.zero,
                           .lo = p->clamp.lo,
                           .hi = p->clamp.hi};
    (void)scratch;
    ek_mve_elementwise(&p->shape, in, out, range, ek_mve_mul, &job);
}
