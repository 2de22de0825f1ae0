/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution with dual 16-bit multiply-accumulates: blocks of four pixels by two output channels.
 *
 * Weights are INTERLEAVED by two channels: a word holds two values of each channel, and sxtb16
 * makes a pair per channel of it. The four pixels' patches stand in scratch as int16 pairs, so that
 * unpacking a word of weights serves eight multiply-accumulate instructions.
 */
#include "../kernels.h"
#include "dsp.h"
#include "patch.h"

#define PIXELS 4
#define CHANNELS 2

/* Blocks of two channels for one set of four pixels; weights go on from block to block. Sums begin
 * at `start`; they become outputs at y, the next pixel's `step` bytes apart. */
typedef struct blocks_job {
    const int32_t *start;
    const float *multiplier;
    int32_t zero;
    int8_t *y;
    ptrdiff_t step;
    int32_t blocks;
} blocks_job;

/* One block's sums, by channel. */
typedef struct sums_job {
    const int32_t *start;
    uint32_t sums[CHANNELS * PIXELS];
} sums_job;

/* The multiply-accumulate loop over `depth` values. Per two values, 13 instructions do 16
 * multiply-accumulates. Both advance the pointers and counts in their job, or overwrite its sums.
 *
 *     r0 x, r1 weights, r2 r3 pixels, r4-r7 sums of channel 0, r8-r11 of channel 1, r12 lr their
 *     weights
 *     sp: end of x in steps of eight, end of x, x, the job, depth */
void ek_dsp_sums(const uint32_t *x, const int8_t *weights, sums_job *job, int32_t depth);
void ek_dsp_outputs(const uint32_t *x, const int8_t *weights, blocks_job *job, int32_t depth);

#define STEP(load)                                                                    \
    "    " load " \n"                                                                 \
    "    ldrd r2, r3, [r0], #8\n"                                                     \
    "    sxtb16 r12, lr\n"                                                            \
    "    sxtb16 lr, lr, ror #8\n"                                                     \
    "    smlad r4, r12, r2, r4\n"                                                     \
    "    smlad r5, r12, r3, r5\n"                                                     \
    "    smlad r8, lr, r2, r8\n"                                                      \
    "    smlad r9, lr, r3, r9\n"                                                      \
    "    ldrd r2, r3, [r0], #8\n"                                                     \
    "    smlad r6, r12, r2, r6\n"                                                     \
    "    smlad r7, r12, r3, r7\n"                                                     \
    "    smlad r10, lr, r2, r10\n"                                                    \
    "    smlad r11, lr, r3, r11\n"

#define SUMS                                                                         \
    "    push {r2-r11, lr}\n"                                                        \
    "    sub sp, #12\n"                                                              \
    "    lsr r12, r3, #1\n"                                                          \
    "    add lr, r0, r12, lsl #4\n"          /* behind the pairs of x */             \
    "    bic r12, r12, #7\n"                                                         \
    "    add r12, r0, r12, lsl #4\n"         /* behind the last eight */             \
    "    strd r12, lr, [sp]\n"                                                       \
    "    str r0, [sp, #8]\n"                                                         \
    "5:  ldr r2, [sp, #12]\n"                                                        \
    "    ldr r3, [r2]\n"                                                             \
    "    ldm r3!, {r4, r8}\n"                                                        \
    "    str r3, [r2]\n"                                                             \
    "    mov r5, r4\n"                                                               \
    "    mov r6, r4\n"                                                               \
    "    mov r7, r4\n"                                                               \
    "    mov r9, r8\n"                                                               \
    "    mov r10, r8\n"                                                              \
    "    mov r11, r8\n"                                                              \
    "    ldr r12, [sp]\n"                                                            \
    "    cmp r0, r12\n"                                                              \
    "    beq 2f\n"                                                                   \
    "1:  .rept 8\n"                                                                  \
    STEP("ldr lr, [r1], #4")                                                         \
    "    .endr\n"                                                                    \
    "    ldr r2, [sp]\n"                                                             \
    "    cmp r0, r2\n"                                                               \
    "    bne 1b\n"                                                                   \
    "2:  ldr r2, [sp, #4]\n"                                                         \
    "    cmp r0, r2\n"                                                               \
    "    beq 3f\n"                                                                   \
    STEP("ldr lr, [r1], #4")                                                         \
    "    b 2b\n"                                                                     \
    "3:  ldr r2, [sp, #16]\n"                /* an odd depth: one value of each channel is left */ \
    "    tst r2, #1\n"                                                               \
    "    beq 4f\n"                                                                   \
    STEP("ldrh lr, [r1], #2")                                                        \
    "4:  ldr r2, [sp, #12]\n"

