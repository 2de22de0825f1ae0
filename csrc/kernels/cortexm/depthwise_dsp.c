/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 convolution with dual 16-bit multiply-accumulates.
 *
 * Four channels at a time are turned from NHWC bytes to int16 planes in scratch, padding included,
 * so that two neighbouring values are one word and two outputs of a line share their loads. Lines
 * run along the longer side of the image.
 */
#include "../kernels.h"
#include "../window.h"
#include "dsp.h"

#define TAPS 3
#define QUAD 4   /* channels that one word of input holds */
#define PLANES_BYTES 4096 /* of scratch, unless two lines of outputs need more */

/* One direction of the image: along lines, or across them. Steps are in bytes of the tensors. */
typedef struct axis {
    int32_t in, out, pad, stride;
    ptrdiff_t in_step, out_step, weight_step;
} axis;

typedef struct layout {
    axis along, across;
    int32_t line;  /* words of a plane's line: two positions each */
    int32_t lines; /* of a plane */
    int32_t batch; /* lines of outputs from one filling of the planes */
} layout;

/* Words that `count` outputs of a line read, in pairs. */
static int32_t words_of(const axis *along, int32_t count)
{
    return (count + 1) / 2 * along->stride + 1;
}

static layout layout_of(const ek_conv_params *p)
{
    const axis rows = {p->in.h,         p->out.h,        p->pad_top, p->stride_h,
                       p->in.h_stride, p->out.h_stride, (ptrdiff_t)TAPS * p->out.c};
    const axis cols = {p->in.w,         p->out.w,        p->pad_left, p->stride_w,
                       p->in.w_stride, p->out.w_stride, p->out.c};
    layout l;
    l.along = p->out.h > p->out.w ? rows : cols;
    l.across = p->out.h > p->out.w ? cols : rows;
    l.line = words_of(&l.along, l.along.out);
    const int32_t fitting = PLANES_BYTES / (QUAD * (int32_t)sizeof(uint32_t)) / l.line;
    l.batch = ek_min(l.across.out, ek_max((fitting - TAPS) / l.across.stride + 1, 2));
    l.lines = (l.batch - 1) * l.across.stride + TAPS;
    return l;
}

/* The three weights of a line as (w0, w1) and (w1, w2). */
typedef struct line_weights {
    uint32_t first, second;
} line_weights;

static void pack_weights(const ek_conv_params *p, const layout *l, int32_t channel,
                         line_weights w[TAPS])
{
    for (int32_t i = 0; i < TAPS; i++) {
        const int8_t *from = p->weights.data + channel + i * l->across.weight_step;
        const uint32_t w0 = (uint16_t)from[0], w1 = (uint16_t)from[l->along.weight_step];
        const uint32_t w2 = (uint16_t)from[2 * l->along.weight_step];
        w[i] = (line_weights){w0 | w1 << 16, w1 | w2 << 16};
    }
}

/* ---- Planes ---------------------------------------------------------------------------------- */

/* Two neighbouring positions of four channels to the four planes. */
static inline void put(uint32_t a, uint32_t b, uint32_t *to, ptrdiff_t plane)
{
    const uint32_t a_even = ek_dsp_even(a), a_odd = ek_dsp_odd(a);
    const uint32_t b_even = ek_dsp_even(b), b_odd = ek_dsp_odd(b);
    to[0] = ek_dsp_lower(a_even, b_even);
    to[plane] = ek_dsp_lower(a_odd, b_odd);
    to[2 * plane] = ek_dsp_upper(a_even, b_even);
    to[3 * plane] = ek_dsp_upper(a_odd, b_odd);
}

/* One line of the input from position `first` on, `words` words; `size` positions are inside. */
static void fill_line(const int8_t *line, ptrdiff_t step, int32_t size, uint32_t zero,
                      int32_t first, int32_t words, uint32_t *to, ptrdiff_t plane)
{
    const uint32_t *const end = to + words;
    int32_t i = first;
    for (; i < 0 && to < end; i += 2, to++) /* one position of the pair at most is inside */
        put(zero, i == -1 && size > 0 ? ek_dsp_load(line) : zero, to, plane);
    int32_t whole = ek_min((size - i) / 2, (int32_t)(end - to));
    const int8_t *x = line + ek_min(i, size) * step;
    for (; whole > 0; whole--, i += 2, to++, x += 2 * step)
        put(ek_dsp_load(x), ek_dsp_load(x + step), to, plane);
    if (i < size && to < end)
        put(ek_dsp_load(x), zero, to++, plane);
    for (const uint32_t pair = ek_dsp_even(zero); to < end; to++)
        to[0] = to[plane] = to[2 * plane] = to[3 * plane] = pair;
}

