/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations, up to four rows of a by eight columns: rows of a, less their zero
 * point, are widened into scratch once; b is widened as it is read. Factors lie in [-255, 255], so
 * that products need 18 bits and 32-bit sums wrap as the scalar kernel's do. Where b is transposed
 * both factors lie along k, and lanes are steps of it: one row by eight columns, summed at the end.
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

/* Up to LANES columns of `rows` rows, side by side in a. */
static void plain_rows(const ek_matmul_params *p, const requant *r, const int16_t *a,
                       const int8_t *b, int32_t rows, int32_t columns, int8_t *y)
{
    int32_t n = 0;
    for (; n + LANES <= columns; n += LANES)
        block(p, r, a, b + n, rows, LANES, y + n);
    if (n < columns)
        block(p, r, a, b + n, rows, columns - n, y + n);
}

/* ---- b[n][k] --------------------------------------------------------------------------------- */

/* a - a_zero of one row, filled up to whole vectors with zero. */
static void widen_row(const ek_matmul_params *p, const int8_t *a, int16_t *to)
{
    int32_t k = 0;
    for (; k < p->k; k++)
        to[k] = (int16_t)(a[k] - p->a_zero);
    for (; k % LANES != 0; k++)
        to[k] = 0;
}

/* The four sums of four lanes each. */
INLINE int32x4_t sum_lanes(const int32x4_t s[4])
{
    int32x2_t half[4];
    for (int i = 0; i < 4; i++)
        half[i] = vadd_s32(vget_low_s32(s[i]), vget_high_s32(s[i]));
    return vcombine_s32(vpadd_s32(half[0], half[1]), vpadd_s32(half[2], half[3]));
}

/* The products of a row with four rows of b, those from `last` on being the same. */
INLINE int32x4_t four_columns(const ek_matmul_params *p, const int16_t *a, const int8_t *b,
                              int32_t last)
{
    const int8x8_t zero = vdup_n_s8((int8_t)p->b_zero);
    const int32x4_t none = vdupq_n_s32(0);
    const int8_t *column[4];
    int32x4_t s[4] = {none, none, none, none};
    for (int i = 0; i < 4; i++)
        column[i] = b + (ptrdiff_t)ek_min(i, last) * p->k;
    for (int32_t k = 0; k < p->k; k += LANES) {
        const int16x8_t x = vld1q_s16(a + k);
        for (int i = 0; i < 4; i++) {
            const int16x8_t v = vsubl_s8(load_some(column[i] + k, p->k - k), zero);
            s[i] = vmlal_s16(s[i], vget_low_s16(x), vget_low_s16(v));
            s[i] = vmlal_s16(s[i], vget_high_s16(x), vget_high_s16(v));
        }
    }
    return sum_lanes(s);
}

static void transposed_row(const ek_matmul_params *p, const requant *r, const int16_t *a,
                           const int8_t *b, int32_t columns, int8_t *y)
{
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    for (int32_t n = 0; n < columns; n += LANES, b += LANES * (ptrdiff_t)p->k) {
        const int32_t count = ek_min(columns - n, LANES);
        const int8_t *second = b + (ptrdiff_t)ek_min(4, count - 1) * p->k;
        const int32x4_t low = four_columns(p, a, b, count - 1);
        const int32x4_t high = four_columns(p, a, second, ek_max(count - 5, 0));
        store_some(y + n, ek_requantize8_neon(low, high, m, m, r), count);
    }
}

/* ---------------------------------------------------------------------------------------------- */

size_t ek_matmul_neon_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    return ((size_t)p->k * ROWS + LANES) * sizeof(int16_t);
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
        const int32_t columns = range->ch_end - range->ch;
        if (p->b_transposed) {
            rows = 1;
            widen_row(p, a, scratch);
            transposed_row(p, &r, scratch, b + (ptrdiff_t)range->ch * p->k, columns, y + range->ch);
            continue;
        }
        rows = ek_min(ek_min(range->row_end - row, p->m - m), ROWS);
        widen_rows(p, a, rows, scratch);
        plain_rows(p, &r, scratch, b + range->ch, rows, columns, y + range->ch);
    }
}
