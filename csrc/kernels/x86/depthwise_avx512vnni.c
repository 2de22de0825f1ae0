/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution with vpdpbusd: the four products of a lane are two taps of a column and two
 * more, of the same column or of another one.
 *
 * Channels are computed in chunks of up to 64. Input rows go to scratch in pairs: the bytes of two
 * rows alternate, made unsigned, with the padding in place and columns apart by the stride's
 * remainder. There an output row is a flat array, and two taps of it are the same array shifted by
 * whole pixels. Two unpacks join 32 bytes of any two such arrays to two vectors of 16 lanes: a step
 * of the sums. Two output rows below each other use the same vectors, with weights that are shifted
 * by one row, and the next output rows use some of the pairs again.
 *
 * The lanes of a unit, 32 bytes of an output row, are channels and pixels of the chunk. Where its
 * pitch does not divide 32, they differ from the next unit's, with a period of `sets` units.
 *
 * Layers whose rows would mostly be columns that no window reads, for their strides or dilations,
 * are left to other kernels, so that a small file cannot ask for any amount of scratch.
 */
#include "../kernels.h"
#include "../window.h"
#include "vnni_avx512.h"

#define CHUNK 64   /* channels, and bytes of a vector */
#define UNIT 32    /* bytes of an output row that are summed together */
#define HALVES 2   /* vectors of sums of a unit */
#define MAX_SETS 7 /* pitches are below 8, or multiples of 8 up to 64 */
#define MAX_TAPS 64 /* of a dimension; larger windows are left to others */
#define SPARE_COLUMNS 64 /* that a row may hold beside twice as many as the windows' taps */

/* Lane 4 * l + i of half q of a unit is byte 8 * l + 4 * q + i: so unpacks put them. */

/* How the pixels of a row come to vectors of 64 bytes. */
typedef enum gathering {
    GATHER_ALL,  /* they lie so */
    GATHER_EVEN, /* every second one of pixels that lie so, of 8, 16 or 32 bytes */
    GATHER_64,   /* pixels of up to so many bytes, any distance apart */
    GATHER_32,
    GATHER_16,
    GATHER_COPY  /* copied to scratch first, where they lie as GATHER_ALL wants them */
} gathering;

/* A call's constants for chunks of one size. */
typedef struct depthwise_shape {
    int32_t channels, pitch; /* bytes of a pixel, and from one pixel to the next */
    int32_t sets;
    int32_t out_rows;        /* 2 where neighbours share their input rows, else 1 */
    int32_t pairs;           /* of input rows that they read */
    int32_t steps;           /* of two pairs of taps */
    int shares;              /* the next output rows read the last pairs again */
    int32_t planes;          /* of columns with the same remainder */
    int32_t plane_columns;
    ptrdiff_t plane_bytes, row_bytes; /* of one row */
    ptrdiff_t set_bytes;     /* of weights */
    gathering gathering;
} depthwise_shape;

/* What a set of lanes needs beside its weights. */
typedef struct lane_params {
    __m512i start[HALVES];
    __m512 multiplier[HALVES];
} lane_params;

static int32_t pitch_of(int32_t channels)
{
    const int32_t few = channels > 2 ? 4 : channels;
    return channels <= 4 ? few : (channels + 7) / 8 * 8;
}

static int32_t sets_of(int32_t pitch)
{
    int32_t common = 1;
    while (common < UNIT && pitch % (2 * common) == 0)
        common *= 2;
    return pitch / common;
}

static gathering gathering_of(const ek_conv_params *p, int32_t channels, int32_t pitch)
{
    const int full = channels == pitch && p->in.w_stride == pitch;
    if (full && p->stride_w == 1)
        return GATHER_ALL;
    if (full && p->stride_w == 2 && (pitch == 8 || pitch == 16 || pitch == 32))
        return GATHER_EVEN;
    switch (pitch) {
    case 64: return GATHER_64;
    case 32: return GATHER_32;
    case 16: return GATHER_16;
    default: return GATHER_COPY;
    }
}

static depthwise_shape shape_of(const ek_conv_params *p, int32_t channels, int32_t columns)
{
    depthwise_shape s;
    s.channels = channels;
    s.pitch = pitch_of(channels);
    s.sets = sets_of(s.pitch);
    s.out_rows = p->stride_h == 1 && p->dilation_h == 1 ? 2 : 1;
    s.pairs = ek_ceil_div(p->kernel_h + s.out_rows - 1, 2);
    s.steps = ek_ceil_div(s.pairs * p->kernel_w, 2);
    s.shares = p->dilation_h == 1 && p->stride_h <= 2;
    s.planes = p->kernel_w == 1 ? 1 : p->stride_w;
    s.plane_columns = columns + (p->kernel_w - 1) * p->dilation_w / p->stride_w;
    s.plane_bytes = (ptrdiff_t)s.plane_columns * s.pitch;
    s.row_bytes = (s.planes * s.plane_bytes + s.sets * UNIT + 2 * CHUNK - 1) / CHUNK * CHUNK;
    s.set_bytes = (ptrdiff_t)s.steps * s.out_rows * HALVES * CHUNK;
    s.gathering = gathering_of(p, channels, s.pitch);
    return s;
}

/* Lane parameters and weights of all sets, pairs of input rows, a pair of padding, two rows of
 * outputs or of copied pixels, where the pairs of taps begin. */
static size_t shape_scratch(const depthwise_shape *s)
{
    return (size_t)s->sets * (sizeof(lane_params) + (size_t)s->set_bytes)
        + (size_t)(2 * s->pairs + 4) * (size_t)s->row_bytes
        + (size_t)s->steps * 2 * sizeof(const uint8_t *);
}