/* ---- Outputs --------------------------------------------------------------------------------- */

/* Outputs of one channel, lines of pairs: words a b [c] hold the positions 0 1 | 2 3 | 4 5. */
typedef struct lines_job {
    const uint32_t *x[TAPS]; /* of three lines */
    int8_t *y;
    ptrdiff_t step; /* of y */
    uint32_t start;
    float multiplier;
    int32_t zero;
    int32_t bytes;          /* that x moves along a line: 4 a pair, for stride 2 twice that */
    ptrdiff_t x_next, y_next; /* bytes from the end of a line to the next one */
    int32_t lines;
} lines_job;

#ifdef __ARM_FP
/* By stride 1 or 2, clamped to the whole type. For 18 multiply-accumulates 37 or 40 instructions.
 *
 *     r0-r2 x, r3 y, r4-r9 weights, r10 r11 sums, r12 lr words of x
 *     s2 start, s3 multiplier, s4 zero point, s5 step, s6 where r0 ends, s7 bytes, s8 x_next,
 *     s9 y_next, s10 lines */
void ek_dsp_depthwise_1(const lines_job *job, const line_weights *weights);
void ek_dsp_depthwise_2(const lines_job *job, const line_weights *weights);

#define LINES_BEGIN                        \
    "    push {r4-r11, lr}\n"              \
    "    add r12, r0, #16\n"               \
    "    vldr s5, [r12]\n"                 \
    "    vldr s2, [r12, #4]\n"             \
    "    vldr s3, [r12, #8]\n"             \
    "    vldr s4, [r12, #12]\n"            \
    "    vldr s7, [r12, #16]\n"            \
    "    vldr s8, [r12, #20]\n"            \
    "    vldr s9, [r12, #24]\n"            \
    "    vldr s10, [r12, #28]\n"           \
    "    ldm r1, {r4-r9}\n"                \
    "    ldm r0, {r0-r3}\n"                \
    "2:  vmov r12, s7\n"                   \
    "    add r12, r0, r12\n"               \
    "    vmov s6, r12\n"                   \
    "1:  vmov r10, s2\n"                   \
    "    mov r11, r10\n"

/* Positions 0 1 in r12, 2 3 in lr; weights (w0, w1) in a, (w1, w2) in b. */
#define LINE_1(x, a, b)                 \
    "    ldrd r12, lr, [" x "], #4\n"   \
    "    smlad r10, r12, " a ", r10\n"  \
    "    smlatb r11, r12, " a ", r11\n" \
    "    smlabt r10, lr, " b ", r10\n"  \
    "    smlad r11, lr, " b ", r11\n"

#define LINE_2(x, a, b)                 \
    "    ldrd r12, lr, [" x "], #8\n"   \
    "    smlad r10, r12, " a ", r10\n"  \
    "    ldr r12, [" x "]\n"            \
    "    smlabt r10, lr, " b ", r10\n"  \
    "    smlad r11, lr, " a ", r11\n"   \
    "    smlabt r11, r12, " b ", r11\n"

#define LINES_END                                         \
    "    vmov r12, s4\n"                                  \
    EK_DSP_REQUANTIZE("r10", "r11", "s3", "s3", "r12")    \
    "    vmov r12, s5\n"                                  \
    "    strb r11, [r3, r12]\n"                           \
    "    strb r10, [r3]\n"                                \
    "    add r3, r3, r12, lsl #1\n"                       \
    "    vmov r12, s6\n"                                  \
    "    cmp r0, r12\n"                                   \
    "    bne 1b\n"                                        \
    "    vmov r12, s10\n"                                 \
    "    vmov lr, s8\n"                                   \
    "    vmov r10, s9\n"                                  \
    "    subs r12, r12, #1\n"                             \
    "    vmov s10, r12\n"                                 \
    "    add r0, r0, lr\n"                                \
    "    add r1, r1, lr\n"                                \
    "    add r2, r2, lr\n"                                \
    "    add r3, r3, r10\n"                               \
    "    bne 2b\n"                                        \
    "    pop {r4-r11, pc}\n"

