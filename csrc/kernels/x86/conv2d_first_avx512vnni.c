/* SPDX-License-Identifier: Apache-2.0
 *
 * First layers: convolutions of one to four input channels with vpdpbusd. A window has few products
 * there, so that what surrounds them decides.
 *
 * A step multiplies four bytes of a window with 16 channels. For each step there is a plane in
 * scratch that holds these bytes of all windows side by side, a dword for each window, made by
 * shuffles of the input's rows; the planes are made unsigned, and padding is in place. A row of a
 * window, kernel_w * c bytes, is some whole steps and up to three loose bytes. The loose bytes of
 * all rows are gathered four to a step: a window of 3x3x3 takes 7 steps instead of 9, one of 7x7x3
 * 37 instead of 42. They are taken from planes of a window further right, which hold them, too.
 *
 * Blocks are small: eight windows of 16 channels or four of 32. Their requantization is then few
 * enough instructions that the next block's products start before it is done. With at most eight
 * channels left, a vector holds two windows, and each dword of weights stands there twice.
 */
#include "vnni_avx512.h"

#include "../kernels.h"
#include "../window.h"

#define TILE_N 16
#define TILE_K 4
#define VECTOR 64
#define MAX_INPUTS 4          /* channels */
#define MAX_STRIDE 8          /* bytes between windows: 64 bytes hold two steps of eight */
#define MAX_STEPS 64          /* of a window, each row's rounded up */
#define MAX_LOOSE 96          /* three in each row of two such steps */
#define MAX_CHANNELS 512      /* out: their weights are in scratch, shifted apart */
#define BAND_BYTES 65536      /* of planes */
#define OUTPUT_BYTES 16384    /* that are written tile after tile: a first level cache holds them */
#define MIN_COLUMNS 64        /* of a band, unless the output has less */

/* What a call needs of its parameters. */
typedef struct first_shape {
    int32_t step;         /* bytes of the input from one window to the next */
    int32_t run;          /* bytes of a window in one row */
    int32_t whole;        /* steps of a run that have planes of their own */
    int32_t loose;        /* bytes of a run that are behind these */
    int32_t gathered;     /* planes of loose bytes */
    int32_t further;      /* windows to the right, where other planes hold them */
    int32_t phases;       /* rows modulo the stride that windows read */
    int32_t steps;        /* of a window: kernel_h * whole + gathered */
    int32_t rows, cols;   /* outputs of a band */
    int32_t pitch;        /* windows in a row of a plane */
    ptrdiff_t plane_bytes;
} first_shape;

/* A byte of a plane of loose bytes. */
typedef struct loose_byte {
    const uint8_t *from; /* dwords of another plane that hold it */
    int32_t turn;        /* bits to the left */
    int32_t place;       /* in a dword */
} loose_byte;

/* Where the bytes of a window's steps come from. */
typedef struct first_plan {
    const uint8_t *at[MAX_STEPS];     /* the step's dword of window 0 */
    int16_t depth[MAX_STEPS][TILE_K]; /* which weights of a channel its bytes meet; -1: none */
    loose_byte loose[MAX_LOOSE];      /* four to a plane, in the last one fewer */
    int32_t loose_count;
} first_plan;

/* How channels and windows share vectors. */
typedef enum tile_form { EIGHT, SIXTEEN, THIRTY_TWO, LARGE } tile_form;

/* Channels that are computed together. */
typedef struct first_tile {
    int32_t start[2 * TILE_N];
    float multiplier[2 * TILE_N];
    const int8_t *weights; /* [steps][TILE_N][TILE_K] */
    ptrdiff_t tile_bytes;  /* from the first 16 channels' weights to the next ones' */
    tile_form form;
    int32_t channel;
    uint32_t stored; /* bits of the channels in the range */
} first_tile;

/* Windows of some output rows. */
typedef struct first_windows {
    const uint8_t *const *at;
    int32_t steps;
    ptrdiff_t x; /* bytes of a plane in front of the first one */
    int8_t *out; /* of the first one, channel 0 */
    int32_t rows, cols;
    ptrdiff_t x_next;             /* bytes from a row of a plane to the next one */
    ptrdiff_t out_next, out_step; /* from one row and one window to the next */
} first_windows;

/* ---- The shape ------------------------------------------------------------------------------- */

static int32_t planes_of(const first_shape *s)
{
    return s->phases * s->whole + s->gathered;
}

/* Rows of a plane behind those that output rows begin at. */
static int32_t rows_behind(const ek_conv_params *p)
{
    return (p->kernel_h - 1) / p->stride_h;
}

