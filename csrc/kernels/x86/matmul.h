/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of matmul_sse41.c and matmul_avx2.c. Columns of b, less its zero point, are packed into
 * scratch as pairs of 16-bit numbers, two steps through k for LANES columns in a vector, so that
 * one multiply-add sums both; rows of a are widened there, too. Factors lie in [-255, 255], so a
 * pair of products is exact.
 */
#include "../kernels.h"
#include "../product.h"
#include "vector.h"

#define ROWS 4  /* rows of a that share a read of b */
#define TILES 2 /* vectors of columns that share a read of a */
#define PANEL_BYTES 131072 /* of packed columns: part of a second level cache */

/* Sums stay in registers only where no loop over them is left. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

static int32_t pairs_of(const ek_matmul_params *p)
{
    return p->k / 2 + p->k % 2;
}

static ptrdiff_t tile_size(const ek_matmul_params *p)
{
    return (ptrdiff_t)pairs_of(p) * 2 * LANES;
}

/* Tiles of columns that are packed together: at least TILES, and all that PANEL_BYTES hold. */
static int32_t panel_tiles(const ek_matmul_params *p)
{
    const ptrdiff_t fit = PANEL_BYTES / (ptrdiff_t)sizeof(int16_t) / tile_size(p) / TILES * TILES;
    return ek_min(ek_ceil_div(p->n, LANES), fit < TILES ? TILES : (int32_t)fit);
}

/* ---- Packing --------------------------------------------------------------------------------- */

/* Up to LANES columns of b[k][n]. The second half of a last pair meets a zero of a. */
static void pack_rows(const ek_matmul_params *p, const int8_t *b, int32_t count, int16_t *to)
{
    const vint b_zero = v_set16(p->b_zero);
    for (int32_t k = 0; k < p->k; k += 2, b += 2 * (ptrdiff_t)p->n, to += 2 * LANES) {
        const vbytes b0 = v_load_bytes_n(b, count);
        const vbytes b1 = k + 1 < p->k ? v_load_bytes_n(b + p->n, count) : b0;
        const vint pairs = v_sub16(v_pair(b0, b1), b_zero);
        memcpy(to, &pairs, sizeof pairs);
    }
}

/* Up to LANES rows of b[n][k]. */
static void pack_columns(const ek_matmul_params *p, const int8_t *b, int32_t count, int16_t *to)
{
    memset(to, 0, (size_t)tile_size(p) * sizeof *to);
    for (int32_t n = 0; n < count; n++, b += p->k)
        for (int32_t k = 0; k < p->k; k++)
            to[(k / 2 * LANES + n) * 2 + k % 2] = (int16_t)(b[k] - p->b_zero);
}

/* `columns` columns from `first` on. */
static void pack(const ek_matmul_params *p, const int8_t *b, int32_t first, int32_t columns,
                 int16_t *to)
{
    for (int32_t n = 0; n < columns; n += LANES, to += tile_size(p)) {
        const int32_t count = ek_min(columns - n, LANES);
        if (p->b_transposed)
            pack_columns(p, b + (ptrdiff_t)(first + n) * p->k, count, to);
        else
            pack_rows(p, b + first + n, count, to);
    }
}

/* a - a_zero of one row, filled up to whole pairs with zero. */
static void widen_row(const ek_matmul_params *p, const int8_t *a, int16_t *to)
{
    for (int32_t k = 0; k < p->k; k++)
        to[k] = (int16_t)(a[k] - p->a_zero);
    if (p->k % 2)
        to[p->k] = 0;
}

/* ---- The product ----------------------------------------------------------------------------- */

static inline vint load_pairs(const int16_t *from)
{
    vint pairs;
    memcpy(&pairs, from, sizeof pairs);
    return pairs;
}

static inline vint broadcast_pair(const int16_t *a)
{
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return v_set(pair);
}

