/* SPDX-License-Identifier: Apache-2.0
 *
 * Raw 8-bit input (pixels, features) to the quantized tensor, by table.
 */
#include "../kernels.h"
#include "../walk.h"

void ek_raw_scalar(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_raw_params *p = params;
    int32_t table_stride[EK_MAX_RANK] = {0};
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    table_stride[p->table_axis] = p->table_stride;
    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_position(&walk, EK_WALK_TABLE, table_stride, 0);
    ek_walk_order(&walk);
    const ptrdiff_t x_step = walk.stride[EK_WALK_IN][last], y_step = walk.stride[EK_WALK_OUT][last];
    const ptrdiff_t table_step = walk.stride[EK_WALK_TABLE][last];
    do {
        const uint8_t *x = (const uint8_t *)in[0] + walk.at[EK_WALK_IN];
        const int8_t *table = p->table + walk.at[EK_WALK_TABLE];
        int8_t *y = (int8_t *)out + walk.at[EK_WALK_OUT];
        for (int32_t i = 0; i < walk.dims[last]; i++)
            y[i * y_step] = table[i * table_step + (x[i * x_step] ^ p->flip)];
    } while (ek_walk_next(&walk));
}
