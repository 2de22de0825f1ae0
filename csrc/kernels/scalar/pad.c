/* SPDX-License-Identifier: Apache-2.0
 *
 * Constant padding in every dimension.
 */
#include <string.h>

#include "../kernels.h"
#include "../walk.h"
#include "../window.h"

/* Elements of one step of dimension `d`. */
static int32_t stride_of(const int32_t *dims, int32_t rank, int32_t d)
{
    int32_t stride = 1;
    while (++d < rank)
        stride *= dims[d];
    return stride;
}

void ek_pad_scalar(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_pad_params *p = params;
    const ptrdiff_t row = stride_of(p->out_dims, p->rank, 0);
    int32_t in_stride[EK_MAX_RANK] = {0}, out_stride[EK_MAX_RANK] = {0};
    ptrdiff_t out_offset = 0;
    (void)scratch;

    memset((int8_t *)out + range->row * row, p->value,
           (size_t)((range->row_end - range->row) * row));

    for (int32_t d = 0; d < p->rank; d++) {
        if (p->in_dims[d] == 0)
            return;
        in_stride[d] = stride_of(p->in_dims, p->rank, d);
        out_stride[d] = stride_of(p->out_dims, p->rank, d);
        out_offset += (ptrdiff_t)p->before[d] * out_stride[d];
    }
    /* The rows of the range, seen from the input. */
    ek_range rows = *range;
    rows.row = ek_max(range->row - p->before[0], 0);
    rows.row_end = ek_min(range->row_end - p->before[0], p->in_dims[0]);
    if (rows.row >= rows.row_end)
        return;
    ek_walk walk = ek_walk_begin(p->rank, p->in_dims, &rows);
    ek_walk_position(&walk, EK_WALK_IN, in_stride, 0);
    ek_walk_position(&walk, EK_WALK_OUT, out_stride, out_offset);
    do {
        memcpy((int8_t *)out + walk.at[EK_WALK_OUT], (const int8_t *)in[0] + walk.at[EK_WALK_IN],
               (size_t)walk.dims[walk.rank - 1]);
    } while (ek_walk_next(&walk));
}