/* `rows` rows (a constant) by `tiles` tiles (1 or 2), `count` columns of them. */
static inline __attribute__((always_inline)) void block(const int rows, const int tiles,
                                                        const ek_matmul_params *p,
                                                        const requant *r, const int16_t *a,
                                                        const int16_t *b, int32_t count, int8_t *y)
{
    const ptrdiff_t row = 2 * (ptrdiff_t)pairs_of(p), tile = tile_size(p);
    const vfloat multiplier = v_setf(p->multiplier);
    vint acc[ROWS][TILES];
    UNROLL for (int i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = v_set(0);
    for (int32_t k = 0; k < row; k += 2, b += 2 * LANES) {
        const vint b0 = load_pairs(b), b1 = load_pairs(b + (tiles - 1) * tile);
        UNROLL for (int i = 0; i < rows; i++) {
            const vint pair = broadcast_pair(a + i * row + k);
            acc[i][0] = v_add(acc[i][0], v_madd(b0, pair));
            if (tiles == 2)
                acc[i][1] = v_add(acc[i][1], v_madd(b1, pair));
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        int8_t *to = y + (ptrdiff_t)i * p->n;
        v_store_i8_n(to, v_requantize(acc[i][0], multiplier, r), r, count);
        if (tiles == 2)
            v_store_i8_n(to + LANES, v_requantize(acc[i][1], multiplier, r), r, count - LANES);
    }
}

/* All `columns` packed columns of `rows` (a constant) rows, which are widened first. */
static inline __attribute__((always_inline)) void multiply(const int rows,
                                                           const ek_matmul_params *p,
                                                           const requant *r,
                                                           const int8_t *rows_of_a,
                                                           int16_t *a, const int16_t *b,
                                                           int32_t columns, int8_t *y)
{
    int32_t n = 0;
    for (int i = 0; i < rows; i++)
        widen_row(p, rows_of_a + (ptrdiff_t)i * p->k, a + 2 * i * (ptrdiff_t)pairs_of(p));
    for (; columns - n > LANES; n += TILES * LANES)
        block(rows, 2, p, r, a, b + n / LANES * tile_size(p), columns - n, y + n);
    if (n < columns)
        block(rows, 1, p, r, a, b + n / LANES * tile_size(p), columns - n, y + n);
}

static void multiply_rows(const ek_matmul_params *p, const requant *r, const int8_t *a,
                          int16_t *widened, const int16_t *packed, int32_t rows, int32_t columns,
                          int8_t *y)
{
    int32_t i = 0;
    for (; i + ROWS <= rows; i += ROWS)
        multiply(ROWS, p, r, a + (ptrdiff_t)i * p->k, widened, packed, columns,
                 y + (ptrdiff_t)i * p->n);
    for (; i < rows; i++)
        multiply(1, p, r, a + (ptrdiff_t)i * p->k, widened, packed, columns,
                 y + (ptrdiff_t)i * p->n);
}

size_t VECTOR_NAME_WITH(ek_matmul, scratch)(const void *params)
{
    const ek_matmul_params *p = params;
    const size_t packed = (size_t)panel_tiles(p) * (size_t)tile_size(p);
    return (packed + 2 * (size_t)ROWS * (size_t)pairs_of(p)) * sizeof(int16_t);
}

void VECTOR_NAME(ek_matmul)(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    const ek_matmul_params *p = params;
    const requant r = requant_init(&p->clamp);
    const int32_t panel = panel_tiles(p) * LANES;
    int16_t *packed = scratch, *widened = packed + panel / LANES * tile_size(p);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int8_t *a = ek_product_a(p, in[0], row), *b = ek_product_b(p, in[1], row);
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n;
        rows = ek_product_rows(p, range, row);
        for (int32_t n = range->ch; n < range->ch_end; n += panel) {
            const int32_t columns = ek_min(range->ch_end - n, panel);
            pack(p, b, n, columns, packed);
            multiply_rows(p, &r, a, widened, packed, rows, columns, y + n);
        }
    }
}
