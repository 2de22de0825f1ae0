/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax with Helium: entries of the table are gathered four at a time, once for their sum and
 * once more for the outputs.
 */
#include "../kernels.h"
#include "mve.h"

/* What the loop over a row's outputs keeps; the assembly loads it into core registers. */
typedef struct softmax_row {
    const int8_t *x;
    int8_t *y;
    const uint32_t *table;
    int32_t max;
    float k;
    int32_t zero, lo, hi, count;
} softmax_row;

int32_t ek_mve_max(const int8_t *x, int32_t count);
uint32_t ek_mve_sum_entries(const int8_t *x, int32_t count, const uint32_t *table, int32_t max);
void ek_mve_softmax_outputs(const softmax_row *row);

/* The greatest of `count` values, 1 or more. */
EK_ASM_FUNCTION("ek_mve_max",
                "    push {r4, lr}\n"
                "    mvn r4, #127\n"
                "    dlstp.8 lr, r1\n"
                "1:  vldrb.8 q0, [r0], #16\n"
                "    vmaxv.s8 r4, q0\n"
                "    letp lr, 1b\n"
                "    sxtb r0, r4\n"
                "    pop {r4, pc}\n");

/* The sum of table[max - x[i]]. */
EK_ASM_FUNCTION("ek_mve_sum_entries",
                "    push {r4, lr}\n"
                "    vdup.32 q3, r3\n"
                "    movs r4, #0\n"
                "    dlstp.32 lr, r1\n"
                "1:  vldrb.s32 q0, [r0], #4\n"
                "    vsub.i32 q0, q3, q0\n"
                "    vldrw.u32 q1, [r2, q0, uxtw #2]\n"
                "    vaddva.u32 r4, q1\n"
                "    letp lr, 1b\n"
                "    mov r0, r4\n"
                "    pop {r4, pc}\n");

/* r1 x, r2 y, r3 table, r5 k, r6 zero point; q3 max, q4 lo, q5 hi. */
EK_ASM_FUNCTION("ek_mve_softmax_outputs",
                "    push {r4-r9, lr}\n"
                "    vpush {d8-d11}\n"
                "    ldm r0, {r1, r2, r3, r4, r5, r6, r7, r8, r9}\n"
                "    vdup.32 q3, r4\n"
                "    vdup.32 q4, r7\n"
                "    vdup.32 q5, r8\n"
                "    dlstp.32 lr, r9\n"
                "1:  vldrb.s32 q0, [r1], #4\n"
                "    vsub.i32 q0, q3, q0\n"
                "    vldrw.u32 q1, [r3, q0, uxtw #2]\n"
                "    vcvt.f32.u32 q1, q1\n"
                "    vmul.f32 q1, q1, r5\n"
                "    vcvtn.s32.f32 q1, q1\n"
                "    vqadd.s32 q1, q1, r6\n"
                "    vmax.s32 q1, q1, q4\n"
                "    vmin.s32 q1, q1, q5\n"
                "    vstrb.32 q1, [r2], #4\n"
                "    letp lr, 1b\n"
                "    vpop {d8-d11}\n"
                "    pop {r4-r9, pc}\n");

void ek_softmax_mve(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_softmax_params *p = params;
    softmax_row r = {.table = p->table,
                     .zero = p->clamp.zero,
                     .lo = p->clamp.lo,
                     .hi = p->clamp.hi,
                     .count = p->c};
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        r.x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        r.y = (int8_t *)out + (ptrdiff_t)row * p->c;
        r.max = ek_mve_max(r.x, p->c);
        r.k = p->inverse_scale / (float)ek_mve_sum_entries(r.x, p->c, p->table, r.max);
        ek_mve_softmax_outputs(&r);
    }
}