/* Chooses the output rows and columns of a band: whole rows, or some columns of one. */
static void choose_band(first_shape *s, const ek_conv_params *p)
{
    const int32_t width = planes_of(s) * TILE_K, behind = rows_behind(p);
    const int32_t fit = BAND_BYTES / (width * (behind + 1)) - s->further;
    s->cols = p->out.w;
    if (fit < p->out.w)
        s->cols = ek_min(p->out.w, ek_max(fit / 8 * 8, MIN_COLUMNS));
    s->pitch = s->cols; /* so that rows may follow each other without a gap */
    if (s->further > 0)
        s->pitch = ek_ceil_div(s->cols + s->further, 8) * 8;
    s->rows = ek_min(ek_max(BAND_BYTES / (width * s->pitch) - behind, 1), p->out.h);
    /* The last windows are written and read with whole vectors. */
    const ptrdiff_t bytes = (ptrdiff_t)(s->rows + behind) * s->pitch * TILE_K;
    s->plane_bytes = bytes / VECTOR * VECTOR + 2 * VECTOR;
}

static first_shape first_shape_of(const ek_conv_params *p)
{
    first_shape s = {.step = p->stride_w * p->in.c, .run = p->kernel_w * p->in.c};
    s.phases = ek_min(p->stride_h, p->kernel_h);
    s.whole = s.run / TILE_K;
    s.loose = s.run % TILE_K;
    if (s.loose > 0) {
        s.gathered = ek_ceil_div(p->kernel_h * s.loose, TILE_K);
        s.further = ek_ceil_div(s.loose, s.step);
    }
    if (s.gathered == p->kernel_h || s.further * s.step > s.whole * TILE_K) {
        s.whole = ek_ceil_div(s.run, TILE_K);
        s.loose = s.gathered = s.further = 0;
    }
    s.steps = p->kernel_h * s.whole + s.gathered;
    return s;
}

/* Loose byte number `i`: byte `at` of row `kh` of a window; `plane` is that row's first. */
static void plan_loose(first_plan *plan, const first_shape *s, int32_t i, int32_t step, int32_t kh,
                       int32_t at, const uint8_t *plane)
{
    loose_byte *loose = &plan->loose[i];
    const int32_t here = at - s->further * s->step; /* of the window that many further */
    const int32_t first = i % TILE_K == 0 ? here : loose[-(i % TILE_K)].place;
    loose->from = plane + here / TILE_K * s->plane_bytes;
    loose->place = (first + i) % TILE_K; /* the first one of each four stays where it is */
    loose->turn = (loose->place - here) * 8 & 31;
    plan->depth[step][loose->place] = (int16_t)(kh * s->run + at);
}

/* Finds the dwords of all steps in `planes`. */
static void make_plan(first_plan *plan, const first_shape *s, const ek_conv_params *p,
                      const uint8_t *planes)
{
    const int32_t gathered = p->kernel_h * s->whole; /* the first such step */
    int32_t phase = 0, step = 0;
    const uint8_t *row = planes;
    plan->loose_count = 0;
    for (int32_t i = 0; i < s->gathered; i++) {
        plan->at[gathered + i] =
            planes + (s->phases * s->whole + i) * s->plane_bytes + s->further * TILE_K;
        memset(plan->depth[gathered + i], -1, sizeof plan->depth[0]);
    }
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const uint8_t *plane = row + phase * s->whole * s->plane_bytes;
        for (int32_t k = 0; k < s->whole; k++, step++) {
            plan->at[step] = plane + k * s->plane_bytes;
            for (int32_t i = 0; i < TILE_K; i++) {
                const int32_t at = k * TILE_K + i;
                plan->depth[step][i] = (int16_t)(at < s->run ? kh * s->run + at : -1);
            }
        }
        for (int32_t i = 0; i < s->loose; i++, plan->loose_count++)
            plan_loose(plan, s, plan->loose_count, gathered + plan->loose_count / TILE_K, kh,
                       s->whole * TILE_K + i, plane);
        if (++phase == p->stride_h) {
            phase = 0;
            row += s->pitch * TILE_K;
        }
    }
}

/* ---- Planes ---------------------------------------------------------------------------------- */

/* How 64 bytes of a row become two steps of some windows. With up to three bytes from one window to
 * the next they are 16 windows: for each step dwords are brought into the 128 bits of their four
 * windows, and bytes into order there. With an even number of bytes they are eight windows, whose
 * words are brought into order, the second step behind the first one. */
typedef struct plane_order {
    __m512i first, second, bytes;
} plane_order;

