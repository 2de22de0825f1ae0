/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations, up to four rows of a by sixteen columns, eight on ARMv7: rows of a,
 * less their zero point, are widened into scratch once; b is widened as it is read. Factors lie in
 * [-255, 255], so that products need 18 bits and 32-bit sums wrap as the scalar kernel's do. Where
 * b is transposed both factors lie along k, and lanes are steps of it: up to four rows, two on
 * ARMv7, by four columns, whose lanes are summed at the end.
 */
#include <string.h>

#include "../kernels.h"
#include "../product.h"
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

/* s + b * a[lane], lane a constant. */
INLINE int32x4_t mlal_low_lane(int32x4_t s, int16x8_t b, int16x4_t a, const int lane)
{
    const int16x4_t low = vget_low_s16(b);
    return lane == 0 ? vmlal_lane_s16(s, low, a, 0)
        : lane == 1  ? vmlal_lane_s16(s, low, a, 1)
        : lane == 2  ? vmlal_lane_s16(s, low, a, 2)
                     : vmlal_lane_s16(s, low, a, 3);
}

INLINE int32x4_t mlal_high_lane(int32x4_t s, int16x8_t b, int16x4_t a, const int lane)
{
#ifdef __aarch64__
    return lane == 0 ? vmlal_high_lane_s16(s, b, a, 0)
        : lane == 1  ? vmlal_high_lane_s16(s, b, a, 1)
        : lane == 2  ? vmlal_high_lane_s16(s, b, a, 2)
                     : vmlal_high_lane_s16(s, b, a, 3);
#else
    const int16x4_t high = vget_high_s16(b);
    return mlal_low_lane(s, vcombine_s16(high, high), a, lane);
#endif
}

/* LANES columns less their zero point, or two times as many. */
typedef struct columns {
    int16x8_t v[2];
} columns;

INLINE columns load_columns(const int vectors, const int8_t *b, int8x16_t zero, int32_t count)
{
    if (vectors == 1) {
        const int16x8_t some = vsubl_s8(load_some(b, count), vget_low_s8(zero));
        return (columns){{some, some}};
    }
    const int8x16_t all = vld1q_s8(b);
    return (columns){{vsubl_s8(vget_low_s8(all), vget_low_s8(zero)), subl_high(all, zero)}};
}

/* Sums of a row, LANES for each vector of columns. */
typedef struct row_sums {
    int32x4_t v[4];
} row_sums;

/* `rows` rows by `vectors` vectors of columns, a constant: 2, or 1 for up to LANES columns. */
INLINE void block(const int vectors, const ek_matmul_params *p, const requant *r,
                  const int16_t *a, const int8_t *b, int32_t rows, int32_t count, int8_t *y)
{
    const int8x16_t zero = vdupq_n_s8((int8_t)p->b_zero);
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    const int32x4_t none = vdupq_n_s32(0);
    row_sums s[ROWS];
    UNROLL for (int i = 0; i < ROWS; i++) s[i] = (row_sums){{none, none, none, none}};
    for (int32_t k = p->k; k > 0; k--, a += ROWS, b += p->n) {
        const columns c = load_columns(vectors, b, zero, count);
        const int16x4_t x = vld1_s16(a);
        UNROLL for (int j = 0; j < vectors; j++) UNROLL for (int i = 0; i < ROWS; i++) {
            s[i].v[2 * j] = mlal_low_lane(s[i].v[2 * j], c.v[j], x, i);
            s[i].v[2 * j + 1] = mlal_high_lane(s[i].v[2 * j + 1], c.v[j], x, i);
        }
    }
    UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < vectors; j++) {
        const int8x8_t v = ek_requantize8_neon(s[i].v[2 * j], s[i].v[2 * j + 1], m, m, r);
        if (i < rows)
            store_some(y + i * (ptrdiff_t)p->n + LANES * j, v, count);
    }
}