EK_ASM_FUNCTION("ek_dsp_depthwise_1", LINES_BEGIN
                LINE_1("r0", "r4", "r5") LINE_1("r1", "r6", "r7") LINE_1("r2", "r8", "r9")
                LINES_END);
EK_ASM_FUNCTION("ek_dsp_depthwise_2", LINES_BEGIN
                LINE_2("r0", "r4", "r5") LINE_2("r1", "r6", "r7") LINE_2("r2", "r8", "r9")
                LINES_END);

static void run_pairs_whole(const layout *l, lines_job job, const line_weights *w, int32_t pairs)
{
    const int32_t stride = l->along.stride;
    job.bytes = pairs * stride * (int32_t)sizeof(uint32_t);
    job.x_next = (ptrdiff_t)l->across.stride * l->line * (ptrdiff_t)sizeof(uint32_t) - job.bytes;
    job.y_next = l->across.out_step - 2 * pairs * job.step;
    if (stride == 1)
        ek_dsp_depthwise_1(&job, w);
    else
        ek_dsp_depthwise_2(&job, w);
}

/* Lines of `count` outputs, clamped to the whole type. */
static void run_lines_whole(const layout *l, lines_job job, const line_weights *w, int32_t count)
{
    const int32_t pairs = count / 2;
    if (pairs > 0)
        run_pairs_whole(l, job, w, pairs);
    if (count % 2 != 0) { /* both of a pair to the same place, the first one last */
        for (int32_t i = 0; i < TAPS; i++)
            job.x[i] += pairs * l->along.stride;
        job.y += 2 * pairs * job.step;
        job.step = 0;
        run_pairs_whole(l, job, w, 1);
    }
}
#endif

/* One line of `count` outputs for any clamp. */
static void run_line(const lines_job *job, const line_weights w[TAPS], const ek_clamp *clamp,
                     int32_t stride, int32_t count)
{
    const int whole = ek_dsp_is_whole(clamp);
    int8_t *y = job->y;
    for (ptrdiff_t at = 0; count > 0; count -= 2, y += 2 * job->step, at += stride) {
        uint32_t s0 = job->start, s1 = job->start;
        for (int32_t i = 0; i < TAPS; i++) {
            const uint32_t *x = job->x[i] + at;
            s0 = ek_dsp_pair(s0, x[0], w[i].first);
            s0 = ek_dsp_bt(s0, x[1], w[i].second);
            if (stride == 1) { /* w0 x1 + w1 x2 + w2 x3 */
                s1 = ek_dsp_tb(s1, x[0], w[i].first);
                s1 = ek_dsp_pair(s1, x[1], w[i].second);
            } else {
                s1 = ek_dsp_pair(s1, x[1], w[i].first);
                s1 = ek_dsp_bt(s1, x[2], w[i].second);
            }
        }
        y[0] = ek_dsp_requantize(s0, job->multiplier, clamp, whole);
        if (count > 1)
            y[job->step] = ek_dsp_requantize(s1, job->multiplier, clamp, whole);
    }
}

static void run_lines(const layout *l, lines_job job, const line_weights w[TAPS],
                      const ek_clamp *clamp, int32_t count)
{
#ifdef __ARM_FP
    if (ek_dsp_is_whole(clamp)) {
        run_lines_whole(l, job, w, count);
        return;
    }
#endif
    for (; job.lines > 0; job.lines--, job.y += l->across.out_step) {
        run_line(&job, w, clamp, l->along.stride, count);
        for (int32_t i = 0; i < TAPS; i++)
            job.x[i] += (ptrdiff_t)l->across.stride * l->line;
    }
}

/* ---- Ranges ---------------------------------------------------------------------------------- */

/* The part of one image to compute: along [u, u_end), across [v, v_end), channels [c, c_end) of the
 * quad that begins at channel `quad`. */
