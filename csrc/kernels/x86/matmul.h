/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of matmul_sse41.c, matmul_avx2.c and matmul_avx512vnni.c: rows of a, less its zero point, are
 * widened into scratch; two rows of b are interleaved, so that one multiply-add sums two steps
 * through k for LANES columns. Factors lie in [-255, 255], so a pair of products is exact.
 */
#include "../kernels.h"
#include "../window.h"
#include "vector.h"

#define ROWS 4 /* rows of a that share a read of b */

static int32_t even(int32_t k)
{
    return k + k % 2;
}

/* a - a_zero of one row, filled up to an even length with zero. */
static void widen_row(const ek_matmul_params *p, const int8_t *a, int16_t *to)
{
    for (int32_t k = 0; k < p->k; k++)
        to[k] = (int16_t)(a[k] - p->a_zero);
    if (p->k % 2)
        to[p->k] = 0;
}

static inline vint broadcast_pair(const int16_t *a)
{
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return v_set(pair);
}

/* Up to LANES columns of `rows` (a constant) rows. */
static inline __attribute__((always_inline)) void block(const int rows, const ek_matmul_params *p,
                                                        const requant *r, const int16_t *a,
                                                        const int8_t *b, int32_t count, int8_t *y)
{
    const vint b_zero = v_set16(p->b_zero);
    const ptrdiff_t row = even(p->k);
    vint acc[ROWS];
    for (int i = 0; i < rows; i++)
        acc[i] = v_set(0);
    for (int32_t k = 0; k < p->k; k += 2, b += 2 * (ptrdiff_t)p->n) {
        const vbytes b0 = v_load_bytes_n(b, count);
        const vbytes b1 = k + 1 < p->k ? v_load_bytes_n(b + p->n, count) : b0;
        const vint pair = v_sub16(v_pair(b0, b1), b_zero);
        for (int i = 0; i < rows; i++)
            acc[i] = v_add(acc[i], v_madd(pair, broadcast_pair(a + i * row + k)));
    }
    for (int i = 0; i < rows; i++) {
        const vint rounded = v_requantize(acc[i], v_setf(p->multiplier), r);
        v_store_i8_n(y + (ptrdiff_t)i * p->n, rounded, r, count);
    }
}

/* Its rows of b are steps through k. */
int VECTOR_NAME_WITH(ek_matmul, supports)(const void *params)
{
    const ek_matmul_params *p = params;
    return !p->b_transposed;
}

size_t VECTOR_NAME_WITH(ek_matmul, scratch)(const void *params)
{
    const ek_matmul_params *p = params;
    return (size_t)ek_min(p->m, ROWS) * (size_t)even(p->k) * sizeof(int16_t);
}

void VECTOR_NAME(ek_matmul)(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    const ek_matmul_params *p = params;
    const requant r = requant_init(&p->clamp);
    int16_t *widened = scratch;

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int32_t batch = row / p->m, m = row % p->m;
        const int8_t *a = (const int8_t *)in[0] + (ptrdiff_t)batch * p->a_batch_stride
            + (ptrdiff_t)m * p->k;
        const int8_t *b = (const int8_t *)in[1] + (ptrdiff_t)batch * p->b_batch_stride;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n;
        rows = ek_min(range->row_end - row, p->m - m) >= ROWS ? ROWS : 1;
        for (int32_t i = 0; i < rows; i++)
            widen_row(p, a + (ptrdiff_t)i * p->k, widened + (ptrdiff_t)i * even(p->k));
        for (int32_t n = range->ch; n < range->ch_end; n += LANES) {
            if (rows == ROWS)
                block(ROWS, p, &r, widened, b + n, range->ch_end - n, y + n);
            else
                block(1, p, &r, widened, b + n, range->ch_end - n, y + n);
        }
    }
}
