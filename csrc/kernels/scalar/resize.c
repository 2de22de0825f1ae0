/* SPDX-License-Identifier: Apache-2.0
 *
 * Nearest-neighbour resize: the converter chose the rows and columns to read.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"

void ek_resize_scalar(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_resize_params *p = params;
    const size_t count = (size_t)(range->ch_end - range->ch);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *x = (const int8_t *)in[0] + range->ch
            + ek_image_at(&p->in, n, p->row_index[oh], 0);
        int8_t *y = (int8_t *)out + range->ch + ek_image_at(&p->out, n, oh, 0);
        for (int32_t col = range->col; col < range->col_end; col++)
            memcpy(y + (ptrdiff_t)col * p->out.w_stride,
                   x + (ptrdiff_t)p->col_index[col] * p->in.w_stride, count);
    }
}