/* ---- Pairs ----------------------------------------------------------------------------------- */

/* The order of 8-byte parts in which unpacks make a flat array. */
INLINE __m512i unpack_order(void)
{
    return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
}

/* 64 bytes of two rows, in that order. */
INLINE void join(__m512i a, __m512i b, __m512i pairs[2])
{
    pairs[0] = _mm512_unpacklo_epi8(a, b);
    pairs[1] = _mm512_unpackhi_epi8(a, b);
}

/* A unit of two pairs of rows. */
INLINE void interleave(__m512i ab, __m512i cd, __m512i halves[HALVES])
{
    halves[0] = _mm512_unpacklo_epi16(ab, cd);
    halves[1] = _mm512_unpackhi_epi16(ab, cd);
}

/* The same of a pair and another one in memory. The empty statement keeps GCC from loading the
 * second one twice, as an operand of both unpacks. */
INLINE void load_interleaved(const uint8_t *ab, const uint8_t *cd, __m512i halves[HALVES])
{
    __m512i second = load64(cd);
    __asm__("" : "+v"(second));
    interleave(load64(ab), second, halves);
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* 64 bytes of pixels whose channels are `pixel`, the first of which is channel `first`; zero
 * between pixels. */
static __m512i repeat_pixel(const depthwise_shape *s, __m512i pixel, int32_t first)
{
    int8_t bytes[2 * CHUNK];
    switch (s->pitch) {
    case 64: return pixel;
    case 32: return _mm512_shuffle_i64x2(pixel, pixel, 0x44);
    case 16: return _mm512_shuffle_i64x2(pixel, pixel, 0);
    case 8: return _mm512_broadcastq_epi64(_mm512_castsi512_si128(pixel));
    default: break;
    }
    _mm512_storeu_si512(bytes, pixel);
    const __m512i rest = _mm512_maskz_loadu_epi8(low_bits(s->pitch - first), bytes + first);
    _mm512_storeu_si512(bytes, rest);
    for (int32_t at = s->pitch - first; at < CHUNK; at += s->pitch)
        _mm512_storeu_si512(bytes + at, pixel);
    return load64(bytes);
}

/* The weights of column `kw` for two sets, of which the first begins with channel `first`: pairs of
 * taps, for the steps that they belong to. Output row 1 has tap 0 in its second input row. */
static void prepare_column(const ek_conv_params *p, const depthwise_shape *s, int32_t ch,
                           int32_t first, int32_t kw, int8_t *const sets[2])
{
    const __m512i none = _mm512_setzero_si512();
    __m512i taps[MAX_TAPS + 3]; /* the first tap and what follows the last one do not exist */
    taps[0] = taps[p->kernel_h + 1] = taps[p->kernel_h + 2] = none;
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int8_t *w = p->weights.data + (ptrdiff_t)(kh * p->kernel_w + kw) * p->out.c + ch;
        const __m512i pixel = _mm512_maskz_loadu_epi8(low_bits(s->channels), w);
        taps[kh + 1] = _mm512_permutexvar_epi64(unpack_order(), repeat_pixel(s, pixel, first));
    }
    for (int32_t i = 0; i < s->pairs; i++)
        for (int32_t row = 0; row < s->out_rows; row++) {
            const int32_t half = kw * s->pairs + i, tap = 2 * i + 1 - row;
            const ptrdiff_t at = ((half / 2 * s->out_rows + row) * HALVES + half % 2) * CHUNK;
            __m512i pairs[2];
            join(taps[tap], taps[tap + 1], pairs);
            _mm512_storeu_si512(sets[1] + at, pairs[1]); /* the second may be no other */
            _mm512_storeu_si512(sets[0] + at, pairs[0]);
        }
}

