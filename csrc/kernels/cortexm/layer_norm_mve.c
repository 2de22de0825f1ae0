/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization with Helium: sums sixteen values at a time, outputs four.
 */
#include "../kernels.h"
#include "../layer_norm.h"
#include "mve.h"

typedef struct row_sums {
    int32_t values, squares;
} row_sums;

/* What the loop over a row's outputs keeps; the assembly loads it into core registers. */
typedef struct norm_row {
    const int8_t *x;
    int8_t *y;
    const float *gain, *offset;
    int32_t count, sum;
    float k;
    int32_t zero, lo, hi;
} norm_row;

void ek_mve_row_sums(const int8_t *x, int32_t count, row_sums *sums);
void ek_mve_layer_norm_outputs(const norm_row *row);

/* Of elements, and of their squares: below 2^31, see layer_norm.h. */
EK_ASM_FUNCTION("ek_mve_row_sums",
                "    push {r4, r5, r6, lr}\n"
                "    movs r4, #0\n"
                "    movs r6, #0\n"
                "    dlstp.8 lr, r1\n"
                "1:  vldrb.8 q0, [r0], #16\n"
                "    vaddva.s8 r4, q0\n"
                "    vmladava.s8 r6, q0, q0\n"
                "    letp lr, 1b\n"
                "    strd r4, r6, [r2]\n"
                "    pop {r4, r5, r6, pc}\n");

/* r1 x, r2 y, r3 gain, r4 offset, r5 count, r6 sum, r7 k, r8 zero point; q2 lo, q3 hi.
 * |count * x - sum| < 2^24: exact in binary32. */
EK_ASM_FUNCTION("ek_mve_layer_norm_outputs",
                "    push {r4-r10, lr}\n"
                "    ldm r0, {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10}\n"
                "    vdup.32 q2, r9\n"
                "    vdup.32 q3, r10\n"
                "    dlstp.32 lr, r5\n"
                "1:  vldrb.s32 q0, [r1], #4\n"
                "    vmul.i32 q0, q0, r5\n"
                "    vsub.i32 q0, q0, r6\n"
                "    vcvt.f32.s32 q0, q0\n"
                "    vmul.f32 q0, q0, r7\n"
                "    vldrw.32 q1, [r3], #16\n"
                "    vmul.f32 q0, q0, q1\n"
                "    vldrw.32 q1, [r4], #16\n"
                "    vadd.f32 q0, q0, q1\n"
                "    vcvtn.s32.f32 q0, q0\n"
                "    vqadd.s32 q0, q0, r8\n"
                "    vmax.s32 q0, q0, q2\n"
                "    vmin.s32 q0, q0, q3\n"
                "    vstrb.32 q0, [r2], #4\n"
                "    letp lr, 1b\n"
                "    pop {r4-r10, pc}\n");

void ek_layer_norm_mve(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_layer_norm_params *p = params;
    norm_row r = {.gain = p->gain,
                  .offset = p->offset,
                  .count = p->c,
                  .zero = p->clamp.zero,
                  .lo = p->clamp.lo,
                  .hi = p->clamp.hi};
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        row_sums sums;
        r.x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        r.y = (int8_t *)out + (ptrdiff_t)row * p->c;
        ek_mve_row_sums(r.x, p->c, &sums);
        r.sum = sums.values;
        r.k = ek_inverse_deviation(p->c, sums.values, sums.squares, p->epsilon);
        ek_mve_layer_norm_outputs(&r);
    }
}
