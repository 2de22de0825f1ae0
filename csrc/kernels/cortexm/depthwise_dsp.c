/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 convolution with dual 16-bit multiply-accumulates.
 *
 * Four channels at a time are turned from NHWC bytes to int16 planes in scratch, padding included.
 * A plane's word holds two neighbouring positions of a line along the longer side of the image; the
 * words of one pair of positions in all lines stand behind each other, a column. Going down a
 * column, a word serves the outputs of three lines while it is in a register.
 */
#include "../kernels.h"
#include "../window.h"
#include "dsp.h"

#define TAPS 3
#define QUAD 4            /* channels that one word of input holds */
#define PLANES_BYTES 4096 /* of scratch, unless two outputs of a line need more */

#ifdef __ARM_FP

/* One direction of the image: along lines, or across them. Steps are in bytes of the tensors. */
typedef struct axis {
    int32_t in, out, pad, stride;
    ptrdiff_t in_step, out_step, weight_step;
} axis;

typedef struct layout {
    axis along, across;
    int32_t columns; /* of a plane */
    int32_t batch;   /* outputs of a line from one filling of the planes: even, or all of them */
} layout;

/* Columns that `count` outputs of a line read, in pairs. */
static int32_t columns_of(const axis *along, int32_t count)
{
    return (count + 1) / 2 * along->stride + 1;
}

/* Words of a column, for `count` lines of outputs. */
static int32_t lines_of(const axis *across, int32_t count)
{
    return (count - 1) * across->stride + TAPS;
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
    const int32_t column_bytes = lines_of(&l.across, l.across.out) * QUAD * 4;
    const int32_t pairs = ek_max((PLANES_BYTES / column_bytes - 1) / l.along.stride, 1);
    l.batch = ek_min(2 * pairs, l.along.out);
    l.columns = columns_of(&l.along, l.batch);
    return l;
}

/* ---- Planes ---------------------------------------------------------------------------------- */

/* Bytes of four channels at some position of a line, and those of the next line `step` on. */
typedef struct position {
    const int8_t *x;
    ptrdiff_t step;
} position;

/* `lines` words of each of four channels from two positions: lower halves of a, upper of b. The
 * channels' words are `plane` bytes apart. */
void ek_dsp_interleave(uint32_t *to, ptrdiff_t plane, const position ab[2], int32_t lines);

/* r0 to, r1 plane, r2 three planes, r3 lines, r4 r5 a, r6 r7 b; of the words in r10 r11 the even
 * bytes get to r8 r9 and the odd ones stay */
#define INTERLEAVE                        \
    "    sxtb16 r8, r10\n"                \
    "    sxtb16 r9, r11\n"                \
    "    sxtb16 r10, r10, ror #8\n"       \
    "    sxtb16 r11, r11, ror #8\n"       \
    "    pkhbt r12, r10, r11, lsl #16\n"  \
    "    pkhtb r10, r11, r10, asr #16\n"  \
    "    pkhbt r11, r8, r9, lsl #16\n"    \
    "    pkhtb r8, r9, r8, asr #16\n"     \
    "    str r12, [r0, r1]\n"             \
    "    str r8, [r0, r1, lsl #1]\n"      \
    "    str r10, [r0, r2]\n"             \
    "    str r11, [r0], #4\n"
#define INTERLEAVE_ONE                    \
    "    ldr r10, [r4]\n"                 \
    "    ldr r11, [r6]\n"                 \
    "    add r4, r5\n"                    \
    "    add r6, r7\n" INTERLEAVE

EK_ASM_FUNCTION("ek_dsp_interleave",
                "    push {r4-r11, lr}\n"
                "    ldm r2, {r4-r7}\n"
                "    add r2, r1, r1, lsl #1\n"
                "    adds r3, #1\n" /* rounds of two lines, the first of an odd number by half */
                "    lsrs r3, r3, #1\n"
                "    beq 3f\n"
                "    bcc 2f\n"
                "1:\n" INTERLEAVE_ONE
                "2:\n" INTERLEAVE_ONE
                "    subs r3, #1\n"
                "    bne 1b\n"
                "3:  pop {r4-r11, pc}\n");

