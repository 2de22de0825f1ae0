/* SPDX-License-Identifier: Apache-2.0
 *
 * Table look-up, sixteen bytes at a time: four look-ups in 64 entries each. An index that is out of
 * a look-up's range leaves what it has, or gives zero. ARMv7 looks up half as many entries and
 * bytes.
 */
#include "../kernels.h"
#include "neon.h"

#ifdef __aarch64__

#define BYTES 16

typedef struct quarters {
    int8x16x4_t v[4];
} quarters;

INLINE int8x16x4_t load_quarter(const int8_t *table)
{
    return (int8x16x4_t){
        {vld1q_s8(table), vld1q_s8(table + 16), vld1q_s8(table + 32), vld1q_s8(table + 48)}};
}

INLINE quarters load_table(const int8_t *table)
{
    return (quarters){{load_quarter(table), load_quarter(table + 64), load_quarter(table + 128),
                       load_quarter(table + 192)}};
}

INLINE void look_up(const quarters *t, const int8_t *x, int8_t *y)
{
    const uint8x16_t next = vdupq_n_u8(64);
    uint8x16_t index = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(x)), vdupq_n_u8(0x80));
    int8x16_t v = vqtbl4q_s8(t->v[0], index);
    v = vqtbx4q_s8(v, t->v[1], index = vsubq_u8(index, next));
    v = vqtbx4q_s8(v, t->v[2], index = vsubq_u8(index, next));
    v = vqtbx4q_s8(v, t->v[3], vsubq_u8(index, next));
    vst1q_s8(y, v);
}

#else

#define BYTES 8

typedef struct quarters {
    const int8_t *table;
} quarters;

INLINE quarters load_table(const int8_t *table) { return (quarters){table}; }

INLINE int8x8x4_t load_part(const int8_t *table)
{
    return (int8x8x4_t){
        {vld1_s8(table), vld1_s8(table + 8), vld1_s8(table + 16), vld1_s8(table + 24)}};
}

INLINE void look_up(const quarters *t, const int8_t *x, int8_t *y)
{
    uint8x8_t index = veor_u8(vreinterpret_u8_s8(vld1_s8(x)), vdup_n_u8(0x80));
    int8x8_t v = vdup_n_s8(0);
    for (int i = 0; i < 256; i += 32) {
        v = vtbx4_s8(v, load_part(t->table + i), vreinterpret_s8_u8(index));
        index = vsub_u8(index, vdup_n_u8(32));
    }
    vst1_s8(y, v);
}

#endif

void ek_lut_neon(const void *params, const void *const in[], void *out, void *scratch,
                 const ek_range *range)
{
    const ek_lut_params *p = params;
    const int8_t *x = in[0];
    int8_t *y = out;
    ek_range rest = *range;
    if (rest.ch_end - rest.ch >= BYTES) {
        const quarters table = load_table(p->table);
        for (; rest.ch_end - rest.ch >= BYTES; rest.ch += BYTES)
            look_up(&table, x + rest.ch, y + rest.ch);
    }
    if (rest.ch < rest.ch_end)
        ek_lut_scalar(params, in, out, scratch, &rest);
}
