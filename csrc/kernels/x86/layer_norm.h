/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of layer_norm_sse41.c and layer_norm_avx2.c.
 */
#include "../kernels.h"
#include "../layer_norm.h"
#include "../window.h"
#include "vector.h"

#define ROWS 8 /* whose roots and quotients do not wait for each other */

/* The sums of up to 2 * LANES elements and of their squares: below 2^31, see layer_norm.h. */
static inline void add_to_sums(const int8_t *x, int32_t count, vint *sum, vint *squares)
{
    const vbytes low = v_load_bytes_n(x, count);
    const vbytes high = v_load_bytes_n(x + LANES, ek_max(count - LANES, 0));
    const vint pairs = v_pair(low, high);
    *sum = v_add(*sum, v_madd(pairs, v_set16(1)));
    *squares = v_add(*squares, v_madd(pairs, pairs));
}

static float inverse_deviation(const ek_layer_norm_params *p, const int8_t *x, int32_t *sum)
{
    vint sums = v_set(0), squares = v_set(0);
    int32_t i = 0;
    for (; i + 2 * LANES <= p->c; i += 2 * LANES)
        add_to_sums(x + i, 2 * LANES, &sums, &squares);
    if (i < p->c)
        add_to_sums(x + i, p->c - i, &sums, &squares);
    *sum = v_sum(sums);
    return ek_inverse_deviation(p->c, *sum, v_sum(squares), p->epsilon);
}

/* What all elements of a row are computed with. */
typedef struct row_factors {
    vfloat count, sum, k;
} row_factors;

/* Up to LANES elements from `i` on. count * x and the difference are integers below 2^24: exact. */
static inline void normalize(const ek_layer_norm_params *p, const row_factors *f, const int8_t *x,
                             int8_t *y, int32_t i, int32_t count, const requant *r)
{
    const vfloat scaled = v_mulf(v_to_float(v_load_i8_n(x + i, count)), f->count);
    const vfloat normal = v_mulf(v_subf(scaled, f->sum), f->k);
    const vfloat product = v_mulf(normal, v_loadf_n(p->gain + i, count));
    v_store_i8_n(y + i, v_round(v_addf(product, v_loadf_n(p->offset + i, count)), r), r, count);
}

/* Up to ROWS rows. */
static void normalize_rows(const ek_layer_norm_params *p, const int8_t *x, int8_t *y,
                           int32_t rows, const requant *r)
{
    const vfloat count = v_setf((float)p->c);
    int32_t sum[ROWS];
    float k[ROWS];
    for (int32_t row = 0; row < rows; row++)
        k[row] = inverse_deviation(p, x + (ptrdiff_t)row * p->c, &sum[row]);
    for (int32_t row = 0; row < rows; row++, x += p->c, y += p->c) {
        const row_factors f = {count, v_setf((float)sum[row]), v_setf(k[row])};
        int32_t i = 0;
        for (; i + LANES <= p->c; i += LANES)
            normalize(p, &f, x, y, i, LANES, r);
        if (i < p->c)
            normalize(p, &f, x, y, i, p->c - i, r);
    }
}

void VECTOR_NAME(ek_layer_norm)(const void *params, const void *const in[], void *out,
                                void *scratch, const ek_range *range)
{
    const ek_layer_norm_params *p = params;
    const requant r = requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row += ROWS) {
        const ptrdiff_t at = (ptrdiff_t)row * p->c;
        normalize_rows(p, (const int8_t *)in[0] + at, (int8_t *)out + at,
                       ek_min(range->row_end - row, ROWS), &r);
    }
}