/* All columns of `rows` rows, side by side in a. ARMv7 has registers for one vector of columns. */
static void plain_rows(const ek_matmul_params *p, const requant *r, const int16_t *a,
                       const int8_t *b, int32_t rows, int32_t columns, int8_t *y)
{
    int32_t n = 0;
#ifdef __aarch64__
    for (; n + 2 * LANES <= columns; n += 2 * LANES)
        block(2, p, r, a, b + n, rows, 2 * LANES, y + n);
#endif
    for (; n + LANES <= columns; n += LANES)
        block(1, p, r, a, b + n, rows, LANES, y + n);
    if (n < columns)
        block(1, p, r, a, b + n, rows, columns - n, y + n);
}

/* ---- b[n][k] --------------------------------------------------------------------------------- */

#define COLUMNS 4
#ifdef __aarch64__
#define COLUMN_ROWS 4
#else
#define COLUMN_ROWS 2
#endif

/* What a row takes in scratch. */
static int32_t row_steps(const ek_matmul_params *p)
{
    return ek_ceil_div(p->k, LANES) * LANES;
}

/* a - a_zero of one row, filled up to whole vectors with zeros. */
static void widen_row(const ek_matmul_params *p, const int8_t *a, int16_t *to)
{
    const int8x8_t zero = vdup_n_s8((int8_t)p->a_zero);
    for (int32_t k = 0; k < p->k; k += LANES)
        vst1q_s16(to + k, vsubl_s8(load_some(a + k, p->k - k), zero));
    memset(to + p->k, 0, (size_t)(row_steps(p) - p->k) * sizeof *to);
}

/* The four sums of four lanes each. */
INLINE int32x4_t sum_lanes(const int32x4_t s[4])
{
#ifdef __aarch64__
    return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
#else
    int32x2_t half[4];
    for (int i = 0; i < 4; i++)
        half[i] = vadd_s32(vget_low_s32(s[i]), vget_high_s32(s[i]));
    return vcombine_s32(vpadd_s32(half[0], half[1]), vpadd_s32(half[2], half[3]));
#endif
}

/* Rows of a as widen_row leaves them, and pointers to COLUMNS columns. */
typedef struct factors {
    const int16_t *a;
    ptrdiff_t a_step;
    const int8_t *column[COLUMNS];
} factors;

/* Eight steps of `rows` rows, a constant, by COLUMNS columns. */
INLINE void add_steps(const int rows, int32x4_t s[COLUMN_ROWS][COLUMNS], const factors *f,
                      int32_t k, const int8x8_t b[COLUMNS], int8x8_t zero)
{
    int16x8_t a[COLUMN_ROWS];
    UNROLL for (int i = 0; i < rows; i++) a[i] = vld1q_s16(f->a + i * f->a_step + k);
    UNROLL for (int j = 0; j < COLUMNS; j++) {
        const int16x8_t v = vsubl_s8(b[j], zero);
        UNROLL for (int i = 0; i < rows; i++) {
            s[i][j] = vmlal_s16(s[i][j], vget_low_s16(a[i]), vget_low_s16(v));
            s[i][j] = mlal_high16(s[i][j], a[i], v);
        }
    }
}

/* Outputs of `count` columns, four at most. */
INLINE void store_columns(int8_t *y, uint32_t four, int32_t count)
{
    if (count >= COLUMNS)
        memcpy(y, &four, COLUMNS);
    else
        memcpy(y, &four, (size_t)count);
}

/* Outputs of two rows, or with `rows` 1 of the first one. */
INLINE void store_rows(const int rows, const ek_matmul_params *p, const requant *r, int32x4_t a,
                       int32x4_t b, int32_t count, int8_t *y)
{
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    const uint32x2_t v = vreinterpret_u32_s8(ek_requantize8_neon(a, b, m, m, r));
    store_columns(y, vget_lane_u32(v, 0), count);
    if (rows > 1)
        store_columns(y + p->n, vget_lane_u32(v, 1), count);
}