/* Values of a unit, in the order of half q. */
INLINE __m512i half_of(const void *values, int32_t q)
{
    const __m128i *at = (const __m128i *)values + q;
    const __m256i low = _mm256_set_m128i(_mm_loadu_si128(at + 2), _mm_loadu_si128(at));
    const __m256i high = _mm256_set_m128i(_mm_loadu_si128(at + 6), _mm_loadu_si128(at + 4));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Joins the pairs of taps of each step, and sums them: sums of outputs begin where the 128 that was
 * added to each activation makes no difference. Whether a multiplier is 1 or more. */
static int prepare_lanes(const ek_conv_params *p, const depthwise_shape *s, int32_t ch,
                         int32_t set, int8_t *weights, lane_params *to)
{
    const int32_t first = set * UNIT % s->pitch;
    const int32_t *start = p->start + ch + first;
    const float *multiplier = p->multiplier + ch + first;
    __m512i sum[HALVES] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    int32_t starts[UNIT];
    float multipliers[UNIT];
    int large = 0;
    if (s->channels % UNIT != 0) {
        for (int32_t i = 0, c = first; i < UNIT; i++) {
            starts[i] = c < s->channels ? p->start[ch + c] : 0;
            multipliers[i] = c < s->channels ? p->multiplier[ch + c] : 0;
            c = c + 1 == s->pitch ? 0 : c + 1;
        }
        start = starts;
        multiplier = multipliers;
    }
    for (int32_t t = 0; t < s->steps; t++)
        for (int32_t row = 0; row < s->out_rows; row++, weights += HALVES * CHUNK) {
            __m512i halves[HALVES];
            interleave(load64(weights), load64(weights + CHUNK), halves);
            UNROLL for (int q = 0; q < HALVES; q++) {
                _mm512_storeu_si512(weights + q * CHUNK, halves[q]);
                if (row == 0)
                    sum[q] = dot4(sum[q], _mm512_set1_epi8(1), halves[q]);
            }
        }
    UNROLL for (int q = 0; q < HALVES; q++) {
        to->start[q] = _mm512_sub_epi32(half_of(start, q), _mm512_slli_epi32(sum[q], 7));
        to->multiplier[q] = _mm512_castsi512_ps(half_of(multiplier, q));
        large |= _mm512_cmp_ps_mask(to->multiplier[q], _mm512_set1_ps(1), _CMP_GE_OQ) != 0;
    }
    return large;
}

/* Weights of all sets, [set][step][output row][half], and their lane parameters. Whether a
 * multiplier is 1 or more. */
static int prepare_sets(const ek_conv_params *p, const depthwise_shape *s, int32_t ch,
                        int8_t *weights, lane_params *lanes)
{
    const ptrdiff_t lone = s->set_bytes - s->out_rows * HALVES * CHUNK + CHUNK;
    int large = 0;
    for (int32_t set = 0; set < s->sets; set += 2) {
        int8_t *const first = weights + set * s->set_bytes;
        int8_t *const both[2] = {first, set + 1 < s->sets ? first + s->set_bytes : first};
        for (int32_t kw = 0; kw < p->kernel_w; kw++)
            prepare_column(p, s, ch, set * UNIT % s->pitch, kw, both);
    }
    for (int32_t set = 0; set < s->sets; set++, weights += s->set_bytes) {
        if (s->pairs * p->kernel_w % 2 != 0) /* the last step has no second pair */
            for (int32_t row = 0; row < s->out_rows; row++)
                _mm512_storeu_si512(weights + lone + row * HALVES * CHUNK, _mm512_setzero_si512());
        large |= prepare_lanes(p, s, ch, set, weights, lanes + set);
    }
    return large;
}

/* ---- Input rows ------------------------------------------------------------------------------ */

/* Fills at least `count` bytes and up to CHUNK - 1 more. */
INLINE void fill(uint8_t *to, __m512i value, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i += CHUNK)
        _mm512_storeu_si512(to + i, value);
}

/* Some pixels of a row. */
typedef struct pixels {
    const int8_t *x;
    ptrdiff_t step; /* from one to the next */
    ptrdiff_t next; /* from one vector of them to the next; 0: all are as the first ones */
} pixels;

/* What stays the same while rows are paired. */
typedef struct pairing {
    gathering how;
    int32_t pitch;
    __mmask64 pixel;
    ptrdiff_t step, next; /* as in pixels */
    __m512i order; /* of 8-byte parts: of the pixels that count, then of unpacks */
} pairing;

static pairing pairing_of(const ek_conv_params *p, const depthwise_shape *s)
{
    const ptrdiff_t step = (ptrdiff_t)p->stride_w * p->in.w_stride;
    const int32_t per_vector = ek_max(CHUNK / s->pitch, 1);
    int64_t parts[8];
    pairing g = {s->gathering, s->pitch, low_bits(s->channels), step, per_vector * step,
                 unpack_order()};
    if (g.how == GATHER_ALL)
        g.next = CHUNK;
    if (g.how != GATHER_EVEN)
        return g;
    g.next = 2 * CHUNK;
    _mm512_storeu_si512(parts, g.order);
    for (int32_t i = 0; i < 8; i++) {
        const int32_t byte = 8 * (int32_t)parts[i];
        parts[i] = (byte + byte / s->pitch * s->pitch) / 8;
    }
    g.order = load64(parts);
    return g;
}

/* Two pixels, or one; `left` is how many bytes of a row are to come. */
INLINE __m512i gather_32(const pixels *from, int32_t left, __mmask64 pixel)
{
    const __mmask32 mask = (__mmask32)pixel;
    const __m256i a = _mm256_maskz_loadu_epi8(mask, from->x);
    const __m256i b = _mm256_maskz_loadu_epi8(left > 32 ? mask : 0, from->x + from->step);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/* Up to four pixels. */
INLINE __m512i gather_16(const pixels *from, int32_t left, __mmask64 pixel)
{
    const __mmask16 mask = (__mmask16)pixel;
    const __m128i a = _mm_maskz_loadu_epi8(mask, from->x);
    const __m128i b = _mm_maskz_loadu_epi8(left > 16 ? mask : 0, from->x + from->step);
    const __m128i c = _mm_maskz_loadu_epi8(left > 32 ? mask : 0, from->x + 2 * from->step);
    const __m128i d = _mm_maskz_loadu_epi8(left > 48 ? mask : 0, from->x + 3 * from->step);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(b, a)),
                              _mm256_set_m128i(d, c), 1);
}

/* The first `count` bytes; `all`, a constant: 64 are there. */
INLINE __m512i load_some(const int all, const int8_t *from, int32_t count)
{
    return all ? load64(from) : _mm512_maskz_loadu_epi8(low_bits(ek_max(count, 0)), from);
}

/* The next 64 bytes of `left` ones, or all of them, in the order of unpacks. `how` is a constant,
 * and so is `inner`: more than 64 are left. Behind the last pixel of an image may be nothing. */
INLINE __m512i gather(const gathering how, const int inner, const pixels *from, int32_t left,
                      const pairing *g)
{
    if (how == GATHER_EVEN) {
        const int32_t bytes = 2 * left - g->pitch;
        return _mm512_permutex2var_epi64(load_some(inner, from->x, bytes), g->order,
                                         load_some(inner, from->x + CHUNK, bytes - CHUNK));
    }
    const __m512i v = how == GATHER_64   ? _mm512_maskz_loadu_epi8(g->pixel, from->x)
                      : how == GATHER_32 ? gather_32(from, inner ? CHUNK : left, g->pixel)
                      : how == GATHER_16 ? gather_16(from, inner ? CHUNK : left, g->pixel)
                                         : load_some(inner, from->x, left);
    return _mm512_permutexvar_epi64(g->order, v);
}