#define NARROW 3 /* bytes from one window to the next */
#define WINDOWS_OF(step) ((step) <= NARROW ? 16 : 8)

/* Rows of the input that one phase of the planes is made of: those from `first` to `end` are
 * inside, the others padding. */
typedef struct input_rows {
    const int8_t *bytes; /* of row 0 from its first column on, wherever that is */
    ptrdiff_t next;      /* bytes to the next row */
    ptrdiff_t width;     /* bytes of a row that are inside the input */
    int32_t first, end, count;
    __m512i outside;
} input_rows;

static plane_order plane_order_of(int32_t step)
{
    uint32_t first[VECTOR / 4];
    uint16_t words[VECTOR / 2];
    uint8_t bytes[VECTOR];
    for (int32_t i = 0; i < VECTOR / 2; i++)
        words[i] = (uint16_t)(i / 2 % 8 * step / 2 + i / 16 * 2 + i % 2);
    if (step > NARROW)
        return (plane_order){.first = load64(words)};
    for (int32_t i = 0; i < VECTOR / 4; i++)
        first[i] = (uint32_t)(i / 4 * step + i % 4);
    for (int32_t i = 0; i < VECTOR; i++)
        bytes[i] = (uint8_t)(i / 4 % 4 * step + i % 4);
    return (plane_order){.first = load64(first),
                         .second = _mm512_add_epi32(load64(first), _mm512_set1_epi32(1)),
                         .bytes = load64(bytes)};
}

/* Which of 64 bytes from `at` on lie inside a row of `width` bytes. */
INLINE __mmask64 inside_of(ptrdiff_t at, ptrdiff_t width)
{
    if (at <= -VECTOR || at >= width)
        return 0;
    const int32_t before = at < 0 ? (int32_t)-at : 0;
    const int32_t end = width - at < VECTOR ? (int32_t)(width - at) : VECTOR;
    return low_bits(end) & ~low_bits(before);
}

/* Stores 64 bytes of a row as a step of some windows, and, if there is one, the next step a plane
 * behind. */
INLINE void store_steps(const int narrow, int both, __m512i v, const plane_order *order,
                        uint8_t *to, ptrdiff_t plane_bytes)
{
    if (narrow) {
        _mm512_storeu_si512(
            to, _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order->first, v), order->bytes));
        if (both)
            _mm512_storeu_si512(
                to + plane_bytes,
                _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order->second, v), order->bytes));
    } else {
        v = _mm512_permutexvar_epi16(order->first, v);
        _mm256_storeu_si256((__m256i *)(void *)to, _mm512_castsi512_si256(v));
        if (both)
            _mm256_storeu_si256((__m256i *)(void *)(to + plane_bytes),
                                _mm512_extracti64x4_epi64(v, 1));
    }
}

/* Fills one or two steps (`both`) of WINDOWS_OF(step) windows in all rows of their planes. The
 * first window begins `at` bytes behind the first column; `narrow` is a constant. */
INLINE void fill_windows(const int narrow, int both, const first_shape *s, const input_rows *rows,
                         ptrdiff_t at, uint8_t *to, const plane_order *order)
{
    const __m512i flip = _mm512_set1_epi8(-128), outside = rows->outside;
    const __m512i padding = _mm512_xor_si512(outside, flip);
    const __mmask64 inside = inside_of(at, rows->width);
    const ptrdiff_t next = rows->next, to_next = (ptrdiff_t)s->pitch * TILE_K;
    const int8_t *from = rows->bytes + at + rows->first * next;
    int32_t i = 0;
    for (; i < rows->first; i++, to += to_next)
        store_steps(narrow, both, padding, order, to, s->plane_bytes);
    for (; i < rows->end; i++, from += next, to += to_next) {
        const __m512i v = _mm512_mask_loadu_epi8(outside, inside, from);
        store_steps(narrow, both, _mm512_xor_si512(v, flip), order, to, s->plane_bytes);
    }
    for (; i < rows->count; i++, to += to_next)
        store_steps(narrow, both, padding, order, to, s->plane_bytes);
}

/* Fills the planes of a phase, whose first window begins `at` bytes behind the first column. What
 * is written behind the end of a row is overwritten by the next one: later, as the last windows
 * come first. */
