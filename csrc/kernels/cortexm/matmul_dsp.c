/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations with dual 16-bit multiply-accumulates, two rows of a by two columns:
 * rows of a, less their zero point, are widened into scratch, b is widened as it lies, and its zero
 * point's term is added to each sum:
 *
 *     sum((a - za) * (b - zb)) = sum((a - za) * b) - zb * sum(a - za)
 *
 * A b[n][k] is read in place. A b[k][n] is transposed a panel of columns at a time, once for all
 * rows; rows are widened again for each panel. Sums wrap.
 */
#include <string.h>

#include "../kernels.h"
#include "../product.h"
#include "dsp.h"

#define STEP 4 /* values of a word */
#define ROWS 2
#define ROW_WORDS 2 /* of a step: values 0 and 2, values 1 and 3 */
#define STEP_WORDS (ROWS * ROW_WORDS)
#define PANEL_BYTES (4 << 10) /* of transposed columns */

/* Columns of b, `step` bytes apart. */
typedef struct panel {
    const int8_t *b;
    int32_t count;
    ptrdiff_t step;
} panel;

static int32_t steps_of(const ek_matmul_params *p)
{
    return ek_ceil_div(p->k, STEP);
}

/* That are transposed together. */
static int32_t panel_columns(const ek_matmul_params *p)
{
    return ek_max(ek_min(PANEL_BYTES / (steps_of(p) * STEP), p->n), 1);
}

/* Differences of halves. */
static inline uint32_t subtract(uint32_t a, uint32_t b)
{
    uint32_t y;
    __asm__("ssub16 %0, %1, %2" : "=r"(y) : "r"(a), "r"(b));
    return y;
}

/* Up to four values; behind them stands what `filler` has in its bytes. */
static inline uint32_t load_some(const int8_t *x, int32_t count, uint32_t filler)
{
    if (count >= STEP)
        return ek_dsp_load(x);
    memcpy(&filler, x, (size_t)count);
    return filler;
}

/* One row of a, less its zero point and filled up with zeros. -zb * sum(a - za) is returned. */
static uint32_t widen_row(const ek_matmul_params *p, const int8_t *a, uint32_t *to)
{
    const uint32_t filler = (uint32_t)(uint8_t)p->a_zero * 0x01010101u;
    const uint32_t zero = ek_dsp_even(filler), ones = 0x00010001u;
    uint32_t sum = 0;
    for (int32_t k = 0; k < p->k; k += STEP, to += STEP_WORDS) {
        const uint32_t word = load_some(a + k, p->k - k, filler);
        to[0] = subtract(ek_dsp_even(word), zero);
        to[1] = subtract(ek_dsp_odd(word), zero);
        sum = ek_dsp_pair(ek_dsp_pair(sum, to[0], ones), to[1], ones);
    }
    return 0u - sum * (uint32_t)p->b_zero;
}

/* Columns [first, first + count) of b[k][n], each at a word. */
static void transpose(const ek_matmul_params *p, const int8_t *b, int32_t first, int32_t count,
                      int8_t *to)
{
    const ptrdiff_t step = (ptrdiff_t)steps_of(p) * STEP;
    for (int32_t n = 0; n < count; n++, to += step) {
        const int8_t *x = b + first + n;
        for (int32_t k = 0; k < p->k; k++, x += p->n)
            to[k] = *x;
    }
}

/* Sums of two rows with two columns: [row][column]. */
typedef struct sums {
    uint32_t s00, s01, s10, s11;
} sums;

