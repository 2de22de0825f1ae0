/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations with Helium, two rows of a by three columns, sixteen steps of k at a
 * time. Both are taken as they lie:
 *
 *     sum((a - za) * (b - zb)) = sum(a * b) - zb * sum(a) - za * sum(b) + k * za * zb
 *
 * where the second term belongs to a row and the last two to a column. A b[n][k] is read in place,
 * a b[k][n] is transposed, a panel of columns at a time and once for all rows. Columns' terms are
 * computed once, those of rows again for each panel. Sums wrap.
 */
#include <string.h>

#include "../kernels.h"
#include "../product.h"
#include "mve.h"

#define COLUMNS 3
#define LANES 4
#define MAX_COLUMNS 63        /* of a panel: a multiple of COLUMNS */
#define PANEL_BYTES (4 << 10) /* of transposed columns */

/* Products of two rows with `blocks` blocks of columns, 1 or more; the assembly overwrites what is
 * marked. */
typedef struct product_job {
    const int8_t *a0, *a1;
    const int8_t *b; /* marked: [COLUMNS * blocks][k] */
    int32_t k;
    int32_t *sums0, *sums1; /* marked: [COLUMNS * blocks] */
    int32_t blocks;         /* marked */
} product_job;

/* Outputs from the sums of a row; the assembly loads it into core registers. */
typedef struct output_job {
    const int32_t *sums, *start;
    int8_t *y;
    int32_t term;
    float multiplier;
    int32_t zero, lo, hi, count;
} output_job;

void ek_mve_multiply(product_job *job);
void ek_mve_product_outputs(const output_job *job);
int32_t ek_mve_sum(const int8_t *x, int32_t count);

/* r11 the job; r1, r3 rows; r5, r7, r9 columns; r0, r2, r4 and r6, r8, r10 the rows' sums. */
EK_ASM_FUNCTION("ek_mve_multiply",
                "    push {r4-r11, lr}\n"
                "    mov r11, r0\n"
                "2:  ldrd r1, r3, [r11]\n"
                "    ldrd r5, r12, [r11, #8]\n"
                "    adds r7, r5, r12\n"
                "    add r9, r7, r12\n"
                "    add r0, r9, r12\n"
                "    str r0, [r11, #8]\n"
                "    movs r0, #0\n"
                "    movs r2, #0\n"
                "    movs r4, #0\n"
                "    movs r6, #0\n"
                "    mov r8, r0\n"
                "    mov r10, r0\n"
                "    dlstp.8 lr, r12\n"
                "1:  vldrb.8 q0, [r1], #16\n"
                "    vldrb.8 q2, [r5], #16\n"
                "    vldrb.8 q1, [r3], #16\n"
                "    vmladava.s8 r0, q0, q2\n"
                "    vldrb.8 q3, [r7], #16\n"
                "    vmladava.s8 r6, q1, q2\n"
                "    vldrb.8 q2, [r9], #16\n"
                "    vmladava.s8 r2, q0, q3\n"
                "    vmladava.s8 r8, q1, q3\n"
                "    vmladava.s8 r4, q0, q2\n"
                "    vmladava.s8 r10, q1, q2\n"
                "    letp lr, 1b\n"
                "    ldrd r1, r3, [r11, #16]\n"
                "    stm r1!, {r0, r2, r4}\n"
                "    stm r3!, {r6, r8, r10}\n"
                "    strd r1, r3, [r11, #16]\n"
                "    ldr r0, [r11, #24]\n"
                "    subs r0, #1\n"
                "    str r0, [r11, #24]\n"
                "    bne 2b\n"
                "    pop {r4-r11, pc}\n");

/* r1 sums, r2 start, r3 y, r4 the row's term, r5 multiplier, r6 zero point; q2 lo, q3 hi. */
EK_ASM_FUNCTION("ek_mve_product_outputs",
                "    push {r4-r9, lr}\n"
                "    ldm r0, {r1, r2, r3, r4, r5, r6, r7, r8, r9}\n"
                "    vdup.32 q2, r7\n"
                "    vdup.32 q3, r8\n"
                "    dlstp.32 lr, r9\n"
                "1:  vldrw.32 q0, [r1], #16\n"
                "    vldrw.32 q1, [r2], #16\n"
                "    vadd.i32 q0, q0, q1\n"
                "    vadd.i32 q0, q0, r4\n"
                "    vcvt.f32.s32 q0, q0\n"
                "    vmul.f32 q0, q0, r5\n"
                "    vcvtn.s32.f32 q0, q0\n"
                "    vqadd.s32 q0, q0, r6\n"
                "    vmax.s32 q0, q0, q2\n"
                "    vmin.s32 q0, q0, q3\n"
                "    vstrb.32 q0, [r3], #4\n"
                "    letp lr, 1b\n"
                "    pop {r4-r9, pc}\n");

/* Of `count` values, 1 or more. */
EK_ASM_FUNCTION("ek_mve_sum",
                "    push {r4, lr}\n"
                "    movs r4, #0\n"
                "    dlstp.8 lr, r1\n"
                "1:  vldrb.8 q0, [r0], #16\n"
                "    vaddva.s8 r4, q0\n"
                "    letp lr, 1b\n"
                "    mov r0, r4\n"
                "    pop {r4, pc}\n");

