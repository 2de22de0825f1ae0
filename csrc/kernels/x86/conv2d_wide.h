/* SPDX-License-Identifier: Apache-2.0
 *
 * A block of a matrix product whose weights have been widened to int16 in scratch, the part of
 * conv2d_avx2.c and conv2d_sse41.c that does not depend on the width of vectors. A 32-bit lane
 * holds two steps of depth of one channel, so that there are no halves to add at the end; six
 * windows times two vectors of channels are summed in twelve registers.
 *
 * The including file has included vector.h for its set and pairs.h, and defined
 *
 *     COPIES                       of each pair of activations
 *     broadcast_copies(x)          a pair of which so many copies are stored, in every lane
 *     store_halves(bytes, a, b)    WIDE_N bytes each
 */
#define WIDE_N (2 * LANES) /* channels of a block */

/* WIDE_N channels. */
typedef struct wide_weights {
    const int16_t *w, *end; /* [depth / 2][WIDE_N][2], depth a multiple of 4 */
    const int32_t *start;
    const float *multiplier;
    int large; /* a multiplier may be 1 or more, so that a product may be 2^31 */
} wide_weights;

/* Four steps of depth of WIDE_N channels. */
INLINE void widen_weights(const int8_t *from, int16_t *to)
{
    v_store(to, v_half(from, 0));
    v_store(to + WIDE_N, v_half(from + 4 * LANES, 0));
    v_store(to + 2 * WIDE_N, v_half(from, 1));
    v_store(to + 3 * WIDE_N, v_half(from + 4 * LANES, 1));
}

/* WIDE_N channels of six windows that are `row` values apart, to out[0..5] + o. Loops over arrays
 * of vectors are written out: GCC would keep the arrays in memory. Kept out of line: in a larger
 * function the registers do not suffice. Aligned, as its loop may take 5 % longer elsewhere. */
static __attribute__((noinline, aligned(64))) void
multiply_wide(const wide_weights *weights, const int16_t *x, ptrdiff_t row, int8_t *const *out,
              int32_t o, const requant *r)
{
    const int16_t *w = weights->w, *const w_end = weights->end;
    const vint low = v_load(weights->start), high = v_load(weights->start + LANES);
    vint a0 = low, b0 = high, a1 = low, b1 = high, a2 = low, b2 = high;
    vint a3 = low, b3 = high, a4 = low, b4 = high, a5 = low, b5 = high;
    const int16_t *x3 = x + 3 * row;

#define WINDOW(i, from)                                  \
    {                                                    \
        const vint v = broadcast_copies(from);           \
        a##i = multiply_add(a##i, wa, v);                \
        b##i = multiply_add(b##i, wb, v);                \
    }
#define PAIR(i)                                                                                  \
    {                                                                                            \
        const vint wa = v_load16(w + (i) * 2 * WIDE_N), wb = v_load16(w + ((i) * 2 + 1) * WIDE_N); \
        WINDOW(0, x + (i) * 2 * COPIES)                                                          \
        WINDOW(1, x + row + (i) * 2 * COPIES)                                                    \
        WINDOW(2, x + 2 * row + (i) * 2 * COPIES)                                                \
        WINDOW(3, x3 + (i) * 2 * COPIES)                                                         \
        WINDOW(4, x3 + row + (i) * 2 * COPIES)                                                   \
        WINDOW(5, x3 + 2 * row + (i) * 2 * COPIES)                                               \
    }
    do {
        PAIR(0)
        PAIR(1)
        x += 4 * COPIES;
        x3 += 4 * COPIES;
        w += 4 * WIDE_N;
    } while (w != w_end);
#undef PAIR
#undef WINDOW

    /* Ends the accumulators' life in the loop: what follows must not make GCC spill them there. */
    __asm__ volatile(""
                     : "+x"(a0), "+x"(b0), "+x"(a1), "+x"(b1), "+x"(a2), "+x"(b2), "+x"(a3),
                       "+x"(b3), "+x"(a4), "+x"(b4), "+x"(a5), "+x"(b5));
    const vfloat ma = v_loadf(weights->multiplier), mb = v_loadf(weights->multiplier + LANES);
#define SCALE(i)                                        \
    vfloat y##i = v_mulf(v_to_float(a##i), ma);         \
    vfloat z##i = v_mulf(v_to_float(b##i), mb);
    SCALE(0) SCALE(1) SCALE(2) SCALE(3) SCALE(4) SCALE(5)
#undef SCALE
    if (weights->large) {
#define LIMIT(i)                         \
    y##i = v_limit_top(y##i, r);         \
    z##i = v_limit_top(z##i, r);
        LIMIT(0) LIMIT(1) LIMIT(2) LIMIT(3) LIMIT(4) LIMIT(5)
#undef LIMIT
    }
    vint y01 = v_pack_any4(y0, z0, y1, z1, r), y23 = v_pack_any4(y2, z2, y3, z3, r);
    vint y45 = v_pack_any4(y4, z4, y5, z5, r);
    if (r->clamps) {
        y01 = v_clamp_bytes(y01, r);
        y23 = v_clamp_bytes(y23, r);
        y45 = v_clamp_bytes(y45, r);
    }
    store_halves(y01, out[0] + o, out[1] + o);
    store_halves(y23, out[2] + o, out[3] + o);
    store_halves(y45, out[4] + o, out[5] + o);
}