EK_ASM_FUNCTION("ek_dsp_sums", SUMS
                "    adds r2, #4\n"
                "    stm r2, {r4-r11}\n"
                "    add sp, #20\n"
                "    pop {r4-r11, pc}\n");

#ifdef __ARM_FP
#define STORE(a, b)                \
    "    strb " b ", [r2, #1]\n"   \
    "    strb " a ", [r2]\n"       \
    "    add r2, r2, r3\n"

/* r2 y, r3 the step, r12 the zero point, s2 s3 multipliers */
EK_ASM_FUNCTION("ek_dsp_outputs", SUMS
                "    ldr r3, [r2, #4]\n"
                "    vldm r3!, {s2, s3}\n"
                "    str r3, [r2, #4]\n"
                "    ldr r12, [r2, #8]\n"
                "    ldrd r2, r3, [r2, #12]\n"
                EK_DSP_REQUANTIZE("r4", "r8", "s2", "s3", "r12") STORE("r4", "r8")
                EK_DSP_REQUANTIZE("r5", "r9", "s2", "s3", "r12") STORE("r5", "r9")
                EK_DSP_REQUANTIZE("r6", "r10", "s2", "s3", "r12") STORE("r6", "r10")
                EK_DSP_REQUANTIZE("r7", "r11", "s2", "s3", "r12") STORE("r7", "r11")
                "    ldrd r0, r2, [sp, #8]\n"
                "    ldr r3, [r2, #12]\n"
                "    adds r3, #2\n"
                "    str r3, [r2, #12]\n"
                "    ldr r3, [r2, #20]\n"
                "    subs r3, #1\n"
                "    str r3, [r2, #20]\n"
                "    bne 5b\n"
                "    add sp, #20\n"
                "    pop {r4-r11, pc}\n");
#endif

static int32_t pairs_of(const ek_patch_shape *s)
{
    return (s->depth + 1) / 2;
}

/* `depth` values as pairs, `step` words apart; an odd last one with a zero. */
static inline __attribute__((always_inline)) void widen(const int8_t *from, int32_t depth,
                                                        uint32_t *x, int32_t step)
{
    for (int32_t words = depth / 4; words > 0; words--, from += 4, x += 2 * step) {
        const uint32_t word = ek_dsp_load(from);
        const uint32_t even = ek_dsp_even(word), odd = ek_dsp_odd(word);
        x[0] = ek_dsp_lower(even, odd);
        x[step] = ek_dsp_upper(even, odd);
    }
    for (int32_t left = depth % 4; left > 0; left -= 2, from += 2, x += step) {
        const uint32_t second = left > 1 ? (uint32_t)from[1] : 0;
        *x = (uint32_t)(uint16_t)from[0] | second << 16;
    }
}

static inline __attribute__((always_inline)) uint32_t *fill(uint32_t pair, int32_t pairs,
                                                            uint32_t *x, int32_t step)
{
    for (; pairs > 0; pairs--, x += step)
        *x = pair;
    return x;
}

/* Whether a kernel row is one run of bytes in the input, and in pairs from its first value on. */
static int rows_are_pairs(const ek_conv_params *p, const ek_patch_shape *s)
{
    return s->in_channels % 2 == 0
        && (p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == s->in_channels));
}

