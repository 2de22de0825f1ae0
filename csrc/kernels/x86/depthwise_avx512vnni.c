/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution with vpdpbusd: the four products of a lane are four taps of a column.
 *
 * Channels are computed in chunks of up to 64. Input rows are copied to scratch as unsigned bytes
 * with the padding in place, columns apart by the stride's remainder; there an output row is a flat
 * array of bytes, and each tap of it the same array shifted by whole pixels. Four rows of 64 bytes,
 * interleaved by eight unpacks, are four vectors of 16 lanes; two output rows below each other use
 * the same four rows, with weights that are shifted by one tap. Interleaving leaves the channels in
 * an order that packing the results undoes.
 *
 * A chunk of fewer channels holds several pixels per vector. Where its pitch does not divide 64,
 * the channels of one vector differ from the next one's, with a period of `sets` vectors.
 *
 * Layers whose rows would mostly be columns that no window reads, for their strides or dilations,
 * are left to other kernels, so that a small file cannot ask for any amount of scratch.
 */
#include "../kernels.h"
#include "../window.h"
#include "vnni_avx512.h"

#define CHUNK 64   /* channels, and bytes of a vector */
#define QUARTERS 4 /* vectors of sums of 64 outputs */
#define SLOTS 4    /* taps of one vpdpbusd */
#define MAX_TAPS 64 /* of a dimension; larger windows are left to others */
#define SPARE_COLUMNS 64 /* that a row may hold beside twice as many as the windows' taps */

/* Lanes of weights and sums are in this order of the 64 bytes: lane 4 * l + i of quarter q is byte
 * 16 * l + 4 * q + i. */

/* A call's constants for chunks of one size. */
typedef struct depthwise_shape {
    int32_t channels, pitch; /* bytes of a pixel, and from one pixel to the next */
    int32_t sets;
    int32_t out_rows;        /* 2 where neighbours share their input rows, else 1 */
    int32_t rows;            /* input rows that they read */
    int32_t groups;          /* of SLOTS rows */
    int32_t planes;          /* of columns with the same remainder */
    int32_t plane_columns;
    ptrdiff_t plane_bytes, row_bytes;
    ptrdiff_t set_bytes;     /* of weights */
} depthwise_shape;

/* What a set of lanes needs beside its weights. */
typedef struct lane_params {
    __m512i start[QUARTERS];
    __m512 multiplier[QUARTERS];
} lane_params;

static int32_t pitch_of(int32_t channels)
{
    const int32_t few = channels > 2 ? 4 : channels;
    return channels <= 4 ? few : (channels + 7) / 8 * 8;
}

static int32_t sets_of(int32_t pitch)
{
    int32_t common = 1;
    while (common < CHUNK && pitch % (2 * common) == 0)
        common *= 2;
    return pitch / common;
}

static depthwise_shape shape_of(const ek_conv_params *p, int32_t channels, int32_t columns)
{
    depthwise_shape s;
    s.channels = channels;
    s.pitch = pitch_of(channels);
    s.sets = sets_of(s.pitch);
    s.out_rows = p->stride_h == 1 && p->dilation_h == 1 ? 2 : 1;
    s.rows = p->kernel_h + s.out_rows - 1;
    s.groups = ek_ceil_div(s.rows, SLOTS);
    s.planes = p->kernel_w == 1 ? 1 : p->stride_w;
    s.plane_columns = columns + (p->kernel_w - 1) * p->dilation_w / p->stride_w;
    s.plane_bytes = (ptrdiff_t)s.plane_columns * s.pitch;
    s.row_bytes = (s.planes * s.plane_bytes + 2 * CHUNK - 1) / CHUNK * CHUNK;
    s.set_bytes = (ptrdiff_t)s.groups * p->kernel_w * s.out_rows * QUARTERS * CHUNK;
    return s;
}

/* Lane parameters and weights of all sets, input rows, a row of padding, rows of outputs. */
static size_t shape_scratch(const depthwise_shape *s)
{
    return (size_t)s->sets * (sizeof(lane_params) + (size_t)s->set_bytes)
        + (size_t)(s->rows + 1 + s->out_rows) * (size_t)s->row_bytes;
}