static void fill_phase(const first_shape *s, const input_rows *rows, ptrdiff_t at, uint8_t *planes,
                       const plane_order *order)
{
    const int32_t windows = WINDOWS_OF(s->step);
    for (int32_t k = 0; k < s->whole; k += 2)
        for (int32_t i = (s->pitch - 1) / windows * windows; i >= 0; i -= windows) {
            const ptrdiff_t from = at + (ptrdiff_t)i * s->step + k * TILE_K;
            uint8_t *to = planes + k * s->plane_bytes + i * TILE_K;
            if (s->step <= NARROW)
                fill_windows(1, k + 1 < s->whole, s, rows, from, to, order);
            else
                fill_windows(0, k + 1 < s->whole, s, rows, from, to, order);
        }
}

/* Byte `i` of each dword. */
INLINE __mmask64 each_byte(int32_t i)
{
    return (__mmask64)0x1111111111111111u << i;
}

/* Gathers `count` (a constant) loose bytes of `bytes` / 4 windows into dwords. */
INLINE void gather_dwords(const int count, const loose_byte *loose, uint8_t *to, ptrdiff_t bytes)
{
    const uint8_t *from[TILE_K];
    __m512i turn[TILE_K];
    __mmask64 place[TILE_K];
    UNROLL for (int i = 0; i < count; i++) {
        from[i] = loose[i].from;
        turn[i] = _mm512_set1_epi32(loose[i].turn);
        place[i] = each_byte(loose[i].place);
    }
    for (ptrdiff_t at = 0; at < bytes; at += VECTOR) {
        __m512i v = load64(from[0] + at); /* in its place */
        UNROLL for (int i = 1; i < count; i++)
            v = _mm512_mask_mov_epi8(v, place[i], _mm512_rolv_epi32(load64(from[i] + at), turn[i]));
        _mm512_storeu_si512(to + at, v);
    }
}

/* Fills the planes of loose bytes. */
static void fill_loose(const first_shape *s, const first_plan *plan, uint8_t *to, int32_t rows)
{
    const ptrdiff_t bytes = (ptrdiff_t)rows * s->pitch * TILE_K;
    const loose_byte *loose = plan->loose;
    for (int32_t rest = plan->loose_count; rest > 0; rest -= TILE_K, to += s->plane_bytes) {
        if (rest == 1)
            gather_dwords(1, loose, to, bytes);
        else if (rest == 2)
            gather_dwords(2, loose, to, bytes);
        else if (rest == 3)
            gather_dwords(3, loose, to, bytes);
        else
            gather_dwords(4, loose, to, bytes);
        loose += TILE_K;
    }
}

/* Makes the planes of `rows` output rows from `oh` on and the columns from `ow` on. */
static void make_planes(const ek_conv_params *p, const first_shape *s, const first_plan *plan,
                        uint8_t *planes, const int8_t *image, int32_t oh, int32_t rows, int32_t ow)
{
    const plane_order order = plane_order_of(s->step);
    const ptrdiff_t at = ((ptrdiff_t)ow * p->stride_w - p->pad_left) * p->in.c;
    const int32_t count = (rows - 1) * p->stride_h + p->kernel_h;
    for (int32_t phase = 0; phase < s->phases; phase++) {
        const int32_t h = oh * p->stride_h - p->pad_top + phase;
        input_rows from = {.bytes = image + (ptrdiff_t)h * p->in.h_stride,
                           .next = (ptrdiff_t)p->stride_h * p->in.h_stride,
                           .width = (ptrdiff_t)p->in.w * p->in.c,
                           .count = ek_ceil_div(count - phase, p->stride_h),
                           .outside = _mm512_set1_epi8((char)p->x_zero)};
        const ek_taps inside = ek_taps_inside(h, from.count, p->stride_h, p->in.h);
        from.first = inside.first;
        from.end = inside.end;
        fill_phase(s, &from, at, planes + phase * s->whole * s->plane_bytes, &order);
    }
    fill_loose(s, plan, planes + s->phases * s->whole * s->plane_bytes, rows);
}

/* ---- Tiles ----------------------------------------------------------------------------------- */

/* The weights of step `depth` for 16 channels, from [depth / 4][16][4]. */
INLINE __m512i step_weights(const int8_t *from, const int16_t depth[TILE_K])
{
    __m512i w = _mm512_setzero_si512();
    for (int32_t i = 0; i < TILE_K; i++)
        if (depth[i] >= 0) {
            const __m512i v = load64(from + depth[i] / TILE_K * VECTOR);
            const __m512i turn = _mm512_set1_epi32((i - depth[i]) % TILE_K * 8 & 31);
            w = _mm512_mask_mov_epi8(w, each_byte(i), _mm512_rolv_epi32(v, turn));
        }
    return w;
}