/* A window as pairs, `step` words apart. Scratch behind `x` has room for its bytes. */
static inline __attribute__((always_inline)) void widen_window(const ek_conv_params *p,
                                                               const ek_patch_shape *s,
                                                               const int8_t *image, int32_t row,
                                                               int32_t col, int8_t *patch,
                                                               uint32_t *x, int32_t step)
{
    if (!rows_are_pairs(p, s)) {
        widen(ek_patch(p, s, image, row, col, patch), s->depth, x, step);
        return;
    }
    const int32_t h = row % p->out.h * p->stride_h - p->pad_top;
    const int32_t w = col * p->stride_w - p->pad_left, line = p->kernel_w * s->in_channels;
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int32_t before = cols.first * s->in_channels, inside = cols.end * s->in_channels - before;
    const uint32_t zero = (uint32_t)(uint16_t)p->x_zero * 0x10001u;
    const int8_t *from = image + ek_image_at(&p->in, 0, 0, w + cols.first * p->dilation_w);
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t at = h + kh * p->dilation_h;
        if (at < 0 || at >= p->in.h) {
            x = fill(zero, line / 2, x, step);
            continue;
        }
        x = fill(zero, before / 2, x, step);
        widen(from + (ptrdiff_t)at * p->in.h_stride, inside, x, step);
        x = fill(zero, (line - before - inside) / 2, x + inside / 2 * step, step);
    }
}

/* Two channels of `count` pixels from `channel` on, an even one of the group; only those of the
 * range [first, end) are written. y is at the group's first channel. */
static void block(const ek_conv_params *p, const ek_patch_shape *s, const uint32_t *x,
                  const int8_t *weights, int32_t group, int32_t channel, int32_t count,
                  int32_t first, int32_t end, int8_t *y)
{
    const int32_t base = group * s->channels + channel, whole = ek_dsp_is_whole(&p->clamp);
    const int32_t start[CHANNELS] = {p->start[base],
                                     p->start[base + (channel + 1 < s->channels)]};
    sums_job job;
    job.start = start;
    ek_dsp_sums(x, weights + (ptrdiff_t)channel * s->depth, &job, s->depth);
    for (int32_t j = 0; j < CHANNELS; j++) {
        if (channel + j < first || channel + j >= end)
            continue;
        const float multiplier = p->multiplier[base + j];
        int8_t *out = y + channel + j;
        for (int32_t i = 0; i < count; i++, out += p->out.w_stride)
            *out = ek_dsp_requantize(job.sums[j * PIXELS + i], multiplier, &p->clamp, whole);
    }
}

/* As many blocks of the range [channel, end) as are whole, for four pixels; returns the channel
 * behind them. */
static int32_t whole_blocks(const ek_conv_params *p, const ek_patch_shape *s, const uint32_t *x,
                            const int8_t *weights, int32_t group, int32_t channel, int32_t end,
                            int8_t *y)
{
#ifdef __ARM_FP
    const int32_t base = group * s->channels + channel, blocks = (end - channel) / CHANNELS;
    if (blocks > 0 && channel % CHANNELS == 0 && ek_dsp_is_whole(&p->clamp)) {
        blocks_job job = {p->start + base,  p->multiplier + base, p->clamp.zero,
                          y + channel,      p->out.w_stride,      blocks};
        ek_dsp_outputs(x, weights + (ptrdiff_t)channel * s->depth, &job, s->depth);
        return channel + blocks * CHANNELS;
    }
#else
    (void)p, (void)s, (void)x, (void)weights, (void)group, (void)end, (void)y;
#endif
    return channel;
}