/* The weights of four channels: of the three lines first (w0, w1) and then (w1, w2). */
typedef uint32_t quad_weights[QUAD][2 * TAPS];

static void pack_weights(const ek_conv_params *p, const layout *l, int32_t channel, quad_weights w)
{
    const ptrdiff_t next = l->along.weight_step, line = l->across.weight_step;
    const int8_t *from = p->weights.data + channel;
    const position first[2] = {{from, line}, {from + next, line}};
    const position second[2] = {{from + next, line}, {from + 2 * next, line}};
    ek_dsp_interleave(w[0], sizeof w[0], first, TAPS);
    ek_dsp_interleave(w[0] + TAPS, sizeof w[0], second, TAPS);
}

/* The part of one image to compute: along [u, u_end), across [v, v_end), channels [c, c_end) of the
 * quad that begins at channel `quad`. */
typedef struct part {
    const int8_t *in;
    int8_t *out;
    int32_t u, u_end, v, v_end, quad, c, c_end;
    int32_t lines;       /* words of a column */
    int32_t top, inside; /* those above the input and in it */
} part;

/* What lies above and below the input, in all columns: it is the same for all quads. */
static void pad_columns(const ek_conv_params *p, const layout *l, const part *part,
                        uint32_t *planes)
{
    const uint32_t pair = (uint32_t)(uint16_t)p->x_zero * 0x10001u;
    for (int32_t i = QUAD * l->columns; i > 0; i--, planes += part->lines) {
        for (int32_t v = 0; v < part->top; v++)
            planes[v] = pair;
        for (int32_t v = part->top + part->inside; v < part->lines; v++)
            planes[v] = pair;
    }
}

/* The columns for outputs from u on, of positions before and behind the lines, too. */
static void fill_columns(const ek_conv_params *p, const layout *l, const part *part, int32_t u,
                         int32_t count, uint32_t *planes)
{
    const axis *along = &l->along, *across = &l->across;
    const uint32_t zero = (uint32_t)(uint8_t)p->x_zero * 0x01010101u;
    const int32_t first = part->v * across->stride - across->pad + part->top;
    const int8_t *in = part->in + part->quad + first * across->in_step;
    const ptrdiff_t plane = (ptrdiff_t)l->columns * part->lines * (ptrdiff_t)sizeof *planes;
    int32_t at = u * along->stride - along->pad;
    planes += part->top;
    for (int32_t i = columns_of(along, count); i > 0; i--, planes += part->lines) {
        position ab[2];
        for (int32_t j = 0; j < 2; j++, at++) {
            const int inside = at >= 0 && at < along->in;
            ab[j].x = inside ? in + at * along->in_step : (const int8_t *)&zero;
            ab[j].step = inside ? across->in_step : 0;
        }
        ek_dsp_interleave(planes, plane, ab, part->inside);
    }
}

/* ---- Outputs --------------------------------------------------------------------------------- */

/* Outputs of some channels of a quad: strips of two by as many as there are lines. */
typedef struct strips_job {
    uint32_t zero;    /* a pair of the zero point */
    ptrdiff_t step;   /* of y along the line */
    ptrdiff_t strip;  /* bytes of a strip's columns: for stride 1 of one, for stride 2 of two */
    ptrdiff_t column; /* bytes */
    ptrdiff_t y_line; /* from a line to the next */
    ptrdiff_t y_next; /* from the end of a strip to the next one */
    int32_t strips;
    int32_t single;   /* whether there is one more, whose outputs are one by one */
    const int32_t *start; /* from here on, the function moves on from channel to channel */
    const float *multiplier;
    const uint32_t *weights;
    const uint32_t *x;
    int8_t *y;
    ptrdiff_t plane; /* bytes */
    int32_t channels;
} strips_job;