/* ---- Weights --------------------------------------------------------------------------------- */

INLINE void interleave(__m512i a, __m512i b, __m512i c, __m512i d, __m512i quarters[QUARTERS])
{
    const __m512i ab0 = _mm512_unpacklo_epi8(a, b), ab1 = _mm512_unpackhi_epi8(a, b);
    const __m512i cd0 = _mm512_unpacklo_epi8(c, d), cd1 = _mm512_unpackhi_epi8(c, d);
    quarters[0] = _mm512_unpacklo_epi16(ab0, cd0);
    quarters[1] = _mm512_unpackhi_epi16(ab0, cd0);
    quarters[2] = _mm512_unpacklo_epi16(ab1, cd1);
    quarters[3] = _mm512_unpackhi_epi16(ab1, cd1);
}

/* The weights of one tap for 64 bytes, the first of which is channel `first` of the chunk; zero for
 * a tap that does not exist and for bytes between pixels. */
static __m512i tap_weights(const ek_conv_params *p, const depthwise_shape *s, int32_t ch,
                           int32_t first, int32_t kh, int32_t kw)
{
    int8_t bytes[2 * CHUNK];
    if (kh < 0 || kh >= p->kernel_h)
        return _mm512_setzero_si512();
    const int8_t *w = p->weights.data + (ptrdiff_t)(kh * p->kernel_w + kw) * p->out.c + ch;
    const __m512i pixel = _mm512_maskz_loadu_epi8(low_bits(s->channels), w);
    if (s->pitch == CHUNK)
        return pixel;
    _mm512_storeu_si512(bytes, pixel);
    const __m512i rest = _mm512_maskz_loadu_epi8(low_bits(s->pitch - first), bytes + first);
    _mm512_storeu_si512(bytes, rest);
    for (int32_t at = s->pitch - first; at < CHUNK; at += s->pitch)
        _mm512_storeu_si512(bytes + at, pixel);
    return load64(bytes);
}

/* Values of 64 bytes, the first of which is channel `first`, in the order of quarter q. */
INLINE __m512i quarter_of(const void *values, int32_t q)
{
    const __m128i *at = (const __m128i *)values + q;
    const __m256i low = _mm256_set_m128i(_mm_loadu_si128(at + 4), _mm_loadu_si128(at));
    const __m256i high = _mm256_set_m128i(_mm_loadu_si128(at + 12), _mm_loadu_si128(at + 8));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Sums begin where the 128 that was added to each activation makes no difference. */
static void prepare_lanes(const ek_conv_params *p, const depthwise_shape *s, int32_t ch,
                          int32_t first, const int8_t *weights, lane_params *to)
{
    const int32_t vectors = s->groups * p->kernel_w;
    const int32_t *start = p->start + ch;
    const float *multiplier = p->multiplier + ch;
    int32_t starts[CHUNK];
    float multipliers[CHUNK];
    if (s->channels != CHUNK) {
        for (int32_t i = 0, c = first; i < CHUNK; i++) {
            starts[i] = c < s->channels ? start[c] : 0;
            multipliers[i] = c < s->channels ? multiplier[c] : 0;
            c = c + 1 == s->pitch ? 0 : c + 1;
        }
        start = starts;
        multiplier = multipliers;
    }
    for (int32_t q = 0; q < QUARTERS; q++) {
        __m512i sum = _mm512_setzero_si512();
        for (int32_t v = 0; v < vectors; v++)
            sum = dot4_at(sum, _mm512_set1_epi8(1),
                          weights + (v * s->out_rows * QUARTERS + q) * CHUNK);
        to->start[q] = _mm512_sub_epi32(quarter_of(start, q), _mm512_slli_epi32(sum, 7));
        to->multiplier[q] = _mm512_castsi512_ps(quarter_of(multiplier, q));
    }
}

/* Weights of one set: [group][kw][output row][quarter], and its lane parameters. */
static void prepare_set(const ek_conv_params *p, const depthwise_shape *s, int32_t ch, int32_t set,
                        int8_t *weights, lane_params *lanes)
{
    const int32_t first = set * CHUNK % s->pitch;
    int8_t *to = weights;
    for (int32_t row = 0; row < s->groups * SLOTS; row += SLOTS)
        for (int32_t kw = 0; kw < p->kernel_w; kw++)
            for (int32_t i = 0; i < s->out_rows; i++) {
                __m512i quarters[QUARTERS];
                interleave(tap_weights(p, s, ch, first, row - i, kw),
                           tap_weights(p, s, ch, first, row - i + 1, kw),
                           tap_weights(p, s, ch, first, row - i + 2, kw),
                           tap_weights(p, s, ch, first, row - i + 3, kw), quarters);
                for (int32_t q = 0; q < QUARTERS; q++, to += CHUNK)
                    _mm512_storeu_si512(to, quarters[q]);
            }
    prepare_lanes(p, s, ch, first, weights, lanes);
}

/* ---- Input rows ------------------------------------------------------------------------------ */

/* Fills at least `count` bytes and up to CHUNK - 1 more. */
INLINE void fill(uint8_t *to, __m512i value, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i += CHUNK)
        _mm512_storeu_si512(to + i, value);
}

