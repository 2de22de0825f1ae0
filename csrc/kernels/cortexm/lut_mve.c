/* SPDX-License-Identifier: Apache-2.0
 *
 * Table look-up with Helium, sixteen bytes at a time.
 */
#include "../kernels.h"
#include "mve.h"

void ek_mve_look_up(const int8_t *x, int8_t *y, const int8_t *table, int32_t count);

/* Offsets are unsigned: x + 128 flips a bit. */
EK_ASM_FUNCTION("ek_mve_look_up",
                "    push {r4, lr}\n"
                "    movs r4, #128\n"
                "    vdup.8 q2, r4\n"
                "    dlstp.8 lr, r3\n"
                "1:  vldrb.8 q0, [r0], #16\n"
                "    veor q0, q0, q2\n"
                "    vldrb.u8 q1, [r2, q0]\n"
                "    vstrb.8 q1, [r1], #16\n"
                "    letp lr, 1b\n"
                "    pop {r4, pc}\n");

void ek_lut_mve(const void *params, const void *const in[], void *out, void *scratch,
                const ek_range *range)
{
    const ek_lut_params *p = params;
    (void)scratch;
    ek_mve_look_up((const int8_t *)in[0] + range->ch, (int8_t *)out + range->ch, p->table,
                   range->ch_end - range->ch);
}
