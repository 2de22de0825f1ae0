/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax, 64 values at a time. An entry of the table has 24 bits here: its three bytes are looked
 * up on their own, by permutations, and summed on their own. Of a row's outputs there are no more
 * different ones than distances from its maximum, so they are computed per distance, and looked up.
 * A row's steps wait for each other; so each is taken for several rows before the next one.
 */
#include "../kernels.h"
#include "../window.h"
#include "vnni_avx512.h"

#define BYTES 64
#define ENTRIES 256
#define PARTS (ENTRIES / BYTES)
#define PLANES 3
#define ROWS 16 /* that go through each step together; their quotients are one division */

/* 256 bytes, to be indexed by distances. */
typedef struct byte_table {
    __m512i part[PARTS];
} byte_table;

/* The table's entries as binary32 and, byte by byte, as integers. */
typedef struct exponentials {
    byte_table plane[PLANES];
    float value[ENTRIES];
} exponentials;

/* vpermi2b takes the lowest seven bits of an index. `wide`, a constant: there are distances above
 * 127. */
INLINE __m512i look_up(const int wide, const byte_table *table, __m512i distance)
{
    const __m512i near = _mm512_permutex2var_epi8(table->part[0], distance, table->part[1]);
    if (!wide)
        return near;
    const __m512i far = _mm512_permutex2var_epi8(table->part[2], distance, table->part[3]);
    return _mm512_mask_mov_epi8(near, _mm512_movepi8_mask(distance), far);
}

/* Byte `plane` of 64 entries. */
static __m512i plane_of(const uint32_t *table, int plane)
{
    __m512i bytes = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        const __m512i entries = _mm512_srli_epi32(load64(table + 16 * i), (unsigned)(8 * plane));
        const __m512i some = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(entries));
        /* Into lane i. */
        const __mmask16 lane = (__mmask16)(0xF << 4 * i);
        bytes = _mm512_mask_shuffle_i32x4(bytes, lane, some, some, 0);
    }
    return bytes;
}

static void prepare_table(const uint32_t *table, exponentials *e)
{
    for (int plane = 0; plane < PLANES; plane++)
        for (int part = 0; part < PARTS; part++)
            e->plane[plane].part[part] = plane_of(table + part * BYTES, plane);
    for (int i = 0; i < ENTRIES; i += 16)
        _mm512_storeu_ps(e->value + i, _mm512_cvtepi32_ps(load64(table + i)));
}

/* The greatest of eight bytes that are eight apart each, in the low half. */
INLINE __m128i greatest_of_eight(__m512i v)
{
    const __m256i half =
        _mm256_max_epi8(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    const __m128i quarter =
        _mm_max_epi8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return _mm_max_epi8(quarter, _mm_srli_si128(quarter, 8));
}

/* The row's greatest element, and how far its least one is from it. */
static int32_t extremes(const int8_t *x, int32_t count, int32_t *spread)
{
    __m512i greatest = _mm512_set1_epi8(-128), least = _mm512_set1_epi8(127);
    int32_t i = 0;
    for (; i + BYTES <= count; i += BYTES) {
        greatest = _mm512_max_epi8(greatest, load64(x + i));
        least = _mm512_min_epi8(least, load64(x + i));
    }
    if (i < count) {
        const __mmask64 rest = low_bits(count - i);
        greatest = _mm512_mask_max_epi8(greatest, rest, greatest,
                                        _mm512_maskz_loadu_epi8(rest, x + i));
        least = _mm512_mask_min_epi8(least, rest, least, _mm512_maskz_loadu_epi8(rest, x + i));
    }
    /* The least of bytes complemented is the complement of the greatest. One reduction for both. */
    const __m512i low = _mm512_xor_si512(least, _mm512_set1_epi8(-1));
    __m128i m = _mm_unpacklo_epi64(greatest_of_eight(greatest), greatest_of_eight(low));
    m = _mm_max_epi8(m, _mm_srli_epi64(m, 32));
    m = _mm_max_epi8(m, _mm_srli_epi64(m, 16));
    m = _mm_max_epi8(m, _mm_srli_epi64(m, 8));
    const int32_t max = (int8_t)_mm_extract_epi8(m, 0), min = ~(int8_t)_mm_extract_epi8(m, 8);
    *spread = max - min;
    return max;
}

/* Adds the entries of distances where `one` is 1, not those where it is 0, plane by plane. */
INLINE void add_entries(const int wide, const exponentials *e, __m512i distance, __m512i one,
                        __m512i sums[PLANES])
{
    UNROLL for (int plane = 0; plane < PLANES; plane++)
        sums[plane] = dot4(sums[plane], look_up(wide, &e->plane[plane], distance), one);
}

/* The sum of a row's entries, below 2^31. No byte is above its entry, so that no lane overflows. */
INLINE int32_t sum_of(const int wide, const exponentials *e, const int8_t *x, int32_t count,
                      __m512i max)
{
    const __m512i none = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
    __m512i sums[PLANES] = {none, none, none};
    int32_t i = 0;
    for (; i + BYTES <= count; i += BYTES)
        add_entries(wide, e, _mm512_sub_epi8(max, load64(x + i)), one, sums);
    if (i < count) {
        const __mmask64 rest = low_bits(count - i);
        const __m512i some = _mm512_maskz_loadu_epi8(rest, x + i);
        add_entries(wide, e, _mm512_sub_epi8(max, some), _mm512_maskz_mov_epi8(rest, one), sums);
    }
    const __m512i upper = _mm512_add_epi32(sums[1], _mm512_slli_epi32(sums[2], 8));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], _mm512_slli_epi32(upper, 8)));
}