/* Copies `count` pixels that are `step` apart, in vectors of 16, 32 or 64 bytes: wider ones than a
 * pixel would straddle cache lines. */
INLINE void copy_pixels(const depthwise_shape *s, uint8_t *to, const int8_t *from, ptrdiff_t step,
                        int32_t count)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    const __mmask64 pixel = low_bits(s->channels);
    if (s->pitch <= 16) {
        for (; count > 0; count--, from += step, to += s->pitch)
            _mm_storeu_si128((__m128i *)(void *)to,
                             _mm_xor_si128(_mm_maskz_loadu_epi8((__mmask16)pixel, from),
                                           _mm512_castsi512_si128(flip)));
    } else if (s->pitch <= 32) {
        for (; count > 0; count--, from += step, to += s->pitch)
            _mm256_storeu_si256((__m256i *)(void *)to,
                                _mm256_xor_si256(_mm256_maskz_loadu_epi8((__mmask32)pixel, from),
                                                 _mm512_castsi512_si256(flip)));
    } else {
        for (; count > 0; count--, from += step, to += s->pitch)
            _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_maskz_loadu_epi8(pixel, from), flip));
    }
}

/* Which of the columns w, w + stride, ... are inside; the commonest stride needs no division. */
INLINE ek_taps columns_inside(int32_t w, int32_t columns, int32_t stride, int32_t size)
{
    if (stride != 1)
        return ek_taps_inside(w, columns, stride, size);
    const int32_t end = ek_max(ek_min(columns, size - w), 0);
    const ek_taps taps = {ek_min(ek_max(-w, 0), end), end};
    return taps;
}

/* Copies columns w, w + stride, ... of a row; writes up to CHUNK - 1 bytes more. */
static void copy_plane(const ek_conv_params *p, const depthwise_shape *s, uint8_t *to,
                       const int8_t *row, int32_t w)
{
    const __m512i outside = _mm512_set1_epi8((char)(p->x_zero + 128));
    const ek_taps inside = columns_inside(w, s->plane_columns, p->stride_w, p->in.w);
    const ptrdiff_t step = (ptrdiff_t)p->stride_w * p->in.w_stride;
    const int8_t *from = row + (ptrdiff_t)(w + inside.first * p->stride_w) * p->in.w_stride;
    const int32_t count = inside.end - inside.first;
    fill(to, outside, (ptrdiff_t)inside.first * s->pitch);
    to += (ptrdiff_t)inside.first * s->pitch;
    if (step == s->pitch && s->channels == s->pitch)
        copy_unsigned(to, from, (ptrdiff_t)count * s->pitch);
    else
        copy_pixels(s, to, from, step, count);
    to += (ptrdiff_t)count * s->pitch;
    fill(to, outside, (ptrdiff_t)(s->plane_columns - inside.end) * s->pitch);
}

/* Some input rows in scratch: row h stands at h % rows where rows follow each other, else the rows
 * of one window stand in their order. */
typedef struct row_cache {
    uint8_t *rows, *outside;
    int32_t next; /* first row that is not there */
} row_cache;

/* Addresses of the rows that output row `oh` and perhaps the next one read; missing ones are
 * copied. */