/* Lanes 0, 0, 1, 1 up to 7, 7: of channels whose windows come in pairs. */
INLINE __m512i twice(__m512i v)
{
    const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_epi32(lanes, v);
}

/* Channels of a form. */
static int32_t width_of(tile_form form)
{
    return form == EIGHT ? 8 : form == THIRTY_TWO ? 2 * TILE_N : TILE_N;
}

static tile_form form_of(const ek_conv_params *p, int32_t channel, int32_t wanted, int32_t windows)
{
    const tile_form form = wanted > 24                  ? THIRTY_TWO
                           : wanted > 8 || windows == 1 ? SIXTEEN
                                                        : EIGHT;
    for (int32_t i = 0; i < ek_min(width_of(form), p->out.c - channel); i++)
        if (p->multiplier[channel + i] >= 1.0f) /* rare: those of real networks are below 0.2 */
            return LARGE;
    return form;
}

/* Sets a tile from `channel` on, a multiple of 16. */
static void set_tile(first_tile *tile, const ek_conv_params *p, const first_shape *s,
                     const first_plan *plan, int32_t channel, const ek_range *range,
                     int8_t *weights)
{
    const int32_t width = width_of(tile->form), lanes = ek_min(p->out.c - channel, width);
    const ptrdiff_t given = (ptrdiff_t)ek_ceil_div(p->kernel_h * s->run, TILE_K) * VECTOR;
    const int8_t *from = p->weights.data + channel / TILE_N * given;
    tile->channel = channel;
    tile->stored = (uint32_t)(low_bits(ek_min(range->ch_end - channel, width))
                              & ~low_bits(ek_max(range->ch - channel, 0)));
    memset(tile->start, 0, sizeof tile->start);
    memset(tile->multiplier, 0, sizeof tile->multiplier);
    memcpy(tile->start, p->start + channel, (size_t)lanes * sizeof tile->start[0]);
    memcpy(tile->multiplier, p->multiplier + channel, (size_t)lanes * sizeof tile->multiplier[0]);
    tile->weights = weights;
    tile->tile_bytes = (ptrdiff_t)s->steps * VECTOR;
    if (s->run % TILE_K == 0 && tile->form != EIGHT) { /* as they are */
        tile->weights = from;
        return;
    }
    for (int32_t i = 0; i < lanes; i += TILE_N, from += given, weights += tile->tile_bytes)
        for (int32_t step = 0; step < s->steps; step++) {
            const __m512i w = step_weights(from, plan->depth[step]);
            _mm512_storeu_si512(weights + step * VECTOR, tile->form == EIGHT ? twice(w) : w);
        }
    if (tile->form == EIGHT) {
        _mm512_storeu_si512(tile->start, twice(load64(tile->start)));
        _mm512_storeu_si512(tile->multiplier, twice(load64(tile->multiplier)));
    }
}