/* The outputs of distances up to `spread`. */
static void outputs_of(const exponentials *e, float factor, int32_t spread, byte_table *to,
                       const requant *r)
{
    const __m512 k = _mm512_set1_ps(factor);
    for (int part = 0; part <= spread / BYTES; part++) {
        const float *value = e->value + part * BYTES;
        __m512i v[4];
        UNROLL for (int i = 0; i < 4; i++)
            v[i] = ek_round_top(_mm512_mul_ps(_mm512_loadu_ps(value + 16 * i), k), r);
        to->part[part] = ek_pack64(v[0], v[1], v[2], v[3], r);
    }
}

INLINE void write_row(const int wide, const byte_table *outputs, const int8_t *x, int8_t *y,
                      int32_t count, __m512i max)
{
    int32_t i = 0;
    for (; i + BYTES <= count; i += BYTES)
        _mm512_storeu_si512(y + i,
                            look_up(wide, outputs, _mm512_sub_epi8(max, load64(x + i))));
    if (i < count) {
        const __mmask64 rest = low_bits(count - i);
        const __m512i some = _mm512_maskz_loadu_epi8(rest, x + i);
        _mm512_mask_storeu_epi8(y + i, rest, look_up(wide, outputs, _mm512_sub_epi8(max, some)));
    }
}

/* What the steps leave to the next ones. */
typedef struct row_state {
    int32_t max[ROWS], spread[ROWS], sum[ROWS];
    float k[ROWS];
} row_state;

/* Up to ROWS rows. */
static void softmax_rows(const ek_softmax_params *p, const exponentials *e, const int8_t *x,
                         int8_t *y, int32_t rows, const requant *r)
{
    const ptrdiff_t c = p->c;
    const __m512i none = _mm512_setzero_si512();
    byte_table outputs = {{none, none, none, none}};
    row_state state = {{0}, {0}, {0}, {0}};

    for (int32_t i = 0; i < rows; i++)
        state.max[i] = extremes(x + i * c, p->c, &state.spread[i]);
    for (int32_t i = 0; i < rows; i++) {
        const __m512i max = _mm512_set1_epi8((char)state.max[i]);
        const int near = state.spread[i] < 2 * BYTES;
        state.sum[i] = near ? sum_of(0, e, x + i * c, p->c, max)
                            : sum_of(1, e, x + i * c, p->c, max);
    }
    /* Rows that do not exist divide by 1. */
    const __m512i sums = _mm512_max_epi32(load64(state.sum), _mm512_set1_epi32(1));
    _mm512_storeu_ps(state.k, _mm512_div_ps(_mm512_set1_ps(p->inverse_scale),
                                            _mm512_cvtepi32_ps(sums)));
    for (int32_t i = 0; i < rows; i++) {
        const __m512i max = _mm512_set1_epi8((char)state.max[i]);
        outputs_of(e, state.k[i], state.spread[i], &outputs, r);
        if (state.spread[i] < 2 * BYTES)
            write_row(0, &outputs, x + i * c, y + i * c, p->c, max);
        else
            write_row(1, &outputs, x + i * c, y + i * c, p->c, max);
    }
}

/* No entry is above the first. */
int ek_softmax_avx512vbmi_supports(const void *params)
{
    const ek_softmax_params *p = params;
    return p->table[0] < 1u << 8 * PLANES;
}

void ek_softmax_avx512vbmi(const void *params, const void *const in[], void *out, void *scratch,
                           const ek_range *range)
{
    const ek_softmax_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    exponentials e;
    (void)scratch;

    prepare_table(p->table, &e);
    for (int32_t row = range->row; row < range->row_end; row += ROWS) {
        const ptrdiff_t at = (ptrdiff_t)row * p->c;
        softmax_rows(p, &e, (const int8_t *)in[0] + at, (int8_t *)out + at,
                     ek_min(range->row_end - row, ROWS), &r);
    }
}