/* 64 bytes of two rows, alternating and unsigned. */
INLINE void pair_vectors(const gathering how, const int inner, const pairing *g, uint8_t *to,
                         const pixels *a, const pixels *b, int32_t left)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    __m512i pairs[2];
    join(_mm512_xor_si512(gather(how, inner, a, left, g), flip),
         _mm512_xor_si512(gather(how, inner, b, left, g), flip), pairs);
    _mm512_storeu_si512(to, pairs[0]);
    _mm512_storeu_si512(to + CHUNK, pairs[1]);
}

/* `bytes` bytes of two rows, and up to CHUNK - 1 more of each. */
INLINE void pair_gathered(const gathering how, const pairing *g, uint8_t *to, pixels a, pixels b,
                          int32_t bytes)
{
    const pairing local = {how, g->pitch, g->pixel, g->step, g->next, g->order};
    int32_t left = bytes;
    for (; left > CHUNK; left -= CHUNK, to += 2 * CHUNK) {
        pair_vectors(how, 1, &local, to, &a, &b, left);
        a.x += a.next;
        b.x += b.next;
    }
    if (left > 0)
        pair_vectors(how, 0, &local, to, &a, &b, left);
}

INLINE void pair_pixels(const pairing *g, uint8_t *to, pixels a, pixels b, int32_t bytes)
{
    switch (g->how) {
    case GATHER_EVEN: pair_gathered(GATHER_EVEN, g, to, a, b, bytes); break;
    case GATHER_64: pair_gathered(GATHER_64, g, to, a, b, bytes); break;
    case GATHER_32: pair_gathered(GATHER_32, g, to, a, b, bytes); break;
    case GATHER_16: pair_gathered(GATHER_16, g, to, a, b, bytes); break;
    default: pair_gathered(GATHER_ALL, g, to, a, b, bytes);
    }
}

/* Copies `count` pixels beside each other, in vectors of 16, 32 or 64 bytes: wider ones than a
 * pixel would straddle cache lines. */
static pixels copy_pixels(const depthwise_shape *s, int8_t *to, pixels from, int32_t count)
{
    const __mmask64 pixel = low_bits(s->channels);
    const pixels copied = {to, s->pitch, CHUNK};
    if (from.next == 0)
        return from;
    for (; count > 0; count--, from.x += from.step, to += s->pitch)
        if (s->pitch <= 16)
            _mm_storeu_si128((__m128i *)(void *)to, _mm_maskz_loadu_epi8((__mmask16)pixel, from.x));
        else if (s->pitch <= 32)
            _mm256_storeu_si256((__m256i *)(void *)to,
                                _mm256_maskz_loadu_epi8((__mmask32)pixel, from.x));
        else
            _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(pixel, from.x));
    return copied;
}

/* Pairs of input rows in scratch, in a ring; where output rows do not share them, all are made for
 * each window. */
typedef struct pair_cache {
    const int8_t *outside; /* 2 * CHUNK bytes of x_zero */
    uint8_t *pairs, *outside_pair;
    int8_t *copies;        /* of pixels of two rows */
    const pairing *pairing;
    int32_t first;         /* where the next window's first pair stands */
    int32_t made;          /* how many of the next window's pairs are there */
    int outside_made;
} pair_cache;

/* Columns w, w + stride, ... of an input row; `x` is its first column, or null outside. */
INLINE pixels columns_of(const ek_conv_params *p, const pair_cache *cache, const int8_t *x,
                         int32_t w)
{
    if (x == NULL)
        return (pixels){cache->outside, 0, 0};
    return (pixels){x + (ptrdiff_t)w * p->in.w_stride, cache->pairing->step, cache->pairing->next};
}

/* Which of the columns w, w + stride, ... are inside; the commonest strides need no division. */
INLINE ek_taps columns_inside(int32_t w, int32_t columns, int32_t stride, int32_t size)
{
    if (stride == 2)
        return ek_taps_inside(w, columns, 2, size);
    if (stride != 1)
        return ek_taps_inside(w, columns, stride, size);
    const int32_t end = ek_max(ek_min(columns, size - w), 0);
    const ek_taps taps = {ek_min(ek_max(-w, 0), end), end};
    return taps;
}

/* Pairs columns w, w + stride, ... of two rows; writes up to CHUNK - 1 bytes more of each. */
static void pair_plane(const ek_conv_params *p, const depthwise_shape *s, const pair_cache *cache,
                       uint8_t *to, const int8_t *const rows[2], int32_t w)
{
    const __m512i outside = _mm512_set1_epi8((char)(p->x_zero + 128));
    const ek_taps inside = columns_inside(w, s->plane_columns, p->stride_w, p->in.w);
    const int32_t first = w + inside.first * p->stride_w, count = inside.end - inside.first;
    const ptrdiff_t pixel = 2 * (ptrdiff_t)s->pitch;
    pixels a = columns_of(p, cache, rows[0], first), b = columns_of(p, cache, rows[1], first);
    fill(to, outside, inside.first * pixel);
    if (s->gathering == GATHER_COPY) {
        a = copy_pixels(s, cache->copies, a, count);
        b = copy_pixels(s, cache->copies + s->row_bytes, b, count);
    }
    pair_pixels(cache->pairing, to + inside.first * pixel, a, b, count * s->pitch);
    fill(to + inside.end * pixel, outside, (s->plane_columns - inside.end) * pixel);
}