/* Sets the tiles of the range and returns how many there are. */
static int32_t set_tiles(first_tile *tiles, const ek_conv_params *p, const first_shape *s,
                         const first_plan *plan, const ek_range *range, int8_t *weights)
{
    const int32_t windows = range->col_end - range->col;
    int32_t count = 0, channel = range->ch / TILE_N * TILE_N;
    while (channel < range->ch_end) {
        first_tile *tile = &tiles[count++];
        tile->form = form_of(p, channel, range->ch_end - channel, windows);
        set_tile(tile, p, s, plan, channel, range, weights);
        weights += (tile->form == THIRTY_TWO ? 2 : 1) * tile->tile_bytes;
        channel += width_of(tile->form);
    }
    return count;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* Eight bytes, in every pair of lanes. */
INLINE __m512i broadcast8(const uint8_t *from)
{
    typedef uint8_t bytes[8];
    __m512i v;
    __asm__("vpbroadcastq %1, %0" : "=v"(v) : "m"(*(const bytes *)(const void *)from));
    return v;
}

/* Four vectors of a form as outputs in order. */
INLINE __m512i pack_form(const tile_form form, const __m512i y[4], const requant *r)
{
    const __m512i v = ek_pack64(y[0], y[1], y[2], y[3], r);
    /* Of each 128 bits, channels of one window, each beside that of the next one. */
    const __m512i apart = _mm512_set4_epi32(0x0F0D0B09, 0x07050301, 0x0E0C0A08, 0x06040200);
    return form == EIGHT ? _mm512_shuffle_epi8(v, apart) : v;
}

/* Stores the first `count` (a constant) of the windows in a vector, `step` bytes apart. */
INLINE void store_apart(const tile_form form, const int count, __m512i v, int8_t *out,
                        ptrdiff_t step, uint32_t stored)
{
    const __m128i quarter[4] = {_mm512_castsi512_si128(v), _mm512_extracti32x4_epi32(v, 1),
                                _mm512_extracti32x4_epi32(v, 2), _mm512_extracti32x4_epi32(v, 3)};
    UNROLL for (int i = 0; i < count; i++, out += step) {
        if (form == THIRTY_TWO) {
            _mm256_mask_storeu_epi8(out, stored,
                                    i == 0 ? _mm512_castsi512_si256(v)
                                           : _mm512_extracti64x4_epi64(v, 1));
        } else if (form == EIGHT) {
            const __m128i pair = quarter[i / 2];
            _mm_mask_storeu_epi8(out, (__mmask16)stored,
                                 i % 2 ? _mm_unpackhi_epi64(pair, pair) : pair);
        } else {
            _mm_mask_storeu_epi8(out, (__mmask16)stored, quarter[i]);
        }
    }
}

/* `windows` (a constant) windows of a form (another one) from `x` on. */
INLINE void multiply_block(const tile_form form, const int windows, const first_tile *tile,
                           const first_windows *w, ptrdiff_t x, int8_t *out, const requant *r)
{
    const int tiles = form == THIRTY_TWO ? 2 : 1;
    const int sums = form == EIGHT ? windows / 2 : windows * tiles;
    const int width = form == EIGHT ? 8 : tiles * TILE_N;
    const int8_t *weights = tile->weights;
    const ptrdiff_t tile_bytes = tile->tile_bytes;
    __m512i acc[8];
    UNROLL for (int i = 0; i < sums; i++) acc[i] = load64(tile->start + i % tiles * TILE_N);
    const uint8_t *const *at = w->at;
    for (int32_t k = w->steps; k > 0; k--, weights += VECTOR) {
        const uint8_t *from = *at++ + x;
        /* GCC would rather keep a distance in a register for each window. */
        __asm__("" : "+r"(from));
        const __m512i w0 = load64(weights), w1 = load64(weights + (tiles - 1) * tile_bytes);
        UNROLL for (int i = 0; i < sums; i += tiles) {
            const __m512i v =
                form == EIGHT ? broadcast8(from + 8 * i) : broadcast4(from + 4 * i / tiles);
            acc[i] = dot4(acc[i], v, w0);
            if (tiles == 2)
                acc[i + 1] = dot4(acc[i + 1], v, w1);
        }
    }
    /* What the stores need is loaded from here on: kept in registers it would push sums out. */
    __asm__("" : "+r"(r), "+r"(tile), "+r"(w));
    const ptrdiff_t step = w->out_step;
    const int side_by_side = step == width && tile->stored == low_bits(width);
    UNROLL for (int i = 0; i < sums; i += 4) {
        __m512i y[4];
        UNROLL for (int j = 0; j < 4; j++) {
            const int sum = i + j < sums ? i + j : i;
            const __m512 m = _mm512_loadu_ps(tile->multiplier + sum % tiles * TILE_N);
            y[j] = form == LARGE ? ek_requantize_top(acc[sum], m, r)
                                 : ek_requantize_small(acc[sum], m);
        }
        const __m512i v = pack_form(form, y, r);
        const int count = windows * width < VECTOR ? windows : VECTOR / width;
        if (side_by_side && count * width == VECTOR)
            _mm512_storeu_si512(out, v);
        else
            store_apart(form, count, v, out, step, tile->stored);
        out += count * step;
    }
}

typedef void (*multiply_fn)(const first_tile *tile, const first_windows *w, int32_t col,
                            int32_t blocks, const requant *r);

/* Blocks of each row, the first at column `col`. */
#define MULTIPLY(form, windows)                                                                   \
    static __attribute__((noinline)) void multiply_##form##_##windows(                            \
        const first_tile *tile, const first_windows *w, int32_t col, int32_t blocks,              \
        const requant *r)                                                                         \
    {                                                                                             \
        for (int32_t row = 0; row < w->rows; row++) {                                             \
            ptrdiff_t x = w->x + row * w->x_next + (ptrdiff_t)col * TILE_K;                       \
            int8_t *out =                                                                         \
                w->out + tile->channel + row * w->out_next + col * w->out_step;                   \
            for (int32_t i = 0; i < blocks; i++) {                                                \
                multiply_block(form, windows, tile, w, x, out, r);                                \
                x += (windows) * TILE_K;                                                          \
                out += (windows) * w->out_step;                                                   \
            }                                                                                     \
        }                                                                                         \
    }