/* Some columns of b: [columns][k] as they lie, or where these are not as many as a block, in a copy
 * that has room for one. */
typedef struct panel {
    const int8_t *b;
    int32_t columns;
    int32_t *start;         /* what their sums begin with */
    int32_t *sums0, *sums1; /* of the products of two rows */
    int8_t *copy;
} panel;

static int32_t panel_columns(const ek_matmul_params *p)
{
    const int32_t fit = p->b_transposed ? MAX_COLUMNS : PANEL_BYTES / p->k;
    return ek_max(ek_min(ek_min(fit, MAX_COLUMNS), p->n), COLUMNS);
}

/* ---- Columns --------------------------------------------------------------------------------- */

/* Column `n` of b[k][n]. */
static void copy_column(const ek_matmul_params *p, const int8_t *b, int8_t *to)
{
    const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)p->n);
    const ptrdiff_t step = (ptrdiff_t)LANES * p->n;
    for (int32_t k = 0; k < p->k; k += LANES, b += step) {
        const mve_pred16_t lanes = vctp32q((uint32_t)(p->k - k));
        vstrbq_p_s32(to + k, vldrbq_gather_offset_z_s32(b, offsets, lanes), lanes);
    }
}

/* `columns` columns of b from the `first` on. */
static void begin_panel(const ek_matmul_params *p, const int8_t *b, int32_t first,
                        int32_t columns, panel *to)
{
    const uint32_t constant = (uint32_t)p->k * (uint32_t)(p->a_zero * p->b_zero);
    to->b = b + (ptrdiff_t)first * p->k;
    to->columns = columns;
    if (!p->b_transposed || columns < COLUMNS) {
        to->b = to->copy;
        for (int32_t n = 0; n < columns; n++) {
            int8_t *column = to->copy + (ptrdiff_t)n * p->k;
            if (p->b_transposed)
                memcpy(column, b + (ptrdiff_t)(first + n) * p->k, (size_t)p->k);
            else
                copy_column(p, b + first + n, column);
        }
    }
    for (int32_t n = 0; n < columns; n++) {
        const int32_t sum = ek_mve_sum(to->b + (ptrdiff_t)n * p->k, p->k);
        to->start[n] = (int32_t)(constant - (uint32_t)sum * (uint32_t)p->a_zero);
    }
}

/* ---- The product ----------------------------------------------------------------------------- */

/* The panel's columns of two rows. Less than a block at the end is one that reaches back. */
static void multiply(const ek_matmul_params *p, const int8_t *a0, const int8_t *a1,
                     const panel *columns)
{
    product_job job = {.a0 = a0, .a1 = a1, .b = columns->b, .k = p->k,
                       .sums0 = columns->sums0, .sums1 = columns->sums1};
    job.blocks = ek_max(columns->columns / COLUMNS, 1);
    ek_mve_multiply(&job);
    if (columns->columns > COLUMNS && columns->columns % COLUMNS != 0) {
        const int32_t n = columns->columns - COLUMNS;
        job.b = columns->b + (ptrdiff_t)n * p->k;
        job.sums0 = columns->sums0 + n;
        job.sums1 = columns->sums1 + n;
        job.blocks = 1;
        ek_mve_multiply(&job);
    }
}

static void store(const ek_matmul_params *p, const panel *columns, const int32_t *sums,
                  const int8_t *a, int8_t *y)
{
    const uint32_t sum = p->b_zero != 0 ? (uint32_t)ek_mve_sum(a, p->k) : 0;
    const output_job job = {.sums = sums,
                            .start = columns->start,
                            .y = y,
                            .term = (int32_t)(0u - sum * (uint32_t)p->b_zero),
                            .multiplier = p->multiplier,
                            .zero = p->clamp.zero,
                            .lo = p->clamp.lo,
                            .hi = p->clamp.hi,
                            .count = columns->columns};
    ek_mve_product_outputs(&job);
}

size_t ek_matmul_mve_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    const size_t copied = (size_t)(p->b_transposed ? COLUMNS : panel_columns(p)) * (size_t)p->k;
    return 3 * (size_t)panel_columns(p) * sizeof(int32_t) + copied;
}

void ek_matmul_mve(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_matmul_params *p = params;
    const int32_t at_once = panel_columns(p);
    panel columns = {.start = scratch};
    columns.sums0 = columns.start + at_once;
    columns.sums1 = columns.sums0 + at_once;
    columns.copy = (int8_t *)(columns.sums1 + at_once);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int8_t *a = ek_product_a(p, in[0], row), *b = ek_product_b(p, in[1], row);
        rows = ek_product_rows(p, range, row);
        for (int32_t n = range->ch; n < range->ch_end; n += columns.columns) {
            int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n + n;
            begin_panel(p, b, n, ek_min(range->ch_end - n, at_once), &columns);
            for (int32_t i = 0; i < rows; i += 2) {
                const int8_t *a0 = a + (ptrdiff_t)i * p->k, *a1 = i + 1 < rows ? a0 + p->k : a0;
                multiply(p, a0, a1, &columns);
                store(p, &columns, columns.sums0, a0, y + (ptrdiff_t)i * p->n);
                if (i + 1 < rows)
                    store(p, &columns, columns.sums1, a1, y + (ptrdiff_t)(i + 1) * p->n);
            }
        }
    }
}