/* `rows` rows, a constant, by `count` columns, up to COLUMNS. */
INLINE void column_block(const int rows, const ek_matmul_params *p, const requant *r,
                         const int16_t *a, const int8_t *b, int32_t count, int8_t *y)
{
    const int8x8_t zero = vdup_n_s8((int8_t)p->b_zero);
    const int32_t whole = p->k / LANES * LANES;
    factors f = {.a = a, .a_step = row_steps(p)};
    int32x4_t s[COLUMN_ROWS][COLUMNS];
    int8x8_t v[COLUMNS];
    UNROLL for (int j = 0; j < COLUMNS; j++) {
        f.column[j] = b + (ptrdiff_t)ek_min(j, count - 1) * p->k;
        UNROLL for (int i = 0; i < rows; i++) s[i][j] = vdupq_n_s32(0);
    }
    for (int32_t k = 0; k < whole; k += LANES) {
        UNROLL for (int j = 0; j < COLUMNS; j++) v[j] = vld1_s8(f.column[j] + k);
        add_steps(rows, s, &f, k, v, zero);
    }
    if (whole < p->k) {
        UNROLL for (int j = 0; j < COLUMNS; j++)
            v[j] = load_some(f.column[j] + whole, p->k - whole);
        add_steps(rows, s, &f, whole, v, zero);
    }
    UNROLL for (int i = 0; i < rows; i += 2)
        store_rows(rows, p, r, sum_lanes(s[i]), sum_lanes(s[ek_min(i + 1, rows - 1)]), count,
                   y + i * (ptrdiff_t)p->n);
}

/* Kept out of line: in a larger function the registers do not suffice. */
static __attribute__((noinline)) void column_rows(const ek_matmul_params *p, const requant *r,
                                                  const int16_t *a, const int8_t *b,
                                                  int32_t columns, int8_t *y)
{
    for (int32_t n = 0; n < columns; n += COLUMNS)
        column_block(COLUMN_ROWS, p, r, a, b + n * (ptrdiff_t)p->k, columns - n, y + n);
}

static __attribute__((noinline)) void column_row(const ek_matmul_params *p, const requant *r,
                                                 const int16_t *a, const int8_t *b,
                                                 int32_t columns, int8_t *y)
{
    for (int32_t n = 0; n < columns; n += COLUMNS)
        column_block(1, p, r, a, b + n * (ptrdiff_t)p->k, columns - n, y + n);
}

/* `columns` columns of COLUMN_ROWS rows, or of one where there are fewer. How many it has done. */
static int32_t transposed_rows(const ek_matmul_params *p, const requant *r, const int8_t *a,
                               const int8_t *b, int32_t rows, int32_t columns, int16_t *scratch,
                               int8_t *y)
{
    const int32_t count = rows >= COLUMN_ROWS ? COLUMN_ROWS : 1;
    for (int32_t i = 0; i < count; i++)
        widen_row(p, a + i * (ptrdiff_t)p->k, scratch + i * (ptrdiff_t)row_steps(p));
    if (count == COLUMN_ROWS)
        column_rows(p, r, scratch, b, columns, y);
    else
        column_row(p, r, scratch, b, columns, y);
    return count;
}

/* ---------------------------------------------------------------------------------------------- */

size_t ek_matmul_neon_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    return (size_t)row_steps(p) * ROWS * sizeof(int16_t);
}

void ek_matmul_neon(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_matmul_params *p = params;
    const requant r = ek_requant_neon_init(&p->clamp);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int8_t *a = ek_product_a(p, in[0], row), *b = ek_product_b(p, in[1], row);
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n + range->ch;
        const int32_t columns = range->ch_end - range->ch;
        rows = ek_min(ek_product_rows(p, range, row), ROWS);
        if (p->b_transposed) {
            rows = transposed_rows(p, &r, a, b + (ptrdiff_t)range->ch * p->k, rows, columns,
                                   scratch, y);
        } else {
            widen_rows(p, a, rows, scratch);
            plain_rows(p, &r, scratch, b + range->ch, rows, columns, y);
        }
    }
}