static void find_rows(const ek_conv_params *p, const depthwise_shape *s, row_cache *cache,
                      const int8_t *image, int32_t oh, int32_t col, const uint8_t **rows)
{
    const int32_t h = oh * p->stride_h - p->pad_top, w = col * p->stride_w - p->pad_left;
    int32_t place = p->dilation_h == 1 && h > 0 ? h % s->rows : 0; /* of the next row inside */
    for (int32_t i = 0; i < s->groups * SLOTS; i++) {
        const int32_t ih = h + i * p->dilation_h;
        if (i >= s->rows || ih < 0 || ih >= p->in.h) {
            rows[i] = cache->outside;
            continue;
        }
        uint8_t *row = cache->rows + place * s->row_bytes;
        place = place + 1 == s->rows ? 0 : place + 1;
        rows[i] = row;
        if (p->dilation_h == 1 && ih < cache->next)
            continue;
        for (int32_t plane = 0; plane < s->planes; plane++)
            copy_plane(p, s, row + plane * s->plane_bytes, image + (ptrdiff_t)ih * p->in.h_stride,
                       w + plane);
        cache->next = ih + 1;
    }
}

/* ---- Sums ------------------------------------------------------------------------------------ */

/* One output row, or two: where its bytes go, and what they are made of. */
typedef struct row_job {
    const uint8_t *const *rows;
    const int32_t *offsets; /* [taps] of each column of a window, in a row */
    int32_t taps;
    const int8_t *weights;
    const lane_params *lanes;
    int32_t bytes;          /* of an output row */
    int8_t *out[2];
    ptrdiff_t out_step;     /* from one vector to the next */
} row_job;

/* Vector `v` and, if `vectors` (a constant) is 2, the next one with the same lanes, of `out_rows`
 * (a constant) rows; both share the loads of weights. */
INLINE void sum_vectors(const int vectors, const int out_rows, const depthwise_shape *s,
                        const row_job *job, int32_t set, int32_t v, const requant *r)
{
    const lane_params *lanes = job->lanes + set;
    const ptrdiff_t weights_step = s->out_rows * QUARTERS * CHUNK, next = s->sets * CHUNK;
    const int8_t *w = job->weights + set * s->set_bytes;
    __m512i acc[2][2][QUARTERS];
    UNROLL for (int j = 0; j < vectors; j++)
        UNROLL for (int i = 0; i < out_rows; i++)
            UNROLL for (int q = 0; q < QUARTERS; q++) acc[j][i][q] = lanes->start[q];
    for (int32_t g = 0; g < s->groups; g++) {
        const uint8_t *const *rows = job->rows + g * SLOTS;
        for (int32_t kw = 0; kw < job->taps; kw++, w += weights_step) {
            __m512i x[2][QUARTERS];
            UNROLL for (int j = 0; j < vectors; j++) {
                const ptrdiff_t at = v * CHUNK + job->offsets[kw] + j * next;
                interleave(load64(rows[0] + at), load64(rows[1] + at), load64(rows[2] + at),
                           load64(rows[3] + at), x[j]);
            }
            UNROLL for (int i = 0; i < out_rows; i++)
                UNROLL for (int q = 0; q < QUARTERS; q++) {
                    const __m512i weights = load64(w + (i * QUARTERS + q) * CHUNK);
                    UNROLL for (int j = 0; j < vectors; j++)
                        acc[j][i][q] = dot4(acc[j][i][q], x[j][q], weights);
                }
        }
    }
    UNROLL for (int j = 0; j < vectors; j++) {
        const int32_t at = v + j * s->sets;
        const __mmask64 mask = low_bits(job->bytes - at * CHUNK);
        UNROLL for (int i = 0; i < out_rows; i++) {
            __m512i y[QUARTERS];
            UNROLL for (int q = 0; q < QUARTERS; q++)
                y[q] = ek_requantize_top(acc[j][i][q], lanes->multiplier[q], r);
            _mm512_mask_storeu_epi8(job->out[i] + at * job->out_step, mask,
                                    ek_pack64_lanes(y[0], y[1], y[2], y[3], r));
        }
    }
}

