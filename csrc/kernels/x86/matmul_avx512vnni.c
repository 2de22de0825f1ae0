/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations with vpdpbusd. The second factor is packed into scratch as the weights
 * of a convolution are, four steps of depth for 16 columns in a vector, and made unsigned on the
 * way; the first is read where it is, four signed bytes for all lanes. With u = b + 128 and
 * z = zb + 128
 *
 *     sum((a - za) * (b - zb)) = sum(a * u) - z * sum(a) - za * sum(u) + k * za * z
 *
 * whose second term belongs to a row and whose last two to a column; an accumulator starts from
 * them. All of it is exact modulo 2^32.
 */
#include "../kernels.h"
#include "../product.h"
#include "vnni_avx512.h"

#define ROWS 14 /* by two tiles in 28 registers; two more hold b and one a */
#define TILE_N 16
#define TILE_K 4
#define STEP_BYTES (TILE_N * TILE_K)
#define PANEL_BYTES 131072 /* of packed columns: part of a second level cache */

/* Columns of b in scratch. */
typedef struct panel {
    int8_t *tiles;  /* [tile][step][16][4], unsigned */
    int32_t *start; /* [tile][16] */
    int32_t first, columns;
    int32_t steps;
} panel;

/* Rows of a that are multiplied together. `tail` is the last step where k is no multiple of four,
 * filled up with zero: the bytes behind a row are not ours to read. */
typedef struct row_block {
    const int8_t *a;
    ptrdiff_t a_step;
    int32_t full_steps;
    int32_t term[ROWS], tail[ROWS];
} row_block;

static int32_t steps_of(const ek_matmul_params *p)
{
    return ek_ceil_div(p->k, TILE_K);
}

/* Tiles of a panel: at least two, and all that PANEL_BYTES hold. */
static int32_t panel_tiles(const ek_matmul_params *p)
{
    const int32_t fit = PANEL_BYTES / STEP_BYTES / steps_of(p) / 2 * 2;
    return ek_min(ek_ceil_div(p->n, TILE_N), ek_max(fit, 2));
}

/* ---- Packing --------------------------------------------------------------------------------- */

/* The bytes of `mask`, plus 128; the others are zero. */
INLINE __m512i load_unsigned(const int8_t *from, __mmask64 mask)
{
    const __m512i flipped =
        _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, from), _mm512_set1_epi8(-128));
    return _mm512_maskz_mov_epi8(mask, flipped);
}

/* y[i] gets lane i of every x. */
INLINE void transpose_lanes(__m512i x0, __m512i x1, __m512i x2, __m512i x3, __m512i y[4])
{
    const __m512i low01 = _mm512_shuffle_i32x4(x0, x1, 0x44);
    const __m512i low23 = _mm512_shuffle_i32x4(x2, x3, 0x44);
    const __m512i high01 = _mm512_shuffle_i32x4(x0, x1, 0xEE);
    const __m512i high23 = _mm512_shuffle_i32x4(x2, x3, 0xEE);
    y[0] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    y[1] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
    y[2] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    y[3] = _mm512_shuffle_i32x4(high01, high23, 0xDD);
}

/* Up to four tiles of b[k][n]: four rows at a time are interleaved byte by byte. */
static void pack_rows(const ek_matmul_params *p, const int8_t *b, int32_t columns, int32_t steps,
                      int8_t *to)
{
    const __mmask64 mask = low_bits(columns);
    const int32_t tiles = ek_min(ek_ceil_div(columns, TILE_N), 4);
    for (int32_t step = 0; step < steps; step++, b += TILE_K * (ptrdiff_t)p->n) {
        __m512i row[TILE_K], tile[4];
        UNROLL for (int i = 0; i < TILE_K; i++) {
            const int inside = step * TILE_K + i < p->k;
            row[i] = load_unsigned(inside ? b + i * (ptrdiff_t)p->n : b, inside ? mask : 0);
        }
        const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]);
        const __m512i high01 = _mm512_unpackhi_epi8(row[0], row[1]);
        const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]);
        const __m512i high23 = _mm512_unpackhi_epi8(row[2], row[3]);
        transpose_lanes(_mm512_unpacklo_epi16(low01, low23), _mm512_unpackhi_epi16(low01, low23),
                        _mm512_unpacklo_epi16(high01, high23),
                        _mm512_unpackhi_epi16(high01, high23), tile);
        for (int32_t i = 0; i < tiles; i++)
            _mm512_storeu_si512(to + ((ptrdiff_t)i * steps + step) * STEP_BYTES, tile[i]);
    }
}

