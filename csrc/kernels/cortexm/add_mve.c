/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with broadcasting with Helium, eight values at a time.
 */
#include "../kernels.h"
#include "elementwise_mve.h"

void ek_mve_add(const int8_t *a, const int8_t *b, int8_t *y, const ek_mve_pair_job *job);

/* Two products, each rounded, and their sum: no multiply-add. */
EK_ASM_FUNCTION("ek_mve_add",
                EK_MVE_PAIRS_BEGIN
                "    vmovlt.s16 q2, q0\n"
                "    vmovlb.s16 q0, q0\n"
                "    vmovlt.s16 q3, q1\n"
                "    vmovlb.s16 q1, q1\n"
                "    vcvt.f32.s32 q0, q0\n"
                "    vcvt.f32.s32 q2, q2\n"
                "    vcvt.f32.s32 q1, q1\n"
                "    vcvt.f32.s32 q3, q3\n"
                "    vmul.f32 q0, q0, r7\n"
                "    vmul.f32 q2, q2, r7\n"
                "    vmul.f32 q1, q1, r8\n"
                "    vmul.f32 q3, q3, r8\n"
                "    vadd.f32 q0, q0, q1\n"
                "    vadd.f32 q2, q2, q3\n"
                EK_MVE_PAIRS_END);

void ek_add_mve(const void *params, const void *const in[], void *out, void *scratch,
                const ek_range *range)
{
    const ek_add_params *p = params;
    ek_mve_pair_job job = {.a_zero = p->a_zero,
                           .b_zero = p->b_zero,
                           .a_multiplier = p->a_multiplier,
                           .b_multiplier = p->b_multiplier,
                           .zero = p->clamp.zero,
                           .lo = p->clamp.lo,
                           .hi = p->clamp.hi};
    (void)scratch;
    ek_mve_elementwise(&p->shape, in, out, range, ek_mve_add, &job);
}
