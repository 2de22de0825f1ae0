/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization, sixteen values at a time. A row's last block reaches back into the one
 * before it.
 */
#include "../kernels.h"
#include "../layer_norm.h"
#include "blocks_neon.h"

/* Where vectors begin that keep their last 0 to 15 bytes. */
static const int8_t keep[2 * BLOCK] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                       0,  0,  0,  0,  0,  -1, -1, -1, -1, -1, -1,
                                       -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

/* Of elements, and of their squares. */
typedef struct row_sums {
    int32x4_t values, squares;
} row_sums;

/* A square is 2^14 at most: two of them do not fit 16 bits. */
INLINE row_sums add_to_sums(row_sums s, int8x16_t x)
{
    s.values = vpadalq_s16(s.values, vpaddlq_s8(x));
    s.squares = vpadalq_s16(s.squares, mull_low(x, x));
    s.squares = vpadalq_s16(s.squares, mull_high(x, x));
    return s;
}

INLINE int32_t sum_of(int32x4_t v)
{
    const int32x2_t half = vadd_s32(vget_low_s32(v), vget_high_s32(v));
    return vget_lane_s32(vpadd_s32(half, half), 0);
}

static float inverse_deviation(const ek_layer_norm_params *p, const int8_t *x, int32_t *sum)
{
    const int32_t rest = p->c % BLOCK;
    row_sums s = {vdupq_n_s32(0), vdupq_n_s32(0)};
    s = add_to_sums(s, vandq_s8(vld1q_s8(x + p->c - BLOCK), vld1q_s8(keep + rest)));
    for (const int8_t *end = x + (p->c - rest); x != end; x += BLOCK)
        s = add_to_sums(s, vld1q_s8(x));
    *sum = sum_of(s.values);
    return ek_inverse_deviation(p->c, *sum, sum_of(s.squares), p->epsilon);
}

/* What all elements of a row are computed with. */
typedef struct row_factors {
    int32x4_t count, sum;
    float32x4_t k;
} row_factors;

/* (count * x - sum) * k of four elements: |count * x - sum| < 2^24. */
INLINE float32x4_t normalize4(const row_factors *f, int32x4_t x)
{
    return vmulq_f32(vcvtq_f32_s32(vsubq_s32(vmulq_s32(x, f->count), f->sum)), f->k);
}

INLINE float16 load_floats(const float *m)
{
    return (float16){{vld1q_f32(m), vld1q_f32(m + 4), vld1q_f32(m + 8), vld1q_f32(m + 12)}};
}

INLINE int8x16_t normalize(const row_factors *f, int8x16_t x, const float *gain,
                           const float *offset, const ek_requant_neon *r)
{
    const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
    const float16 normal = {{normalize4(f, vmovl_s16(vget_low_s16(low))),
                             normalize4(f, movl_high(low)),
                             normalize4(f, vmovl_s16(vget_low_s16(high))),
                             normalize4(f, movl_high(high))}};
    return round_block(plus(times_each(normal, load_floats(gain)), load_floats(offset)), r);
}

/* y may be x: the last block is read before the one that it shares values with is written. */
static void normalize_row(const ek_layer_norm_params *p, const int8_t *x, int8_t *y,
                          const ek_requant_neon *r)
{
    const int32_t last = p->c - BLOCK;
    const int8x16_t last_block = vld1q_s8(x + last);
    int32_t sum;
    const float k = inverse_deviation(p, x, &sum);
    const row_factors f = {vdupq_n_s32(p->c), vdupq_n_s32(sum), vdupq_n_f32(k)};
    for (int32_t i = 0; i < last; i += BLOCK)
        vst1q_s8(y + i, normalize(&f, vld1q_s8(x + i), p->gain + i, p->offset + i, r));
    vst1q_s8(y + last, normalize(&f, last_block, p->gain + last, p->offset + last, r));
}

int ek_layer_norm_neon_supports(const void *params)
{
    const ek_layer_norm_params *p = params;
    return p->c >= BLOCK;
}

void ek_layer_norm_neon(const void *params, const void *const in[], void *out, void *scratch,
                        const ek_range *range)
{
    const ek_layer_norm_params *p = params;
    const ek_requant_neon r = ek_requant_neon_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ptrdiff_t at = (ptrdiff_t)row * p->c;
        normalize_row(p, (const int8_t *)in[0] + at, (int8_t *)out + at, &r);
    }
}