/* Sixteen vectors of 32-bit lanes, transposed. */
INLINE void transpose16(__m512i v[16])
{
    __m512i pair[16], quad[16];
    UNROLL for (int i = 0; i < 16; i += 2) {
        pair[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        pair[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        quad[i] = _mm512_unpacklo_epi64(pair[i], pair[i + 2]);
        quad[i + 1] = _mm512_unpackhi_epi64(pair[i], pair[i + 2]);
        quad[i + 2] = _mm512_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        quad[i + 3] = _mm512_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        __m512i column[4];
        transpose_lanes(quad[j], quad[4 + j], quad[8 + j], quad[12 + j], column);
        UNROLL for (int lane = 0; lane < 4; lane++) v[4 * lane + j] = column[lane];
    }
}

/* One tile of b[n][k]: sixteen rows by 64 bytes at a time are transposed in units of a step. */
static void pack_columns(const ek_matmul_params *p, const int8_t *b, int32_t columns,
                         int32_t steps, int8_t *to)
{
    for (int32_t k = 0; k < p->k; k += 64) {
        const __mmask64 mask = low_bits(p->k - k);
        const int32_t count = ek_min(steps - k / TILE_K, 16);
        __m512i v[TILE_N];
        UNROLL for (int i = 0; i < TILE_N; i++)
            v[i] = load_unsigned(i < columns ? b + (ptrdiff_t)i * p->k + k : b,
                                 i < columns ? mask : 0);
        transpose16(v);
        for (int32_t i = 0; i < count; i++)
            _mm512_storeu_si512(to + (ptrdiff_t)(k / TILE_K + i) * STEP_BYTES, v[i]);
    }
}

/* What the columns of each tile start from. */
static void sum_columns(const ek_matmul_params *p, const panel *columns)
{
    const __m512i ones = _mm512_set1_epi8(1), minus_a_zero = _mm512_set1_epi32(-p->a_zero);
    const uint32_t product = (uint32_t)p->k * (uint32_t)(p->a_zero * (p->b_zero + 128));
    const __m512i constant = _mm512_set1_epi32((int32_t)product);
    for (int32_t n = 0; n < columns->columns; n += TILE_N) {
        const int8_t *tile = columns->tiles + (ptrdiff_t)n / TILE_N * columns->steps * STEP_BYTES;
        __m512i sum = _mm512_setzero_si512();
        for (int32_t step = 0; step < columns->steps; step++)
            sum = dot4(sum, load64(tile + (ptrdiff_t)step * STEP_BYTES), ones);
        sum = _mm512_add_epi32(_mm512_mullo_epi32(sum, minus_a_zero), constant);
        _mm512_storeu_si512(columns->start + n, sum);
    }
}

static void pack(const ek_matmul_params *p, const int8_t *b, const panel *columns)
{
    const ptrdiff_t tile_bytes = (ptrdiff_t)columns->steps * STEP_BYTES;
    const int32_t together = p->b_transposed ? TILE_N : 4 * TILE_N;
    for (int32_t n = 0; n < columns->columns; n += together) {
        int8_t *to = columns->tiles + n / TILE_N * tile_bytes;
        const int32_t count = ek_min(columns->columns - n, together);
        if (p->b_transposed)
            pack_columns(p, b + (ptrdiff_t)(columns->first + n) * p->k, count, columns->steps, to);
        else
            pack_rows(p, b + columns->first + n, count, columns->steps, to);
    }
    sum_columns(p, columns);
}

/* ---- The product ----------------------------------------------------------------------------- */

static int32_t sum_row(const int8_t *a, int32_t count)
{
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512();
    int32_t k = 0;
    for (; k + 64 <= count; k += 64)
        sum = dot4(sum, ones, load64(a + k));
    if (k < count)
        sum = dot4(sum, ones, _mm512_maskz_loadu_epi8(low_bits(count - k), a + k));
    return _mm512_reduce_add_epi32(sum);
}

static void begin_rows(row_block *block, const ek_matmul_params *p, const int8_t *a, int32_t rows)
{
    const int32_t tail = p->k % TILE_K, factor = -(p->b_zero + 128);
    block->a = a;
    block->a_step = p->k;
    block->full_steps = p->k / TILE_K;
    for (int32_t i = 0; i < rows; i++, a += p->k) {
        /* |sum| < 2^7 * 2^24; the product wraps. */
        block->term[i] = (int32_t)((uint32_t)factor * (uint32_t)(factor ? sum_row(a, p->k) : 0));
        block->tail[i] = 0;
        for (int32_t k = 0; k < tail; k++)
            ((int8_t *)&block->tail[i])[k] = a[p->k - tail + k];
    }
}

/* Stores `rows` (a constant) rows of `tiles` (1 or 2) vectors, the columns of `mask`. */
INLINE void store_rows(const int rows, const int tiles, const ek_matmul_params *p,
                       __m512i acc[][2], int8_t *y, __mmask32 mask, const requant *r)
{
    const __m512 m = _mm512_set1_ps(p->multiplier);
    const ptrdiff_t step = p->n;
    UNROLL for (int i = 0; i < rows; i += 4 / tiles) {
        __m512i v[4];
        UNROLL for (int j = 0; j < 4; j++) {
            const int row = i + j / tiles < rows ? i + j / tiles : i;
            v[j] = ek_requantize_top(acc[row][j % tiles], m, r);
        }
        const __m512i bytes = ek_pack64(v[0], v[1], v[2], v[3], r);
        if (tiles == 2) {
            _mm256_mask_storeu_epi8(y, mask, _mm512_castsi512_si256(bytes));
            if (i + 1 < rows)
                _mm256_mask_storeu_epi8(y + step, mask, _mm512_extracti64x4_epi64(bytes, 1));
        } else {
            const __mmask16 half = (__mmask16)mask;
            _mm_mask_storeu_epi8(y, half, _mm512_castsi512_si128(bytes));
            if (i + 1 < rows)
                _mm_mask_storeu_epi8(y + step, half, _mm512_extracti32x4_epi32(bytes, 1));
            if (i + 2 < rows)
                _mm_mask_storeu_epi8(y + 2 * step, half, _mm512_extracti32x4_epi32(bytes, 2));
            if (i + 3 < rows)
                _mm_mask_storeu_epi8(y + 3 * step, half, _mm512_extracti32x4_epi32(bytes, 3));
        }
        y += 4 / tiles * step;
    }
}

/* `rows` rows (a constant) by `tiles` tiles (1 or 2). */
INLINE void multiply_block(const int rows, const int tiles, const ek_matmul_params *p,
                           const row_block *block, const panel *columns, int32_t n, int8_t *y,
                           const requant *r)
{
    const ptrdiff_t tile_bytes = (ptrdiff_t)columns->steps * STEP_BYTES;
    const int8_t *w = columns->tiles + n / TILE_N * tile_bytes;
    const int32_t *start = columns->start + n;
    const ptrdiff_t a_step = block->a_step;
    __m512i acc[ROWS][2];
    /* Every third row has a pointer; two more are reached by an index. */
    const int8_t *third[(ROWS + 2) / 3];
    UNROLL for (int i = 0; i < rows; i++) {
        const __m512i term = _mm512_set1_epi32(block->term[i]);
        acc[i][0] = _mm512_add_epi32(load64(start), term);
        acc[i][1] = _mm512_add_epi32(load64(start + (tiles - 1) * TILE_N), term);
    }
    UNROLL for (int i = 0; i < (rows + 2) / 3; i++) {
        third[i] = block->a + 3 * i * a_step;
        __asm__("" : "+r"(third[i])); /* or clang goes from row to row with an addition each */
    }
    for (int32_t k = block->full_steps; k > 0; k--, w += STEP_BYTES) {
        const __m512i w0 = load64(w), w1 = load64(w + (tiles - 1) * tile_bytes);
        UNROLL for (int i = 0; i < rows; i++) {
            const __m512i a = broadcast4((const uint8_t *)third[i / 3] + i % 3 * a_step);
            acc[i][0] = dot4(acc[i][0], w0, a);
            if (tiles == 2)
                acc[i][1] = dot4(acc[i][1], w1, a);
        }
        UNROLL for (int i = 0; i < (rows + 2) / 3; i++) third[i] += TILE_K;
    }
    if (block->full_steps < columns->steps) {
        const __m512i w0 = load64(w), w1 = load64(w + (tiles - 1) * tile_bytes);
        UNROLL for (int i = 0; i < rows; i++) {
            const __m512i a = broadcast4((const uint8_t *)&block->tail[i]);
            acc[i][0] = dot4(acc[i][0], w0, a);
            if (tiles == 2)
                acc[i][1] = dot4(acc[i][1], w1, a);
        }
    }
    /* What the stores need is loaded from here on: kept in registers it would push sums out. */
    __asm__("" : "+r"(r), "+r"(p));
    store_rows(rows, tiles, p, acc, y, (__mmask32)low_bits(columns->columns - n), r);
}

typedef void (*multiply_fn)(const ek_matmul_params *p, const row_block *block,
                            const panel *columns, int8_t *y, const requant *r);

/* All columns of a panel. Kept out of line: in a larger function the registers do not suffice. */
#define MULTIPLY(rows)                                                                        \
    static __attribute__((noinline)) void multiply##rows(                                     \
        const ek_matmul_params *p, const row_block *block, const panel *columns, int8_t *y,   \
        const requant *r)                                                                     \
    {                                                                                         \
        int32_t n = 0;                                                                        \
        for (; columns->columns - n > TILE_N; n += 2 * TILE_N)                                \
            multiply_block(rows, 2, p, block, columns, n, y + n, r);                          \
        if (n < columns->columns)                                                             \
            multiply_block(rows, 1, p, block, columns, n, y + n, r);                          \
    }
MULTIPLY(1)
MULTIPLY(4)
MULTIPLY(14)

/* As many rows as there are left, in blocks that exist. */
static int32_t block_rows(int32_t left)
{
    return left >= ROWS ? ROWS : left >= 4 ? 4 : 1;
}

static void multiply_rows(const ek_matmul_params *p, const int8_t *a, const panel *columns,
                          int8_t *y, int32_t rows, const requant *r)
{
    for (int32_t row = 0, count; row < rows; row += count) {
        row_block block;
        count = block_rows(rows - row);
        const multiply_fn multiply =
            count == ROWS ? multiply14 : count == 4 ? multiply4 : multiply1;
        begin_rows(&block, p, a + (ptrdiff_t)row * p->k, count);
        multiply(p, &block, columns, y + (ptrdiff_t)row * p->n, r);
    }
}

size_t ek_matmul_avx512vnni_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    const size_t tile_bytes = (size_t)steps_of(p) * STEP_BYTES + TILE_N * sizeof(int32_t);
    return (size_t)panel_tiles(p) * tile_bytes;
}

void ek_matmul_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_matmul_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    const int32_t tiles = panel_tiles(p);
    const ptrdiff_t panel_bytes = (ptrdiff_t)tiles * steps_of(p) * STEP_BYTES;
    panel columns = {.tiles = scratch, .steps = steps_of(p)};
    columns.start = (int32_t *)(void *)(columns.tiles + panel_bytes);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int8_t *a = ek_product_a(p, in[0], row), *b = ek_product_b(p, in[1], row);
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n;
        rows = ek_product_rows(p, range, row);
        for (int32_t n = range->ch; n < range->ch_end; n += columns.columns) {
            columns.first = n;
            columns.columns = ek_min(range->ch_end - n, tiles * TILE_N);
            pack(p, b, &columns);
            multiply_rows(p, a, &columns, y + n, rows, &r);
        }
    }
}
