/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations, up to four rows of a by eight columns: rows of a, less their zero
 * point, are widened into scratch once; b is widened as it is read. Factors lie in [-255, 255], so
 * that products need 18 bits and 32-bit sums wrap as the scalar kernel's do.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "neon.h"
#include "requant_neon.h"

#define ROWS 4
#define LANES 8

typedef ek_requant_neon requant;

/* ROWS rows of a side by side: [k][ROWS]; missing ones are zero. */
static void widen_rows(const ek_matmul_params *p, const int8_t *a, int32_t rows, int16_t *to)
{
    memset(to, 0, (size_t)p->k * ROWS * sizeof *to);
    for (int32_t i = 0; i < rows; i++)
        for (int32_t k = 0; k < p->k; k++)
            to[k * ROWS + i] = (int16_t)(a[(ptrdiff_t)i * p->k + k] - p->a_zero);
}

INLINE int8x8_t load_some(const int8_t *x, int32_t count)
{
    int8_t buffer[LANES] = {0};
    if (count >= LANES)
        return vld1_s8(x);
    memcpy(buffer, x, (size_t)count);
    return vld1_s8(buffer);
}

INLINE void store_some(int8_t *y, int8x8_t v, int32_t count)
{
    int8_t buffer[LANES];
    if (count >= LANES) {
        vst1_s8(y, v);
    } else {
        vst1_s8(buffer, v);
        memcpy(y, buffer, (size_t)count);
    }
}

typedef struct pair {
    int32x4_t low, high;
} pair;

INLINE pair multiply_add(pair s, int16x8_t b, int16x4_t a, const int lane)
{
    const int16x4_t all = lane == 0 ? vdup_lane_s16(a, 0)
        : lane == 1                 ? vdup_lane_s16(a, 1)
        : lane == 2                 ? vdup_lane_s16(a, 2)
                                    : vdup_lane_s16(a, 3);
    s.low = vmlal_s16(s.low, vget_low_s16(b), all);
    s.high = vmlal_s16(s.high, vget_high_s16(b), all);
    return s;
}

/* Up to LANES columns of `rows` rows. */
INLINE void block(const ek_matmul_params *p, const requant *r, const int16_t *a, const int8_t *b,
                  int32_t rows, int32_t count, int8_t *y)
{
    const int8x8_t zero = vdup_n_s8((int8_t)p->b_zero);
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    const pair none = {vdupq_n_s32(0), vdupq_n_s32(0)};
    pair s[ROWS] = {none, none, none, none};
    for (int32_t k = 0; k < p->k; k++, a += ROWS, b += p->n) {
        const int16x8_t v = vsubl_s8(load_some(b, count), zero);
        const int16x4_t x = vld1_s16(a);
        s[0] = multiply_add(s[0], v, x, 0);
        s[1] = multiply_add(s[1], v, x, 1);
        s[2] = multiply_add(s[2], v, x, 2);
        s[3] = multiply_add(s[3], v, x, 3);
    }
    for (int32_t i = 0; i < rows; i++)
        store_some(y + (ptrdiff_t)i * p->n, ek_requantize8_neon(s[i].low, s[i].high, m, m, r),
                   count);
}

/* Its rows of b are steps through k. */
int ek_matmul_neon_supports(const void *params)
{
    const ek_matmul_params *p = params;
    return !p->b_transposed;
}

size_t ek_matmul_neon_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    return (size_t)p->k * ROWS * sizeof(int16_t);
}

void ek_matmul_neon(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_matmul_params *p = params;
    const requant r = ek_requant_neon_init(&p->clamp);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int32_t batch = row / p->m, m = row % p->m;
        const int8_t *a = (const int8_t *)in[0] + (ptrdiff_t)batch * p->a_batch_stride
            + (ptrdiff_t)m * p->k;
        const int8_t *b = (const int8_t *)in[1] + (ptrdiff_t)batch * p->b_batch_stride;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n;
        rows = ek_min(ek_min(range->row_end - row, p->m - m), ROWS);
        widen_rows(p, a, rows, scratch);
        int32_t n = range->ch;
        for (; n + LANES <= range->ch_end; n += LANES)
            block(p, &r, scratch, b + n, rows, LANES, y + n);
        if (n < range->ch_end)
            block(p, &r, scratch, b + n, rows, range->ch_end - n, y + n);
    }
}
