/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations with the dot product instruction, four rows of a by sixteen columns.
 * Each matrix b is packed once, as weights of dense layers are, a panel of columns at a time; a is
 * read in place. Both are taken as they lie:
 *
 *     sum((a - za) * (b - zb)) = sum(a * b) - zb * sum(a) - za * sum(b) + k * za * zb
 *
 * where the second term belongs to a row, and is computed again for each panel, and the last two to
 * a column. Sums wrap.
 */
#include "../arm/blocks_neon.h"
#include "../kernels.h"
#include "../product.h"

#define ROWS 4
#define TILE_N 16
#define TILE_K 4
#define STEP_BYTES (TILE_N * TILE_K)
#define VECTOR_STEPS (BLOCK / TILE_K) /* that a vector of a serves */
#define PANEL_BYTES (32 << 10)        /* of packed columns, which all rows walk over */

typedef ek_requant_neon requant;

/* Some columns of b in tiles [step][TILE_N][TILE_K], filled up with zeros to whole tiles and to
 * multiples of VECTOR_STEPS steps, and what each column's sums begin with. */
typedef struct panel {
    int8_t *tiles;
    int32_t *start;
    int32_t first, columns, steps;
} panel;

static int32_t steps_of(const ek_matmul_params *p)
{
    return ek_ceil_div(p->k, BLOCK) * VECTOR_STEPS;
}

static int32_t panel_tiles(const ek_matmul_params *p)
{
    const int32_t fit = PANEL_BYTES / (steps_of(p) * STEP_BYTES);
    return ek_min(ek_max(fit, 1), ek_ceil_div(p->n, TILE_N));
}

/* ---- Packing --------------------------------------------------------------------------------- */

/* Up to sixteen columns of b[k][n]. */
static void pack_rows(const ek_matmul_params *p, const int8_t *b, int32_t columns, int32_t steps,
                      int8_t *to)
{
    for (int32_t k = 0; k < steps * TILE_K; k += TILE_K, to += STEP_BYTES) {
        int8x16x4_t rows;
        UNROLL for (int i = 0; i < TILE_K; i++)
            rows.val[i] = k + i < p->k ? load_block(b + (k + i) * (ptrdiff_t)p->n, columns)
                                       : vdupq_n_s8(0);
        vst4q_s8(to, rows);
    }
}

/* Sixteen values of each of four columns: lanes of four of them change places. */
INLINE void store_transposed(const int8x16_t v[4], int8_t *to)
{
    const int32x4_t a = vreinterpretq_s32_s8(v[0]), b = vreinterpretq_s32_s8(v[1]);
    const int32x4_t c = vreinterpretq_s32_s8(v[2]), d = vreinterpretq_s32_s8(v[3]);
    const int64x2_t ab0 = vreinterpretq_s64_s32(vtrn1q_s32(a, b));
    const int64x2_t ab1 = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    const int64x2_t cd0 = vreinterpretq_s64_s32(vtrn1q_s32(c, d));
    const int64x2_t cd1 = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    vst1q_s8(to, vreinterpretq_s8_s64(vtrn1q_s64(ab0, cd0)));
    vst1q_s8(to + STEP_BYTES, vreinterpretq_s8_s64(vtrn1q_s64(ab1, cd1)));
    vst1q_s8(to + 2 * STEP_BYTES, vreinterpretq_s8_s64(vtrn2q_s64(ab0, cd0)));
    vst1q_s8(to + 3 * STEP_BYTES, vreinterpretq_s8_s64(vtrn2q_s64(ab1, cd1)));
}

/* Up to sixteen columns of b[n][k]. */
static void pack_columns(const ek_matmul_params *p, const int8_t *b, int32_t columns, int8_t *to)
{
    for (int32_t k = 0; k < p->k; k += BLOCK, to += VECTOR_STEPS * STEP_BYTES)
        for (int32_t n = 0; n < TILE_N; n += 4) {
            int8x16_t v[4];
            UNROLL for (int i = 0; i < 4; i++)
                v[i] = n + i < columns ? load_block(b + (n + i) * (ptrdiff_t)p->k + k, p->k - k)
                                       : vdupq_n_s8(0);
            store_transposed(v, to + n * TILE_K);
        }
}

