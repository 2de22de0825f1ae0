/* SPDX-License-Identifier: Apache-2.0
 *
 * Raw 8-bit input (pixels, features) to the quantized tensor with Helium, by table, sixteen bytes
 * at a time.
 */
#include "../kernels.h"
#include "../walk.h"
#include "mve.h"

#define LANES 16
#define MAX_STEP (UINT8_MAX / (LANES - 1)) /* offsets have 8 bits */

/* `count` bytes, x_step and y_step apart, up to MAX_STEP, by one table. */
static void look_up(const uint8_t *x, ptrdiff_t x_step, const int8_t *table, int32_t flip,
                    int8_t *y, ptrdiff_t y_step, int32_t count)
{
    const uint8x16_t index = vidupq_n_u8(0, 1), flips = vdupq_n_u8((uint8_t)flip);
    const uint8x16_t x_offsets = vmulq_n_u8(index, (uint8_t)x_step);
    const uint8x16_t y_offsets = vmulq_n_u8(index, (uint8_t)y_step);
    for (; count > 0; count -= LANES, x += LANES * x_step, y += LANES * y_step) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        const uint8x16_t v = veorq_u8(vldrbq_gather_offset_z_u8(x, x_offsets, lanes), flips);
        vstrbq_scatter_offset_p_s8(y, y_offsets, vldrbq_gather_offset_z_s8(table, v, lanes), lanes);
    }
}

void ek_raw_mve(const void *params, const void *const in[], void *out, void *scratch,
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
    const int vectors = x_step <= MAX_STEP && y_step <= MAX_STEP && table_step == 0;
    do {
        const uint8_t *x = (const uint8_t *)in[0] + walk.at[EK_WALK_IN];
        const int8_t *table = p->table + walk.at[EK_WALK_TABLE];
        int8_t *y = (int8_t *)out + walk.at[EK_WALK_OUT];
        if (vectors)
            look_up(x, x_step, table, p->flip, y, y_step, walk.dims[last]);
        else
            for (int32_t i = 0; i < walk.dims[last]; i++)
                y[i * y_step] = table[i * table_step + (x[i * x_step] ^ p->flip)];
    } while (ek_walk_next(&walk));
}