/* The same for one pixel: two blocks of channels share each pair of it. */
static void pixel_blocks(const ek_conv_params *p, const ek_patch_shape *s, const uint32_t *x,
                         const int8_t *weights, int32_t group, int32_t channel, int32_t first,
                         int32_t end, int8_t *y, int whole)
{
    const int32_t base = group * s->channels + channel, left = s->channels - channel;
    /* Where there is no second block, the first one again. */
    const int32_t second = left > CHANNELS ? CHANNELS : 0;
    const int8_t *w0 = weights + (ptrdiff_t)channel * s->depth;
    const int8_t *w1 = w0 + (ptrdiff_t)second * s->depth;
    uint32_t sums[2 * CHANNELS] = {0};
    for (int32_t i = 0; i < s->depth / 2; i++, w0 += 4, w1 += 4) {
        const uint32_t a = ek_dsp_load(w0), b = ek_dsp_load(w1), pair = x[i];
        sums[0] = ek_dsp_pair(sums[0], ek_dsp_even(a), pair);
        sums[1] = ek_dsp_pair(sums[1], ek_dsp_odd(a), pair);
        sums[2] = ek_dsp_pair(sums[2], ek_dsp_even(b), pair);
        sums[3] = ek_dsp_pair(sums[3], ek_dsp_odd(b), pair);
    }
    if (s->depth % 2 != 0) {
        const int32_t last = (int16_t)x[pairs_of(s) - 1];
        sums[0] += (uint32_t)(last * w0[0]);
        sums[1] += (uint32_t)(last * w0[1]);
        sums[2] += (uint32_t)(last * w1[0]);
        sums[3] += (uint32_t)(last * w1[1]);
    }
    const int32_t from = ek_max(first - channel, 0);
    const int32_t to = ek_min(2 * CHANNELS, ek_min(left, end - channel));
    for (int32_t j = from; j < to; j++)
        y[channel + j] = ek_dsp_requantize(sums[j] + (uint32_t)p->start[base + j],
                                           p->multiplier[base + j], &p->clamp, whole);
}

/* `count` pixels from (row, col) on: channels [first, end) of one group. */
static void pixels(const ek_conv_params *p, const ek_patch_shape *s, const int8_t *in, int8_t *out,
                   uint32_t *x, int32_t row, int32_t col, int32_t count, int32_t group,
                   int32_t first, int32_t end)
{
    const int8_t *image = in + ek_image_at(&p->in, row / p->out.h, 0, 0)
        + (ptrdiff_t)group * s->in_channels;
    int8_t *y = out + ek_image_at(&p->out, row / p->out.h, row % p->out.h, col)
        + (ptrdiff_t)group * s->channels;
    const ptrdiff_t group_bytes = (ptrdiff_t)((s->channels + 1) / 2 * 2) * s->depth;
    const int8_t *weights = p->weights.data + group * group_bytes;
    const int whole = ek_dsp_is_whole(&p->clamp);
    if (count == 1) {
        widen_window(p, s, image, row, col, (int8_t *)(x + pairs_of(s)), x, 1);
        for (int32_t o = first / 2 * 2; o < end; o += 2 * CHANNELS)
            pixel_blocks(p, s, x, weights, group, o, first, end, y, whole);
        return;
    }
    for (int32_t i = 0; i < count; i++)
        widen_window(p, s, image, row, col + i,
                     (int8_t *)(x + (ptrdiff_t)PIXELS * pairs_of(s)), x + i, PIXELS);
    int32_t o = first;
    if (count == PIXELS)
        o = whole_blocks(p, s, x, weights, group, o, end, y);
    for (o = o / 2 * 2; o < end; o += CHANNELS)
        block(p, s, x, weights, group, o, count, first, end, y);
}

void ek_conv2d_dsp(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_conv_params *p = params;
    const ek_patch_shape s = ek_patch_shape_of(p);
    /* Pixels that are not there keep what stood in scratch before: their sums go unused. */
    for (int32_t row = range->row; row < range->row_end; row++) {
        for (int32_t col = range->col; col < range->col_end; col += PIXELS) {
            const int32_t count = ek_min(PIXELS, range->col_end - col);
            for (int32_t o = range->ch; o < range->ch_end;) {
                const int32_t group = o / s.channels, base = group * s.channels;
                const int32_t end = ek_min(range->ch_end, base + s.channels);
                pixels(p, &s, in[0], out, scratch, row, col, count, group, o - base, end - base);
                o = end;
            }
        }
    }
}

int ek_conv2d_dsp_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->weights.tile_n == CHANNELS && p->weights.tile_k == 1;
}

/* The pixels' patches as pairs, and one as it is read. */
size_t ek_conv2d_dsp_scratch(const void *params)
{
    const ek_conv_params *p = params;
    const ek_patch_shape s = ek_patch_shape_of(p);
    const size_t together = p->out.w == 1 ? 1 : PIXELS;
    return (size_t)pairs_of(&s) * together * sizeof(uint32_t) + (size_t)s.depth;
}
