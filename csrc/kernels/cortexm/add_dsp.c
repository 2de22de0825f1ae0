/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with the FPU's conversion to the nearest integer, four values from each word.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "dsp.h"

#ifdef __ARM_FP
typedef struct terms {
    float a_multiplier, b_multiplier;
    int32_t a_zero, b_zero;
    ek_clamp clamp;
} terms;

/* One rounding per product and one for the sum; saturated to the type. */
static inline __attribute__((always_inline)) int32_t sum(const terms *t, int32_t a, int32_t b)
{
    const float a_product = (float)(a - t->a_zero) * t->a_multiplier;
    const float b_product = (float)(b - t->b_zero) * t->b_multiplier;
    float v = a_product + b_product;
    int32_t q;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v));
    __asm__("vmov %0, %1" : "=r"(q) : "t"(v));
    return __ssat(__qadd(q, t->clamp.zero), 8);
}

static inline __attribute__((always_inline)) int8_t clamped(const terms *t, int32_t q, int whole)
{
    if (whole)
        return (int8_t)q;
    q = q < t->clamp.lo ? t->clamp.lo : q;
    return (int8_t)(q > t->clamp.hi ? t->clamp.hi : q);
}

static inline __attribute__((always_inline)) void add_row(const terms t, const int8_t *a,
                                                          const int8_t *b, int32_t count,
                                                          int8_t *y, int whole)
{
    for (; count >= 4; count -= 4, a += 4, b += 4, y += 4) {
        const uint32_t wa = ek_dsp_load(a), wb = ek_dsp_load(b);
        y[0] = clamped(&t, sum(&t, (int8_t)wa, (int8_t)wb), whole);
        y[1] = clamped(&t, sum(&t, (int8_t)(wa >> 8), (int8_t)(wb >> 8)), whole);
        y[2] = clamped(&t, sum(&t, (int8_t)(wa >> 16), (int8_t)(wb >> 16)), whole);
        y[3] = clamped(&t, sum(&t, (int32_t)wa >> 24, (int32_t)wb >> 24), whole);
    }
    for (; count > 0; count--)
        *y++ = clamped(&t, sum(&t, *a++, *b++), whole);
}
#endif

void ek_add_dsp(const void *params, const void *const in[], void *out, void *scratch,
                const ek_range *range)
{
#ifdef __ARM_FP
    const ek_add_params *p = params;
    const terms t = {p->a_multiplier, p->b_multiplier, p->a_zero, p->b_zero, p->clamp};
    const int whole = ek_dsp_is_whole(&p->clamp);
    const int32_t count = range->ch_end - range->ch;
    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        if (whole)
            add_row(t, at.a + range->ch, at.b + range->ch, count, at.y + range->ch, 1);
        else
            add_row(t, at.a + range->ch, at.b + range->ch, count, at.y + range->ch, 0);
    }
#else
    (void)params, (void)in, (void)out, (void)range;
#endif
    (void)scratch;
}

/* Rows of which neither repeats a value. */
int ek_add_dsp_supports(const void *params)
{
#ifdef __ARM_FP
    const ek_broadcast *s = &((const ek_add_params *)params)->shape;
    return s->a_stride[s->rank - 1] == 1 && s->b_stride[s->rank - 1] == 1;
#else
    (void)params;
    return 0;
#endif
}