MULTIPLY(EIGHT, 2) MULTIPLY(EIGHT, 8) MULTIPLY(EIGHT, 16)
MULTIPLY(SIXTEEN, 1) MULTIPLY(SIXTEEN, 4) MULTIPLY(SIXTEEN, 8)
MULTIPLY(THIRTY_TWO, 1) MULTIPLY(THIRTY_TWO, 2) MULTIPLY(THIRTY_TWO, 4)
MULTIPLY(LARGE, 1)

typedef struct first_block {
    int32_t windows;
    multiply_fn multiply;
} first_block;

/* Blocks of each form, smallest first. */
#define SIZES 3
static const first_block blocks_of[][SIZES] = {
    [EIGHT] = {{2, multiply_EIGHT_2}, {8, multiply_EIGHT_8}, {16, multiply_EIGHT_16}},
    [SIXTEEN] = {{1, multiply_SIXTEEN_1}, {4, multiply_SIXTEEN_4}, {8, multiply_SIXTEEN_8}},
    [THIRTY_TWO] = {{1, multiply_THIRTY_TWO_1},
                    {2, multiply_THIRTY_TWO_2},
                    {4, multiply_THIRTY_TWO_4}},
    [LARGE] = {{1, multiply_LARGE_1}, {1, multiply_LARGE_1}, {1, multiply_LARGE_1}},
};

/* The smallest block that takes `rest` windows, or else the largest one, of at most `cols`. */
static const first_block *choose_block(const first_block blocks[SIZES], int32_t rest, int32_t cols)
{
    int i = 0;
    while (i + 1 < SIZES && blocks[i].windows < rest && blocks[i + 1].windows <= cols)
        i++;
    return &blocks[i];
}