/* By stride 1 or 2, clamped to the whole type; products with the multiplier lie within int16. For
 * 18 multiply-accumulates 37 or 44 cycles.
 *
 *     r0 x, r1 y, r2-r7 weights, r8-r11 sums, r12 lr words of x; stride 2: r10, too, and r11 column
 *     s2 start, s3 multiplier, s4-s11 as in the job, s12 the end of x in the strip, s13 job */
void ek_dsp_depthwise(strips_job *job);

/* Two outputs from s0 and s1. */
#define STORE                             \
    "    vcvt.f32.s32 s0, s0\n"           \
    "    vcvt.f32.s32 s1, s1\n"           \
    "    vmul.f32 s0, s0, s3\n"           \
    "    vmul.f32 s1, s1, s3\n"           \
    "    vcvtr.s32.f32 s0, s0\n"          \
    "    vcvtr.s32.f32 s1, s1\n"          \
    "    vmov r12, lr, s0, s1\n"          \
    "    pkhbt r12, lr, r12, lsl #16\n"   \
    "    vmov lr, s4\n"                   \
    "    qadd16 r12, r12, lr\n"           \
    "    ssat16 r12, #8, r12\n"           \
    "    vmov lr, s5\n"                   \
    "    strb r12, [r1, lr]\n"            \
    "    lsr r12, r12, #16\n"             \
    "    strb r12, [r1]\n"                \
    "    vmov lr, s8\n"                   \
    "    add r1, lr\n"

/* lr, the end of x, moves on to the next strip; without one there may be a single one. */
#define STRIP_END(next, begin)      \
    "    vmov r12, s9\n"            \
    "    add r1, r12\n"             \
    "    vmov r12, s10\n"           \
    next                            \
    "    vmov s12, lr\n"            \
    "    subs r12, r12, #1\n"       \
    "    vmov s10, r12\n"           \
    "    bne " begin "\n"

/* Positions 0 1 in r12, 2 3 in lr; weights (w0, w1) in a, (w1, w2) in b; sums c and d. */
#define LOAD_1                      \
    "    vmov lr, s7\n"             \
    "    ldr lr, [r0, lr]\n"        \
    "    ldr r12, [r0], #4\n"

#define LINE_1(a, b, c, d)                          \
    "    smlad " c ", r12, " a ", " c "\n"          \
    "    smlatb " d ", r12, " a ", " d "\n"         \
    "    smlabt " c ", lr, " b ", " c "\n"          \
    "    smlad " d ", lr, " b ", " d "\n"

/* The first line of the sums. */
#define BEGIN_1(c, d)                               \
    "    vmov " d ", s2\n"                          \
    "    smlad " c ", r12, r2, " d "\n"             \
    "    smlatb " d ", r12, r2, " d "\n"            \
    "    smlabt " c ", lr, r5, " c "\n"             \
    "    smlad " d ", lr, r5, " d "\n"

/* A line of the input: the third one of sums a and b, the second of c and d. */
#define STEP_1(a, b, c, d)                          \
    LOAD_1 LINE_1("r4", "r7", a, b) LINE_1("r3", "r6", c, d)  \
    "    vmov s0, s1, " a ", " b "\n"               \
    BEGIN_1(a, b) STORE

/* Positions 0 1 in r12, 2 3 in lr, 4 5 in r10. */
#define LOAD_2                              \
    "    ldr lr, [r0, r11]\n"               \
    "    ldr r10, [r0, r11, lsl #1]\n"      \
    "    ldr r12, [r0], #4\n"

#define LINE_2(a, b)                        \
    "    smlad r8, r12, " a ", r8\n"        \
    "    smlad r9, lr, " a ", r9\n"         \
    "    smlabt r8, lr, " b ", r8\n"        \
    "    smlabt r9, r10, " b ", r9\n"

