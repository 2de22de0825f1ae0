/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the factors of a row of a matrix product lie.
 */
#ifndef EK_PRODUCT_H
#define EK_PRODUCT_H

#include "window.h"

/* What row `row` of the product is made of: its row of `a`, */
static inline const int8_t *ek_product_a(const ek_matmul_params *p, const void *a, int32_t row)
{
    const int32_t batch = row / p->m, m = row % p->m;
    return (const int8_t *)a + (ptrdiff_t)batch * p->a_batch_stride + (ptrdiff_t)m * p->k;
}

/* and its batch of `b`, */
static inline const int8_t *ek_product_b(const ek_matmul_params *p, const void *b, int32_t row)
{
    return (const int8_t *)b + (ptrdiff_t)(row / p->m) * p->b_batch_stride;
}

/* which so many rows of `range` from it on have in common. */
static inline int32_t ek_product_rows(const ek_matmul_params *p, const ek_range *range, int32_t row)
{
    return ek_min(range->row_end - row, p->m - row % p->m);
}

#endif /* EK_PRODUCT_H */