/* The address of a pair that lies outside the input. */
static const uint8_t *outside_pair(const ek_conv_params *p, const depthwise_shape *s,
                                   pair_cache *cache)
{
    if (!cache->outside_made)
        fill(cache->outside_pair, _mm512_set1_epi8((char)(p->x_zero + 128)), 2 * s->row_bytes);
    cache->outside_made = 1;
    return cache->outside_pair;
}

/* Addresses of the pairs that output row `oh` and perhaps the next one read; missing ones are
 * made. Calls follow each other from output rows to the next ones. */
static void find_pairs(const ek_conv_params *p, const depthwise_shape *s, pair_cache *cache,
                       const int8_t *image, int32_t oh, int32_t col, const uint8_t **pairs)
{
    const int32_t h = oh * p->stride_h - p->pad_top, w = col * p->stride_w - p->pad_left;
    int32_t place = cache->first;
    for (int32_t i = 0; i < s->pairs; i++) {
        uint8_t *const pair = cache->pairs + 2 * place * s->row_bytes;
        const int8_t *rows[2];
        place = place + 1 == s->pairs ? 0 : place + 1;
        for (int32_t k = 0; k < 2; k++) {
            const int32_t ih = h + (2 * i + k) * p->dilation_h;
            const int inside = ih >= 0 && ih < p->in.h;
            rows[k] = inside ? image + (ptrdiff_t)ih * p->in.h_stride : NULL;
        }
        const int empty = rows[0] == NULL && rows[1] == NULL;
        pairs[i] = empty ? outside_pair(p, s, cache) : pair;
        for (int32_t plane = 0; plane < s->planes && !empty && i >= cache->made; plane++)
            pair_plane(p, s, cache, pair + 2 * plane * s->plane_bytes, rows, w + plane);
    }
    if (!s->shares)
        return;
    cache->first = cache->first + 1 == s->pairs ? 0 : cache->first + 1;
    cache->made = s->pairs - 1;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

/* The units of a set in an output row. */
typedef struct unit_walk {
    int32_t count;
    __mmask32 last; /* the bytes that the last one has */
} unit_walk;

static unit_walk units_of(const depthwise_shape *s, int32_t bytes, int32_t set)
{
    const int32_t rest = ek_max(ek_ceil_div(bytes, UNIT) - set, 0);
    const int32_t count = s->sets == 1 ? rest : (rest + s->sets - 1) / s->sets;
    const int32_t before = (set + (count - 1) * s->sets) * UNIT;
    return (unit_walk){count, (__mmask32)low_bits(bytes - before)};
}

INLINE __mmask32 unit_mask(const unit_walk *walk, int32_t k)
{
    return k + 1 < walk->count ? ~(__mmask32)0 : k + 1 == walk->count ? walk->last : 0;
}

/* One output row, or two: where its bytes go, and what they are made of. */
typedef struct row_job {
    const uint8_t *const *taps; /* [2 * steps]: pairs of taps of the first output byte */
    const int8_t *weights;
    const lane_params *lanes;
    unit_walk walks[MAX_SETS];
    int8_t *out[2];
    ptrdiff_t out_step;     /* from one unit to the next one of the same set */
    ptrdiff_t apart;        /* from one pixel of a unit to the other, or 0 */
} row_job;

/* Up to UNIT bytes of an output row. */
typedef struct unit {
    int8_t *y;
    __mmask32 mask;
} unit;

/* Pixels of 16 channels, two to a unit, are `apart` bytes apart, and 0 says that bytes follow each
 * other. Few units need a mask. */
INLINE void store_unit(unit to, ptrdiff_t apart, __m256i v)
{
    if (apart != 0) {
        if (to.mask != 0)
            _mm_storeu_si128((__m128i *)(void *)to.y, _mm256_castsi256_si128(v));
        if (to.mask == ~(__mmask32)0)
            _mm_storeu_si128((__m128i *)(void *)(to.y + apart), _mm256_extracti128_si256(v, 1));
    } else if (to.mask == ~(__mmask32)0) {
        _mm256_storeu_si256((__m256i *)(void *)to.y, v);
    } else if (to.mask != 0) {
        _mm256_mask_storeu_epi8(to.y, to.mask, v);
    }
}

/* The bytes of two units with the same lanes. `small`, a constant: every multiplier is below 1. */
INLINE __m512i requantize_units(const int small, __m512i acc[2][HALVES],
                                const __m512 multiplier[HALVES], const requant *r)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i y[4];
    UNROLL for (int i = 0; i < 4; i++)
        y[i] = small ? ek_requantize_small(acc[i / HALVES][i % HALVES], multiplier[i % HALVES])
                     : ek_requantize_top(acc[i / HALVES][i % HALVES], multiplier[i % HALVES], r);
    return _mm512_permutexvar_epi64(order, ek_pack64_lanes(y[0], y[1], y[2], y[3], r));
}

INLINE void store_units(__m512i both, unit a, unit b, ptrdiff_t apart)
{
    store_unit(a, apart, _mm512_castsi512_si256(both));
    store_unit(b, apart, _mm512_extracti64x4_epi64(both, 1));
}

INLINE void move(__m512i to[HALVES], const __m512i from[HALVES])
{
    UNROLL for (int q = 0; q < HALVES; q++) to[q] = from[q];
}

/* Two pairs of rows and three columns, as 3x3 windows have: their weights stay in registers along a
 * row. */
typedef struct row_3x3 {
    const uint8_t *x0, *x1; /* the pairs */
    ptrdiff_t columns[3];   /* from the first one */
    ptrdiff_t next;         /* to the next unit of the set */
} row_3x3;