typedef struct part {
    const int8_t *in;
    int8_t *out;
    int32_t u, u_end, v, v_end, quad, c, c_end;
} part;

static void batch(const ek_conv_params *p, const layout *l, const part *part, uint32_t *planes,
                  const line_weights w[QUAD][TAPS], int32_t v, int32_t lines)
{
    const axis *along = &l->along, *across = &l->across;
    const ptrdiff_t plane = (ptrdiff_t)l->line * l->lines;
    const uint32_t zero = (uint32_t)(uint8_t)p->x_zero * 0x01010101u;
    const int32_t count = part->u_end - part->u;
    const int32_t words = words_of(along, count);
    const int32_t needed = (lines - 1) * across->stride + TAPS;
    for (int32_t i = 0; i < needed; i++) {
        const int32_t at = v * across->stride - across->pad + i;
        const int inside = at >= 0 && at < across->in;
        const int8_t *line = part->in + part->quad + (inside ? at : 0) * across->in_step;
        fill_line(line, along->in_step, inside ? along->in : 0, zero,
                  part->u * along->stride - along->pad, words,
                  planes + (ptrdiff_t)i * l->line, plane);
    }
    for (int32_t c = part->c; c < part->c_end; c++) {
        const int32_t in_quad = c - part->quad;
        const uint32_t *x = planes + in_quad * plane;
        const lines_job job = {
            .x = {x, x + l->line, x + 2 * (ptrdiff_t)l->line},
            .y = part->out + c + v * across->out_step + part->u * along->out_step,
            .step = along->out_step,
            .start = (uint32_t)p->start[c],
            .multiplier = p->multiplier[c],
            .zero = p->clamp.zero,
            .lines = lines,
        };
        run_lines(l, job, w[in_quad], &p->clamp, count);
    }
}

static void quad(const ek_conv_params *p, const layout *l, const part *part, uint32_t *planes)
{
    line_weights w[QUAD][TAPS];
    for (int32_t i = 0; i < QUAD; i++)
        pack_weights(p, l, part->quad + i, w[i]);
    for (int32_t v = part->v; v < part->v_end; v += l->batch)
        batch(p, l, part, planes, (const line_weights(*)[TAPS])w, v,
              ek_min(l->batch, part->v_end - v));
}

static void image(const ek_conv_params *p, const layout *l, part part, const ek_range *range,
                  uint32_t *planes)
{
    for (part.c = range->ch; part.c < range->ch_end; part.c = part.c_end) {
        /* The last quad reaches back, so that its words end with the channels. */
        part.quad = ek_min(part.c, p->in.c - QUAD);
        part.c_end = ek_min(part.quad + QUAD, range->ch_end);
        quad(p, l, &part, planes);
    }
}

void ek_depthwise_dsp(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    const layout l = layout_of(p);
    const int swapped = p->out.h > p->out.w;
    for (int32_t row = range->row; row < range->row_end;) {
        const int32_t n = row / p->out.h, h = row % p->out.h;
        const int32_t h_end = ek_min(p->out.h, h + range->row_end - row);
        const part part = {
            .in = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0),
            .out = (int8_t *)out + ek_image_at(&p->out, n, 0, 0),
            .u = swapped ? h : range->col,
            .u_end = swapped ? h_end : range->col_end,
            .v = swapped ? range->col : h,
            .v_end = swapped ? range->col_end : h_end,
        };
        image(p, &l, part, range, scratch);
        row += h_end - h;
    }
}

/* Lines so long that their planes would take much scratch are rare on these processors. */
#define LINE_LIMIT 1024

int ek_depthwise_dsp_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->kernel_h == TAPS && p->kernel_w == TAPS && p->dilation_h == 1 && p->dilation_w == 1
        && p->stride_h == p->stride_w && p->stride_h <= 2 && p->out.c == p->in.c && p->in.c >= QUAD
        && ek_max(p->out.h, p->out.w) <= LINE_LIMIT;
}

size_t ek_depthwise_dsp_scratch(const void *params)
{
    const layout l = layout_of(params);
    return (size_t)QUAD * (size_t)l.line * (size_t)l.lines * sizeof(uint32_t);
}