static inline __attribute__((always_inline)) void add_step(sums *s, const uint32_t *a,
                                                           uint32_t b0, uint32_t b1)
{
    const uint32_t even0 = ek_dsp_even(b0), odd0 = ek_dsp_odd(b0);
    const uint32_t even1 = ek_dsp_even(b1), odd1 = ek_dsp_odd(b1);
    s->s00 = ek_dsp_pair(ek_dsp_pair(s->s00, even0, a[0]), odd0, a[1]);
    s->s01 = ek_dsp_pair(ek_dsp_pair(s->s01, even1, a[0]), odd1, a[1]);
    s->s10 = ek_dsp_pair(ek_dsp_pair(s->s10, even0, a[2]), odd0, a[3]);
    s->s11 = ek_dsp_pair(ek_dsp_pair(s->s11, even1, a[2]), odd1, a[3]);
}

static sums multiply(const uint32_t *a, const int8_t *b0, const int8_t *b1, int32_t depth,
                     uint32_t term0, uint32_t term1)
{
    sums s = {term0, term0, term1, term1};
    for (const uint32_t *end = a + depth / STEP * STEP_WORDS; a != end; a += STEP_WORDS) {
        add_step(&s, a, ek_dsp_load(b0), ek_dsp_load(b1));
        b0 += STEP;
        b1 += STEP;
    }
    if (depth % STEP != 0)
        add_step(&s, a, load_some(b0, depth % STEP, 0), load_some(b1, depth % STEP, 0));
    return s;
}

/* Up to two rows of a with the columns of a panel. */
static void multiply_rows(const ek_matmul_params *p, const int8_t *a, int32_t rows,
                          const panel *columns, uint32_t *wide, int8_t *y)
{
    const int whole = ek_dsp_is_whole(&p->clamp);
    const uint32_t term0 = widen_row(p, a, wide);
    const uint32_t term1 = widen_row(p, rows > 1 ? a + p->k : a, wide + ROW_WORDS);
    for (int32_t n = 0; n < columns->count; n += 2) {
        const int32_t second = ek_min(n + 1, columns->count - 1);
        const sums s = multiply(wide, columns->b + n * columns->step,
                                columns->b + second * columns->step, p->k, term0, term1);
        y[n] = ek_dsp_requantize(s.s00, p->multiplier, &p->clamp, whole);
        y[second] = ek_dsp_requantize(s.s01, p->multiplier, &p->clamp, whole);
        if (rows > 1) {
            y[p->n + n] = ek_dsp_requantize(s.s10, p->multiplier, &p->clamp, whole);
            y[p->n + second] = ek_dsp_requantize(s.s11, p->multiplier, &p->clamp, whole);
        }
    }
}

size_t ek_matmul_dsp_scratch(const void *params)
{
    const ek_matmul_params *p = params;
    const size_t steps = (size_t)steps_of(p);
    const size_t copied = p->b_transposed ? 0 : (size_t)panel_columns(p) * steps * STEP;
    return steps * STEP_WORDS * sizeof(uint32_t) + copied;
}

void ek_matmul_dsp(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_matmul_params *p = params;
    uint32_t *const wide = scratch;
    int8_t *const copy = (int8_t *)(wide + (ptrdiff_t)steps_of(p) * STEP_WORDS);
    const int32_t at_once = p->b_transposed ? p->n : panel_columns(p);

    for (int32_t row = range->row, rows; row < range->row_end; row += rows) {
        const int8_t *a = ek_product_a(p, in[0], row), *b = ek_product_b(p, in[1], row);
        panel columns = {copy, 0, (ptrdiff_t)steps_of(p) * STEP};
        rows = ek_product_rows(p, range, row);
        for (int32_t n = range->ch; n < range->ch_end; n += columns.count) {
            int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n + n;
            columns.count = ek_min(range->ch_end - n, at_once);
            if (p->b_transposed) {
                columns.b = b + (ptrdiff_t)n * p->k;
                columns.step = p->k;
            } else {
                transpose(p, b, n, columns.count, copy);
            }
            for (int32_t i = 0; i < rows; i += ROWS)
                multiply_rows(p, a + (ptrdiff_t)i * p->k, rows - i, &columns, wide,
                              y + (ptrdiff_t)i * p->n);
        }
    }
}