/* Column `i` of the next unit but `unit`. */
INLINE void load_column(const row_3x3 *row, int i, int unit, __m512i x[HALVES])
{
    const ptrdiff_t at = row->columns[i] + unit * row->next;
    load_interleaved(row->x0 + at, row->x1 + at, x);
}

INLINE void sum_columns(__m512i acc[HALVES], const __m512i a[HALVES], const __m512i b[HALVES],
                        const __m512i c[HALVES], const __m512i weights[3][HALVES])
{
    UNROLL for (int q = 0; q < HALVES; q++) acc[q] = dot4(acc[q], a[q], weights[0][q]);
    UNROLL for (int q = 0; q < HALVES; q++) acc[q] = dot4(acc[q], b[q], weights[1][q]);
    UNROLL for (int q = 0; q < HALVES; q++) acc[q] = dot4(acc[q], c[q], weights[2][q]);
}

/* Two output rows, or two units of one, at a time; `out_rows` is a constant. So is `slides`: the
 * windows of the next units share columns with these, with a stride of one (which two rows have)
 * the last two, with a stride of two the last one. */
INLINE void sum_3x3(const int out_rows, const int slides, const depthwise_shape *s,
                    const row_job *job, int32_t set, const requant *r)
{
    const int units = 2 / out_rows;
    const unit_walk walk = job->walks[set];
    const lane_params *lanes = job->lanes + set;
    const requant local = *r;
    const int8_t *w = job->weights + set * s->set_bytes;
    const ptrdiff_t out_step = job->out_step, apart = job->apart;
    int8_t *y0 = job->out[0] + set * UNIT;
    int8_t *y1 = out_rows == 2 ? job->out[1] + set * UNIT : y0 + out_step;
    row_3x3 row = {job->taps[0] + set * (2 * UNIT), job->taps[1] + set * (2 * UNIT),
                   {0, job->taps[2] - job->taps[0], job->taps[4] - job->taps[0]},
                   s->sets * (2 * UNIT)};
    __m512i start[HALVES], weights[2][3][HALVES], a[HALVES], b[HALVES], c[HALVES], d[HALVES];
    __m512 multiplier[HALVES];
    UNROLL for (int q = 0; q < HALVES; q++) start[q] = lanes->start[q];
    UNROLL for (int q = 0; q < HALVES; q++) multiplier[q] = lanes->multiplier[q];
    UNROLL for (int i = 0; i < out_rows; i++)
        UNROLL for (int t = 0; t < 3; t++)
            UNROLL for (int q = 0; q < HALVES; q++)
                weights[i][t][q] = load64(w + ((t * s->out_rows + i) * HALVES + q) * CHUNK);
    if (slides)
        load_column(&row, 0, 0, a);
    if (slides && out_rows == 2)
        load_column(&row, 1, 0, b);
    for (int32_t k = 0; k < walk.count; k += units) {
        __m512i acc[2][HALVES];
        move(acc[0], start);
        move(acc[1], start);
        if (!slides)
            load_column(&row, 0, 0, a);
        if (!slides || out_rows == 1)
            load_column(&row, 1, 0, b);
        load_column(&row, 2, 0, c);
        sum_columns(acc[0], a, b, c, weights[0]);
        if (out_rows == 2) {
            sum_columns(acc[1], a, b, c, weights[1]);
            move(a, b);
            move(b, c);
        } else {
            if (!slides)
                load_column(&row, 0, 1, c);
            load_column(&row, 1, 1, b);
            load_column(&row, 2, 1, d);
            sum_columns(acc[1], c, b, d, weights[0]);
            move(a, d);
        }
        store_units(requantize_units(1, acc, multiplier, &local), (unit){y0, unit_mask(&walk, k)},
                    (unit){y1, unit_mask(&walk, k + units - 1)}, apart);
        row.x0 += units * row.next;
        row.x1 += units * row.next;
        y0 += units * out_step;
        y1 += units * out_step;
    }
}

/* `units` (a constant, 2 or 4) units from `k` on, which share the loads of weights, of `out_rows`
 * (a constant) rows. */
INLINE void sum_units(const int units, const int out_rows, const int small,
                      const depthwise_shape *s, const row_job *job, int32_t set, int32_t k,
                      const unit_walk *walk, const requant *r)
{
    const lane_params *lanes = job->lanes + set;
    const ptrdiff_t weights_step = s->out_rows * HALVES * CHUNK, next = s->sets * (2 * UNIT);
    const ptrdiff_t at = 2 * UNIT * set + k * next;
    const int8_t *w = job->weights + set * s->set_bytes;
    const uint8_t *const *taps = job->taps;
    __m512i acc[2][4][HALVES], bytes[2][2];
    UNROLL for (int i = 0; i < out_rows; i++)
        UNROLL for (int j = 0; j < units; j++)
            UNROLL for (int q = 0; q < HALVES; q++) acc[i][j][q] = lanes->start[q];
    for (int32_t t = 0; t < s->steps; t++, w += weights_step, taps += 2) {
        const uint8_t *a = taps[0] + at, *b = taps[1] + at;
        __m512i weights[2][HALVES];
        UNROLL for (int i = 0; i < out_rows; i++)
            UNROLL for (int q = 0; q < HALVES; q++)
                weights[i][q] = load64(w + (i * HALVES + q) * CHUNK);
        UNROLL for (int j = 0; j < units; j++) {
            __m512i x[HALVES];
            load_interleaved(a + j * next, b + j * next, x);
            UNROLL for (int i = 0; i < out_rows; i++)
                UNROLL for (int q = 0; q < HALVES; q++)
                    acc[i][j][q] = dot4(acc[i][j][q], x[q], weights[i][q]);
        }
    }
    /* Constants of requantization are not to be loaded above the loop: registers are scarce. */
    __asm__("" : "+r"(lanes), "+r"(r));
    UNROLL for (int i = 0; i < out_rows; i++)
        UNROLL for (int j = 0; j < units; j += 2)
            bytes[i][j / 2] = requantize_units(small, acc[i] + j, lanes->multiplier, r);
    /* Branches among the sums would keep clang from holding them in registers. */
    UNROLL for (int i = 0; i < out_rows; i++)
        UNROLL for (int j = 0; j < units; j += 2) {
            int8_t *const y = job->out[i] + set * UNIT + (k + j) * job->out_step;
            store_units(bytes[i][j / 2], (unit){y, unit_mask(walk, k + j)},
                        (unit){y + job->out_step, unit_mask(walk, k + j + 1)}, job->apart);
        }
}

