/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8, sixteen values at a time; of images with two to four planes, sixteen pixels.
 */
#define EK_VECTOR_AVX512VNNI
#include "quantize.h"

#define PIXELS 16
#define MAX_PLANES 4

/* How the packed values of some planes become pixels. */
typedef struct pixel_order {
    int32_t planes;
    __m512i in_lane; /* of bytes: from planes to pixels in each 128-bit lane */
    __m512i lanes;   /* of 32-bit parts: together what the lanes hold, a part for each plane */
} pixel_order;

static pixel_order pixel_order_of(int32_t planes)
{
    int8_t in_lane[16] = {0};
    int32_t lanes[16] = {0};
    pixel_order order;
    for (int32_t i = 0; i < 4 * planes; i++) {
        in_lane[i] = (int8_t)(i % planes * 4 + i / planes);
        lanes[i] = i / planes * 4 + i % planes;
    }
    order.planes = planes;
    order.in_lane =
        _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)in_lane));
    order.lanes = _mm512_loadu_si512(lanes);
    return order;
}

/* `count` pixels, at most sixteen. */
static inline void quantize_block(const pixel_order *order, const float *x, ptrdiff_t step,
                                  vfloat scale, int8_t *y, int32_t count, const requant *r)
{
    __m512i v[MAX_PLANES] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                             _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int32_t plane = 0; plane < order->planes; plane++)
        v[plane] = v_round(v_divf(v_loadf_n(x + plane * step, count), scale), r);
    const __m512i packed = ek_pack64_lanes(v[0], v[1], v[2], v[3], r);
    const __m512i pixels =
        _mm512_permutexvar_epi32(order->lanes, _mm512_shuffle_epi8(packed, order->in_lane));
    const int32_t bytes = (count < PIXELS ? count : PIXELS) * order->planes;
    _mm512_mask_storeu_epi8(y, bytes == 64 ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1, pixels);
}

static void quantize_planes(ek_walk *walk, const float *x, int8_t *y, vfloat scale,
                            const requant *r)
{
    const int32_t last = walk->rank - 1, pixels = walk->dims[last - 1];
    const pixel_order order = pixel_order_of(walk->dims[last]);
    const ptrdiff_t step = walk->stride[EK_WALK_IN][last];
    walk->rank = last; /* what remains to walk over begins before the pixels */
    do {
        const float *from = x + walk->at[EK_WALK_IN];
        int8_t *to = y + walk->at[EK_WALK_OUT];
        for (int32_t i = 0; i < pixels; i += PIXELS)
            quantize_block(&order, from + i, step, scale, to + (ptrdiff_t)i * order.planes,
                           pixels - i, r);
    } while (ek_walk_next(walk));
}

static int has_planes(const ek_walk *walk)
{
    const int32_t last = walk->rank - 1;
    return last > 0 && walk->dims[last] > 1 && walk->dims[last] <= MAX_PLANES
        && walk->dims[last - 1] >= PIXELS && walk->stride[EK_WALK_IN][last - 1] == 1;
}

void ek_quantize_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    const ek_quantize_params *p = params;
    const requant r = requant_init(&p->clamp);
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    if (has_planes(&walk))
        quantize_planes(&walk, in[0], out, v_setf(p->scale), &r);
    else
        quantize_rows(&walk, in[0], out, v_setf(p->scale), &r);
}
