/* SPDX-License-Identifier: Apache-2.0
 *
 * A function of one variable as a table of 256 values.
 */
#include "../kernels.h"

void ek_lut_scalar(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_lut_params *p = params;
    const int8_t *x = in[0];
    int8_t *y = out;
    (void)scratch;

    for (int32_t i = range->ch; i < range->ch_end; i++)
        y[i] = p->table[x[i] + 128];
}