INLINE void sum_set(const int out_rows, const depthwise_shape *s, const row_job *job, int32_t set,
                    const requant *r)
{
    const unit_walk walk = job->walks[set];
    int32_t k = 0;
    for (; k + 2 < walk.count; k += 4)
        sum_units(4, out_rows, 1, s, job, set, k, &walk, r);
    if (k < walk.count)
        sum_units(2, out_rows, 1, s, job, set, k, &walk, r);
}

/* Whether a row's next window, or with a stride of two its next but one column, is the same set. */
INLINE int windows_slide(const depthwise_shape *s, const row_job *job, int32_t column,
                         int32_t windows)
{
    return job->taps[2 * column] - job->taps[0] == windows * s->sets * (2 * UNIT);
}

static __attribute__((noinline)) void sum_3x3_one_row(const depthwise_shape *s, const row_job *job,
                                                      const requant *r)
{
    for (int32_t set = 0; set < s->sets; set++)
        if (windows_slide(s, job, 2, 1))
            sum_3x3(1, 1, s, job, set, r);
        else
            sum_3x3(1, 0, s, job, set, r);
}

static __attribute__((noinline)) void sum_3x3_two_rows(const depthwise_shape *s, const row_job *job,
                                                       const requant *r)
{
    for (int32_t set = 0; set < s->sets; set++)
        if (windows_slide(s, job, 1, 1) && windows_slide(s, job, 2, 2))
            sum_3x3(2, 1, s, job, set, r);
        else
            sum_3x3(2, 0, s, job, set, r);
}

static __attribute__((noinline)) void sum_one_row(const depthwise_shape *s, const row_job *job,
                                                  const requant *r)
{
    for (int32_t set = 0; set < s->sets; set++)
        sum_set(1, s, job, set, r);
}

static __attribute__((noinline)) void sum_two_rows(const depthwise_shape *s, const row_job *job,
                                                   const requant *r)
{
    for (int32_t set = 0; set < s->sets; set++)
        sum_set(2, s, job, set, r);
}