INLINE void sum_rows(const int out_rows, const depthwise_shape *s, const row_job *job,
                     const requant *r)
{
    const requant local = *r;
    const int32_t count = ek_ceil_div(job->bytes, CHUNK);
    for (int32_t set = 0; set < s->sets; set++) {
        int32_t v = set;
        for (; v + s->sets < count; v += 2 * s->sets)
            sum_vectors(2, out_rows, s, job, set, v, &local);
        if (v < count)
            sum_vectors(1, out_rows, s, job, set, v, &local);
    }
}

static __attribute__((noinline)) void sum_one_row(const depthwise_shape *s, const row_job *job,
                                                  const requant *r)
{
    sum_rows(1, s, job, r);
}

static __attribute__((noinline)) void sum_two_rows(const depthwise_shape *s, const row_job *job,
                                                   const requant *r)
{
    sum_rows(2, s, job, r);
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
    depthwise_shape shape;
    lane_params *lanes;
    int8_t *weights, *sums; /* output rows that are not stored as they come */
    uint8_t *rows, *outside;
    const int32_t *offsets;
    int32_t ch;
} chunk;

static chunk prepare_chunk(const ek_conv_params *p, int32_t ch, int32_t channels, int32_t columns,
                           const int32_t *offsets, uint8_t *scratch)
{
    chunk c = {.shape = shape_of(p, channels, columns), .ch = ch, .offsets = offsets};
    const depthwise_shape *s = &c.shape;
    c.lanes = (lane_params *)(void *)scratch;
    c.weights = (int8_t *)(c.lanes + s->sets);
    c.outside = (uint8_t *)c.weights + s->sets * s->set_bytes;
    c.rows = c.outside + s->row_bytes;
    c.sums = (int8_t *)c.rows + s->rows * s->row_bytes;
    for (int32_t set = 0; set < s->sets; set++)
        prepare_set(p, s, ch, set, c.weights + set * s->set_bytes, c.lanes + set);
    fill(c.outside, _mm512_set1_epi8((char)(p->x_zero + 128)), s->row_bytes);
    return c;
}

/* Output rows [oh, oh_end) of one image. */
static void run_rows(const ek_conv_params *p, const chunk *c, const int8_t *image, int8_t *y,
                     int32_t oh, int32_t oh_end, const ek_range *range, const requant *r)
{
    const depthwise_shape *s = &c->shape;
    const int32_t columns = range->col_end - range->col;
    const int in_place = s->channels == CHUNK
        || (s->channels == s->pitch && s->pitch == p->out.w_stride);
    row_cache cache = {c->rows, c->outside, INT32_MIN};
    const uint8_t *rows[(MAX_TAPS + 1) / SLOTS * SLOTS + SLOTS];
    row_job job = {.rows = rows, .offsets = c->offsets, .taps = p->kernel_w,
                   .weights = c->weights, .lanes = c->lanes, .bytes = columns * s->pitch,
                   .out_step = s->channels == CHUNK ? p->out.w_stride : CHUNK};
    while (oh < oh_end) {
        const int32_t count = ek_min(s->out_rows, oh_end - oh);
        for (int32_t i = 0; i < count; i++)
            job.out[i] = in_place ? y + ek_image_at(&p->out, 0, oh + i, range->col)
                                  : c->sums + i * s->row_bytes;
        find_rows(p, s, &cache, image, oh, range->col, rows);
        if (count == 2)
            sum_two_rows(s, &job, r);
        else
            sum_one_row(s, &job, r);
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

void ek_depthwise_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                             const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    for (int32_t ch = range->ch; ch < range->ch_end; ch += CHUNK) {
        const int32_t channels = ek_min(CHUNK, range->ch_end - ch);
        int32_t offsets[MAX_TAPS];
        const depthwise_shape s = shape_of(p, channels, range->col_end - range->col);
        for (int32_t kw = 0; kw < p->kernel_w; kw++) {
            const int32_t w = kw * p->dilation_w;
            offsets[kw] = (int32_t)(w % p->stride_w * s.plane_bytes) + w / p->stride_w * s.pitch;
        }
        const chunk c =
            prepare_chunk(p, ch, channels, range->col_end - range->col, offsets, scratch);
        run_chunk(p, &c, in[0], out, range, &r);
    }
}