#define BEGIN_2                             \
    "    vmov r9, s2\n"                     \
    "    smlad r8, r12, r2, r9\n"           \
    "    smlad r9, lr, r2, r9\n"            \
    "    smlabt r8, lr, r5, r8\n"           \
    "    smlabt r9, r10, r5, r9\n"

/* With an odd number of lines the first sums are those that the loop's second step ends. The second
 * output of a single strip goes to the place of the first, before it. */
EK_ASM_FUNCTION("ek_dsp_depthwise",
                "    push {r4-r11, lr}\n"
                "    vmov s13, r0\n"
                "1:  vldm r0!, {s4-s11}\n" /* a channel */
                "    ldm r0, {r8-r11, lr}\n"
                "    vldm r8!, {s2}\n"
                "    vldm r9!, {s3}\n"
                "    ldm r10!, {r2-r7}\n"
                "    mov r12, r0\n"
                "    ldr r1, [r0, #20]\n"
                "    mov r0, r11\n"
                "    add r11, r11, r1\n"
                "    mov r1, lr\n"
                "    adds lr, lr, #1\n"
                "    stm r12, {r8-r11, lr}\n"
                "    vmov r12, s7\n"
                "    add r12, r12, r0\n"
                "    vmov s12, r12\n"
                "2:  vmov r11, s6\n"
                "    vmov r12, s7\n"
                "    cmp r11, r12\n"
                "    bne 7f\n"
                "3:\n" /* a strip by stride 1 */
                LOAD_1 BEGIN_1("r8", "r9")
                LOAD_1 LINE_1("r3", "r6", "r8", "r9") BEGIN_1("r10", "r11")
                "    vmov r12, s7\n"
                "    tst r12, #4\n"
                "    bne 6f\n"
                "4:\n" STEP_1("r8", "r9", "r10", "r11")
                "5:\n" STEP_1("r10", "r11", "r8", "r9")
                "    vmov lr, s12\n"
                "    cmp r0, lr\n"
                "    bne 4b\n"
                "    vmov r8, s7\n"
                STRIP_END("    add lr, lr, r8\n", "3b")
                "    b 9f\n"
                "6:  mov r12, r8\n"
                "    mov lr, r9\n"
                "    mov r8, r10\n"
                "    mov r9, r11\n"
                "    mov r10, r12\n"
                "    mov r11, lr\n"
                "    b 5b\n"
                "7:  vmov r11, s7\n" /* by stride 2 */
                LOAD_2 BEGIN_2
                "8:\n" LOAD_2 LINE_2("r3", "r6")
                LOAD_2 LINE_2("r4", "r7")
                "    vmov s0, s1, r8, r9\n"
                BEGIN_2 STORE
                "    vmov lr, s12\n"
                "    cmp r0, lr\n"
                "    bne 8b\n"
                "    add r0, r11\n" /* the strip's second column */
                STRIP_END("    add lr, lr, r11, lsl #1\n", "7b")
                "9:  vmov r8, s11\n"
                "    cmp r8, #0\n"
                "    beq 9f\n"
                "    vmov s10, r8\n"
                "    mov r8, #0\n"
                "    vmov s11, r8\n"
                "    vmov s5, r8\n"
                "    b 2b\n"
                "9:  vmov r0, s13\n"
                "    ldr r1, [r0, #56]\n"
                "    subs r1, #1\n"
                "    str r1, [r0, #56]\n"
                "    bne 1b\n"
                "    pop {r4-r11, pc}\n");

/* ---- Ranges ---------------------------------------------------------------------------------- */