/* `count` rows with any multipliers. */
static __attribute__((noinline)) void sum_large(const depthwise_shape *s, const row_job *job,
                                                int32_t count, const requant *r)
{
    row_job row = *job;
    for (int32_t i = 0; i < count; i++, row.weights += HALVES * CHUNK) {
        row.out[0] = job->out[i];
        for (int32_t set = 0; set < s->sets; set++) {
            const unit_walk walk = job->walks[set];
            for (int32_t k = 0; k < walk.count; k += 2)
                sum_units(2, 1, 0, s, &row, set, k, &walk, r);
        }
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

/* From an output row in scratch to its pixels. */
static void scatter(const ek_conv_params *p, const depthwise_shape *s, const int8_t *from,
                    int8_t *y, int32_t columns)
{
    const __mmask64 pixel = low_bits(s->channels);
    for (int32_t i = 0; i < columns; i++, y += p->out.w_stride)
        _mm512_mask_storeu_epi8(y, pixel, load64(from + (ptrdiff_t)i * s->pitch));
}

/* Where the parts of a chunk's scratch are. */
typedef struct chunk {
    const depthwise_shape *shape;
    const pairing *pairing;
    lane_params *lanes;
    int8_t *weights;
    uint8_t *pairs, *outside_pair;
    int8_t *sums; /* output rows that are not stored as they come, or copied pixels */
    const int32_t *offsets;
    const uint8_t **taps;
    int32_t ch;
    int large;    /* some multiplier is 1 or more */
} chunk;

static chunk prepare_chunk(const ek_conv_params *p, const depthwise_shape *s, int32_t ch,
                           const pairing *g, const int32_t *offsets, uint8_t *scratch)
{
    chunk c = {.shape = s, .ch = ch, .offsets = offsets, .pairing = g};
    c.lanes = (lane_params *)(void *)scratch;
    c.weights = (int8_t *)(c.lanes + s->sets);
    c.outside_pair = (uint8_t *)c.weights + s->sets * s->set_bytes;
    c.pairs = c.outside_pair + 2 * s->row_bytes;
    c.sums = (int8_t *)c.pairs + 2 * s->pairs * s->row_bytes;
    c.taps = (const uint8_t **)(void *)(c.sums + 2 * s->row_bytes);
    c.large = prepare_sets(p, s, ch, c.weights, c.lanes);
    return c;
}

/* Where the pairs of taps begin, from the pairs of rows. */
static void find_taps(const ek_conv_params *p, const chunk *c, const uint8_t *const *pairs)
{
    const depthwise_shape *s = c->shape;
    const uint8_t **to = c->taps;
    for (int32_t kw = 0; kw < p->kernel_w; kw++)
        for (int32_t i = 0; i < s->pairs; i++)
            *to++ = pairs[i] + 2 * (ptrdiff_t)c->offsets[kw];
    if (s->pairs * p->kernel_w % 2 != 0) /* anything, its weights are zero */
        *to = pairs[0];
}

/* Output rows [oh, oh_end) of one image. */
static void run_rows(const ek_conv_params *p, const chunk *c, const int8_t *image, int8_t *y,
                     int32_t oh, int32_t oh_end, const ek_range *range, const requant *r)
{
    const depthwise_shape *s = c->shape;
    const int32_t columns = range->col_end - range->col;
    const int run = s->channels == s->pitch && s->pitch == p->out.w_stride;
    const int whole = s->channels == CHUNK || s->channels == UNIT; /* pixels of whole units */
    const int two = s->channels == UNIT / 2 && !run;               /* pixels of a unit */
    const int in_place = run || whole || two;
    int8_t outside[2 * CHUNK];
    pair_cache cache = {outside, c->pairs, c->outside_pair, c->sums, c->pairing, 0, 0, 0};
    const uint8_t *pairs[MAX_TAPS / 2 + 1];
    row_job job = {.taps = c->taps, .weights = c->weights, .lanes = c->lanes,
                   .out_step = whole ? p->out.w_stride : two ? 2 * p->out.w_stride : s->sets * UNIT,
                   .apart = two ? p->out.w_stride : 0};
    for (int32_t set = 0; set < s->sets; set++)
        job.walks[set] = units_of(s, columns * s->pitch, set);
    memset(outside, p->x_zero, sizeof outside);
    while (oh < oh_end) {
        const int32_t count = ek_min(s->out_rows, oh_end - oh);
        for (int32_t i = 0; i < count; i++)
            job.out[i] = in_place ? y + ek_image_at(&p->out, 0, oh + i, range->col)
                                  : c->sums + i * s->row_bytes;
        find_pairs(p, s, &cache, image, oh, range->col, pairs);
        find_taps(p, c, pairs);
        if (c->large)
            sum_large(s, &job, count, r);
        else if (s->pairs == 2 && p->kernel_w == 3)
            (count == 2 ? sum_3x3_two_rows : sum_3x3_one_row)(s, &job, r);
        else
            (count == 2 ? sum_two_rows : sum_one_row)(s, &job, r);
        for (int32_t i = 0; !in_place && i < count; i++)
            scatter(p, s, job.out[i], y + ek_image_at(&p->out, 0, oh + i, range->col), columns);
        oh += count;
    }
}

static void run_chunk(const ek_conv_params *p, const chunk *c, const int8_t *x, int8_t *y,
                      const ek_range *range, const requant *r)
{
    for (int32_t row = range->row, end; row < range->row_end; row = end) {
        const int32_t n = row / p->out.h;
        end = ek_min((n + 1) * p->out.h, range->row_end);
        run_rows(p, c, x + ek_image_at(&p->in, n, 0, 0) + c->ch,
                 y + ek_image_at(&p->out, n, 0, 0) + c->ch, row - n * p->out.h, end - n * p->out.h,
                 range, r);
    }
}

/* Whether rows in scratch hold little else than what windows read; strides and dilations may be
 * anything. */
static int rows_are_read(const ek_conv_params *p)
{
    const depthwise_shape s = shape_of(p, 1, p->out.w);
    return (int64_t)s.planes * s.plane_columns
        <= 2 * (int64_t)p->out.w * p->kernel_w + SPARE_COLUMNS;
}

int ek_depthwise_avx512vnni_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->in.c == p->out.c && p->kernel_h <= MAX_TAPS && p->kernel_w <= MAX_TAPS
        && rows_are_read(p);
}

/* A range may begin and end at any channel. */
size_t ek_depthwise_avx512vnni_scratch(const void *params)
{
    const ek_conv_params *p = params;
    size_t largest = 0;
    for (int32_t channels = 1; channels <= ek_min(CHUNK, p->out.c); channels++) {
        const depthwise_shape s = shape_of(p, channels, p->out.w);
        const size_t bytes = shape_scratch(&s);
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

/* Where each column of a window is in a row of scratch. */
static void find_offsets(const ek_conv_params *p, const depthwise_shape *s, int32_t *offsets)
{
    for (int32_t kw = 0; kw < p->kernel_w; kw++) {
        const int32_t w = kw * p->dilation_w;
        const int32_t column = p->stride_w == 1 ? w : w / p->stride_w;
        offsets[kw] =
            (w - column * p->stride_w) * (int32_t)s->plane_bytes + column * s->pitch;
    }
}

/* Channels of the chunk that begins at `ch`. The last one begins before if it can, among channels
 * that are computed twice: pixels of 16, 32 or 64 channels neither come nor go through a copy. */
static int32_t chunk_of(const ek_range *range, int32_t *ch)
{
    const int32_t left = range->ch_end - *ch;
    const int32_t wider = left > UNIT ? CHUNK : left > UNIT / 2 ? UNIT : UNIT / 2;
    if (left >= CHUNK)
        return CHUNK;
    if (wider > range->ch_end - range->ch)
        return left;
    *ch = range->ch_end - wider;
    return wider;
}

void ek_depthwise_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                             const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    const int32_t columns = range->col_end - range->col;
    int32_t offsets[MAX_TAPS];
    depthwise_shape s = {0};
    pairing g = {0};
    for (int32_t ch = range->ch, channels; ch < range->ch_end; ch += channels) {
        channels = chunk_of(range, &ch);
        if (channels != s.channels) {
            s = shape_of(p, channels, columns);
            g = pairing_of(p, &s);
            find_offsets(p, &s, offsets);
        }
        const chunk c = prepare_chunk(p, &s, ch, &g, offsets, scratch);
        run_chunk(p, &c, in[0], out, range, &r);
    }
}