/* The last block of a row begins where it has windows enough, and computes some again. */
static void multiply_tile(const first_tile *tile, const first_windows *w, const requant *r)
{
    for (int32_t col = 0; col < w->cols;) {
        const int32_t rest = w->cols - col;
        const first_block *b = choose_block(blocks_of[tile->form], rest, w->cols);
        const int32_t blocks = rest < b->windows ? 1 : rest / b->windows;
        b->multiply(tile, w, ek_min(col, w->cols - b->windows), blocks, r);
        col += blocks * b->windows;
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

static void multiply_tiles(const first_tile *tiles, int32_t count, first_windows w,
                           const requant *r)
{
    if (w.x_next == (ptrdiff_t)w.cols * TILE_K && w.out_next == w.cols * w.out_step) {
        w.cols *= w.rows;
        w.rows = 1;
    }
    const int32_t rows = w.rows;
    const ptrdiff_t row_bytes = w.cols * w.out_step;
    const int32_t together =
        count == 1 || row_bytes * rows <= OUTPUT_BYTES ? rows
        : row_bytes < OUTPUT_BYTES                     ? (int32_t)(OUTPUT_BYTES / row_bytes)
                                                       : 1;
    for (int32_t row = 0; row < rows; row += together) {
        w.rows = ek_min(rows - row, together);
        for (int32_t i = 0; i < count; i++)
            multiply_tile(&tiles[i], &w, r);
        w.x += together * w.x_next;
        w.out += together * w.out_next;
    }
}

/* Scratch: tiles, their weights, planes. */
static size_t tiles_bytes(const ek_conv_params *p)
{
    const size_t bytes = ((size_t)p->out.c / TILE_N + 2) * sizeof(first_tile);
    return (bytes + VECTOR - 1) / VECTOR * VECTOR;
}

static size_t weights_bytes(const ek_conv_params *p, const first_shape *s)
{
    return ((size_t)p->out.c / TILE_N + 2) * (size_t)s->steps * VECTOR;
}

int ek_conv2d_first_avx512vnni_supports(const void *params)
{
    const ek_conv_params *p = params;
    const int32_t step = ek_min(p->stride_w, MAX_STRIDE + 1) * p->in.c;
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K && p->groups == 1
        && p->in.c <= MAX_INPUTS && p->in.w_stride == p->in.c && p->out.c <= MAX_CHANNELS
        && p->dilation_h == 1 && p->dilation_w == 1 
        && (step <= NARROW || (step <= MAX_STRIDE && step % 2 == 0))
        && p->kernel_h <= MAX_STEPS && p->kernel_w <= MAX_STEPS * TILE_K
        && p->kernel_h * ek_ceil_div(p->kernel_w * p->in.c, TILE_K) <= MAX_STEPS;
}

/* Cycles of Zen 4 that this kernel and conv2d_avx512vnni take: fitted to 1200 layers of 1 to 4
 * channels, 1x1 to 10x4, on maps of 1x1 to 150x150. Tenths where they count windows. */
#define SETUP_CYCLES 300
#define PLAN_CYCLES 10         /* a step */
#define FILL_CYCLES 4          /* two steps of 16 or 8 windows */
#define LOOSE_CYCLES 6         /* a step of 16 windows */
#define WEIGHTS_CYCLES 20      /* a step of 16 channels */
#define SIXTEEN_TENTHS 24      /* of a window, beyond products */
#define EIGHT_TENTHS 15
#define CONV2D_SETUP_CYCLES 110
#define CONV2D_ROW_CYCLES 30   /* that is copied */
#define CONV2D_WEIGHTS_CYCLES 10
#define CONV2D_SIXTEEN_TENTHS 29
#define FEW_WINDOWS 8 /* which conv2d_avx512vnni multiplies in other ways */

/* The estimate is for a whole layer: a part of a layer pays the set-up again with either kernel. */
int ek_conv2d_first_avx512vnni_pays(const void *params)
{
    const ek_conv_params *p = params;
    const first_shape s = first_shape_of(p);
    const int64_t rows = (int64_t)p->out.n * p->out.h, windows = rows * p->out.w;
    const int64_t read = (rows - p->out.n) * p->stride_h + (int64_t)p->out.n * p->kernel_h;
    const int32_t row = p->out.w + s.further, last = p->out.c % (2 * TILE_N);
    const int has_eight = (last > 0 && last <= 8) || (last > TILE_N && last <= 24);
    const int32_t all = ek_ceil_div(p->out.c, TILE_N), sixteens = all - has_eight;
    const int32_t steps = p->kernel_h * ek_ceil_div(s.run, TILE_K);
    const int apart = s.run % TILE_K != 0;
    const int64_t first = SETUP_CYCLES + PLAN_CYCLES * s.steps
        + FILL_CYCLES * read * ek_ceil_div(row, WINDOWS_OF(s.step)) * ek_ceil_div(s.whole, 2)
        + LOOSE_CYCLES * rows * ek_ceil_div(row, 16) * s.gathered
        + (apart || has_eight ? WEIGHTS_CYCLES * s.steps * all : 0)
        + windows * (sixteens * (10 * s.steps + SIXTEEN_TENTHS)
                     + has_eight * (5 * s.steps + EIGHT_TENTHS)) / 10;
    const int64_t other = CONV2D_SETUP_CYCLES + CONV2D_ROW_CYCLES * read
        + (apart ? CONV2D_WEIGHTS_CYCLES * steps * all : 0)
        + windows * all * (10 * steps + CONV2D_SIXTEEN_TENTHS) / 10;
    return windows >= FEW_WINDOWS && first < other;
}

size_t ek_conv2d_first_avx512vnni_scratch(const void *params)
{
    const ek_conv_params *p = params;
    first_shape s = first_shape_of(p);
    choose_band(&s, p);
    return tiles_bytes(p) + weights_bytes(p, &s) + (size_t)planes_of(&s) * (size_t)s.plane_bytes;
}

void ek_conv2d_first_avx512vnni(const void *params, const void *const in[], void *out,
                                void *scratch, const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    first_shape s = first_shape_of(p);
    choose_band(&s, p);
    uint8_t *planes = (uint8_t *)scratch + tiles_bytes(p) + weights_bytes(p, &s);
    first_tile *tiles = scratch;
    first_plan plan;
    make_plan(&plan, &s, p, planes);
    const int32_t count =
        set_tiles(tiles, p, &s, &plan, range, (int8_t *)scratch + tiles_bytes(p));
    first_windows w = {.at = plan.at,
                       .steps = s.steps,
                       .x_next = s.pitch * TILE_K,
                       .out_next = p->out.h_stride,
                       .out_step = p->out.w_stride};
    for (int32_t row = range->row; row < range->row_end; row += w.rows) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        w.rows = ek_min(s.rows, ek_min(p->out.h - oh, range->row_end - row));
        for (int32_t col = range->col; col < range->col_end; col += w.cols) {
            const int32_t rest = range->col_end - col;
            /* No column remains alone, as EIGHT takes two. */
            w.cols = rest == s.cols + 1 ? s.cols - 1 : ek_min(s.cols, rest);
            w.out = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            make_planes(p, &s, &plan, planes, image, oh, w.rows, col);
            multiply_tiles(tiles, count, w, &r);
        }
    }
}