/* `count` outputs of each line from u on. */
static void run_batch(const ek_conv_params *p, const layout *l, const part *part,
                      const uint32_t *planes, const quad_weights w, int32_t u, int32_t count)
{
    const int32_t in_quad = part->c - part->quad, lines = part->v_end - part->v;
    const ptrdiff_t column = part->lines * (ptrdiff_t)sizeof *planes;
    strips_job job = {
        .zero = (uint32_t)(uint16_t)p->clamp.zero * 0x10001u,
        .step = l->along.out_step,
        .strip = l->along.stride * column,
        .column = column,
        .y_line = l->across.out_step,
        .y_next = 2 * l->along.out_step - lines * l->across.out_step,
        .strips = count / 2,
        .single = count % 2,
        .start = p->start + part->c,
        .multiplier = p->multiplier + part->c,
        .weights = w[in_quad],
        .x = planes + (ptrdiff_t)in_quad * l->columns * part->lines,
        .y = part->out + part->c + part->v * l->across.out_step + u * l->along.out_step,
        .plane = l->columns * column,
        .channels = part->c_end - part->c,
    };
    if (count == 1) {
        job.strips = 1;
        job.single = 0;
        job.step = 0;
    }
    ek_dsp_depthwise(&job);
}

static void run_quad(const ek_conv_params *p, const layout *l, const part *part, uint32_t *planes)
{
    quad_weights w;
    pack_weights(p, l, part->quad, w);
    for (int32_t u = part->u; u < part->u_end; u += l->batch) {
        const int32_t count = ek_min(l->batch, part->u_end - u);
        fill_columns(p, l, part, u, count, planes);
        run_batch(p, l, part, planes, (const uint32_t(*)[2 * TAPS])w, u, count);
    }
}

static void run_image(const ek_conv_params *p, const layout *l, part part, const ek_range *range,
                      uint32_t *planes)
{
    const int32_t first = part.v * l->across.stride - l->across.pad;
    part.lines = lines_of(&l->across, part.v_end - part.v);
    const ek_taps inside = ek_taps_inside(first, part.lines, 1, l->across.in);
    part.top = inside.first;
    part.inside = inside.end - inside.first;
    pad_columns(p, l, &part, planes);
    for (part.c = range->ch; part.c < range->ch_end; part.c = part.c_end) {
        /* The last quad reaches back, so that its words end with the channels. */
        part.quad = ek_min(part.c, p->in.c - QUAD);
        part.c_end = ek_min(part.quad + QUAD, range->ch_end);
        run_quad(p, l, &part, planes);
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
        run_image(p, &l, part, range, scratch);
        row += h_end - h;
    }
    if (!ek_dsp_is_whole(&p->clamp))
        ek_dsp_clamp_range(p, out, range);
}

size_t ek_depthwise_dsp_scratch(const void *params)
{
    const layout l = layout_of(params);
    const size_t lines = (size_t)lines_of(&l.across, l.across.out);
    return QUAD * (size_t)l.columns * lines * sizeof(uint32_t);
}

/* What two outputs of a line may need. Images that need more, of which both sides are above 510
 * outputs, or at stride 2 above 170, are rare on these processors. */
#define SCRATCH_LIMIT 16384

/* Whether all products with multipliers are within int16, less a zero point. They are unless outputs
 * have a scale that is tiny beside that of inputs and weights. */
static int are_small(const ek_conv_params *p)
{
    for (int32_t c = 0; c < p->out.c; c++) {
        const float start = (float)p->start[c], magnitude = start < 0 ? -start : start;
        if (!((magnitude + (float)(TAPS * TAPS << 14)) * p->multiplier[c] < 32000.0f))
            return 0;
    }
    return 1;
}

int ek_depthwise_dsp_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->kernel_h == TAPS && p->kernel_w == TAPS && p->dilation_h == 1 && p->dilation_w == 1
        && p->stride_h == p->stride_w && p->stride_h <= 2 && p->out.c == p->in.c && p->in.c >= QUAD
        && ek_depthwise_dsp_scratch(p) <= SCRATCH_LIMIT && are_small(p);
}

#else

EK_DSP_UNSUPPORTED(ek_depthwise_dsp)

#endif