/* What the columns of a tile begin with. */
static void begin_columns(const ek_matmul_params *p, const int8_t *tile, int32_t steps,
                          int32_t *start)
{
    const uint32_t product = (uint32_t)p->k * (uint32_t)(p->a_zero * p->b_zero);
    const int32x4_t constant = vdupq_n_s32((int32_t)product);
    const int8x16_t ones = vdupq_n_s8(1);
    int32x4_t sum[4];
    UNROLL for (int i = 0; i < 4; i++) sum[i] = vdupq_n_s32(0);
    for (int32_t step = 0; step < steps; step++, tile += STEP_BYTES)
        UNROLL for (int i = 0; i < 4; i++)
            sum[i] = vdotq_s32(sum[i], vld1q_s8(tile + i * BLOCK), ones);
    UNROLL for (int i = 0; i < 4; i++)
        vst1q_s32(start + i * 4, vmlsq_n_s32(constant, sum[i], p->a_zero));
}

static void pack(const ek_matmul_params *p, const int8_t *b, const panel *to)
{
    int8_t *tile = to->tiles;
    for (int32_t n = 0; n < to->columns; n += TILE_N, tile += to->steps * STEP_BYTES) {
        const int32_t columns = to->columns - n, first = to->first + n;
        if (p->b_transposed)
            pack_columns(p, b + (ptrdiff_t)first * p->k, columns, tile);
        else
            pack_rows(p, b + first, columns, to->steps, tile);
        begin_columns(p, tile, to->steps, to->start + n);
    }
}

/* ---- The product ----------------------------------------------------------------------------- */

/* Rows of a; the values behind whole vectors are copied and filled up with zeros. */
typedef struct row_block {
    const int8_t *a;
    int8_t tail[ROWS][BLOCK];
    int32_t term[ROWS];
} row_block;

/* -zb * sum(a). */
static int32_t row_term(const ek_matmul_params *p, const int8_t *a, const int8_t *tail)
{
    const int8x16_t ones = vdupq_n_s8(1);
    int32x4_t sum = vdotq_s32(vdupq_n_s32(0), vld1q_s8(tail), ones);
    for (int32_t k = 0; k + BLOCK <= p->k; k += BLOCK)
        sum = vdotq_s32(sum, vld1q_s8(a + k), ones);
    return (int32_t)(0u - (uint32_t)vaddvq_s32(sum) * (uint32_t)p->b_zero);
}

static void begin_rows(row_block *block, const ek_matmul_params *p, const int8_t *a, int32_t rows)
{
    const int32_t tail = p->k % BLOCK;
    block->a = a;
    for (int32_t i = 0; i < rows; i++, a += p->k) {
        memset(block->tail[i], 0, BLOCK);
        memcpy(block->tail[i], a + p->k - tail, (size_t)tail);
        block->term[i] = row_term(p, a, block->tail[i]);
    }
}

typedef struct sums16 {
    int32x4_t v[4];
} sums16;

/* One vector of a row by the same steps of sixteen columns. */
INLINE sums16 multiply_add(sums16 s, int8x16_t a, const int8x16x4_t w, const int lane)
{
    UNROLL for (int i = 0; i < 4; i++)
        s.v[i] = lane == 0 ? vdotq_laneq_s32(s.v[i], w.val[i], a, 0)
            : lane == 1    ? vdotq_laneq_s32(s.v[i], w.val[i], a, 1)
            : lane == 2    ? vdotq_laneq_s32(s.v[i], w.val[i], a, 2)
                           : vdotq_laneq_s32(s.v[i], w.val[i], a, 3);
    return s;
}

/* `rows` rows, a constant, by sixteen columns, `count` of which are stored. */
INLINE void multiply_tile(const int rows, const ek_matmul_params *p, const row_block *block,
                          const int8_t *w, const int32_t *start, int32_t count, int8_t *y,
                          const requant *r)
{
    const int8_t *a[ROWS];
    sums16 s[ROWS];
    UNROLL for (int i = 0; i < rows; i++) {
        a[i] = block->a + i * (ptrdiff_t)p->k;
        UNROLL for (int j = 0; j < 4; j++)
            s[i].v[j] = vaddq_s32(vld1q_s32(start + 4 * j), vdupq_n_s32(block->term[i]));
    }
    for (int32_t k = p->k; k > 0; k -= BLOCK, w += VECTOR_STEPS * STEP_BYTES) {
        int8x16_t x[ROWS];
        UNROLL for (int i = 0; i < rows; i++) {
            x[i] = vld1q_s8(k >= BLOCK ? a[i] : block->tail[i]);
            a[i] += BLOCK;
        }
        UNROLL for (int lane = 0; lane < 4; lane++) {
            __asm__("" : "+r"(w)); /* or loads go ahead of sums until these are spilled */
            const int8x16x4_t v = vld1q_s8_x4(w + lane * STEP_BYTES);
            UNROLL for (int i = 0; i < rows; i++) s[i] = multiply_add(s[i], x[i], v, lane);
        }
    }
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    const float32x4_t multipliers[4] = {m, m, m, m};
    UNROLL for (int i = 0; i < rows; i++, y += p->n)
        store_block(y, ek_requantize16_neon(s[i].v, multipliers, r), count);
}

/* All columns of a panel. Kept out of line: in a larger function the registers do not suffice. */
#define MULTIPLY(rows)                                                                          \
    static __attribute__((noinline)) void multiply##rows(                                       \
        const ek_matmul_params *p, const row_block *block, const panel *columns, int8_t *y,     \
        const requant *r)                                                                       \
    {                                                                                           \
        const int8_t *tile = columns->tiles;                                                    \
        for (int32_t n = 0; n < columns->columns; n += TILE_N) {                                \
            multiply_tile(rows, p, block, tile, columns->start + n, columns->columns - n,       \
                          y + n, r);                                                            \
            tile += columns->steps * STEP_BYTES;                                                \
        }                                                                                       \
    }
MULTIPLY(1)
MULTIPLY(4)

static void multiply_rows(const ek_matmul_params *p, const int8_t *a, const panel *columns,
                          int8_t *y, int32_t rows, const requant *r)
{
    for (int32_t row = 0, count; row < rows; row += count) {
        row_block block;
        count = rows - row >= ROWS ? ROWS : 1;
        begin_rows(&block, p, a + (ptrdiff_t)row * p->k, count);
        if (count == ROWS)
            multiply4(p, &block, columns, y + (ptrdiff_t)row * p->n, r);
        else
            multiply1(p, &block, columns, y + (ptrdiff_t)row * p->n, r);
    }
}

size_t ek_matmul_dotprod_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    const size_t tile_bytes = (size_t)steps_of(p) * STEP_BYTES;
    return (size_t)panel_tiles(p) * (tile_bytes + TILE_N * sizeof(int32_t));
}

void ek_matmul_dotprod(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_matmul_params *p = params;
    const requant r = ek_requant_neon_init(&p->clamp);
    const int32_t tiles = panel_tiles(p);
    panel columns = {.tiles = scratch, .steps = steps_of(p)};
    columns.start = (int32_t *)(void *)(columns.tiles + tiles * columns.steps * STEP_BYTES);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int8_t *a = ek_product_a(p, in[0], row), *b = ek_product_b(p, in[1], row);
        rows = ek_product_rows(p, range, row);
        for (int32_t n = range->ch; n < range->ch_end; n += columns.columns) {
            columns.first = n;
            columns.columns = ek_min(range->ch_end - n, tiles * TILE_N);
            pack(p, b, &columns);
            multiply_rows(p, a, &columns, (int8_t *)out + (ptrdiff_t)row * p->n + n, rows, &r);
        }
    }
}
