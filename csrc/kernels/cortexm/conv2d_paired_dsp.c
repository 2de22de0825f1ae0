/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution over PAIRED weights: blocks of four output channels by two pixels, or by one.
 *
 * A half of a word of weights is 256 * odd + even. Its products with the input add up to 256 times
 * the odd channel's sum plus the even one's; sxtb16 leaves of the word the even channel's weights,
 * whose products add up to the other. Files hold no PAIRED weights whose odd sums could exceed 24
 * bits.
 */
#include "../kernels.h"
#include "dsp.h"
#include "patch.h"

#define CHANNELS 4
#define PIXELS 2
#define X_BYTES 1536 /* of scratch for pairs of input, unless two pixels need more */
#define QUAD 4 /* values of a tile: pairs of values 0 2 and 1 3, as sxtb16 makes them of input */

#ifdef __ARM_FP

/* Of the depth, and what fills up the last quad. */
static int32_t steps_of(const ek_conv_params *p)
{
    return ek_ceil_div(ek_patch_shape_of(p).depth, QUAD) * 2;
}

/* Twos of pixels that scratch holds. */
static int32_t twos_of(const ek_conv_params *p)
{
    const int32_t bytes = steps_of(p) * PIXELS * (int32_t)sizeof(uint32_t);
    return ek_max(1, ek_min(X_BYTES / bytes, p->out.w / PIXELS));
}

/* Blocks of four channels, whose weights, start and multipliers follow each other. Outputs of the
 * first pixel are at y, those of the next one `step` bytes on. */
typedef struct paired_job {
    const int32_t *start;
    const float *multiplier;
    int8_t *y;
    ptrdiff_t step;
    int32_t zero;
    const int32_t *start_end;
    const uint32_t *x_end; /* of the last two pixels */
} paired_job;

/* `steps`, an even number, of pairs; x is [steps] of one pixel, or [steps][PIXELS] for each two of
 * several. For 16 multiply-accumulates 14 instructions, in 15 or 20 cycles. Outputs are clamped to
 * the whole type.
 *
 *     2: r0 x, r1 weights, both less 4, r2 r3 pairs of both pixels, r4 r5 weights; channel by
 *        channel, a pixel each, r6 r7, r8 r9, r10 r11, r12 lr sums
 *     1: r0 x, r1 weights, r2 r3 two pairs, r4-r7 sums, r8-r11 weights, r12 the end of x, lr that
 *        of eights
 *     s0 s1 requantization, s2 x, s5 start, s6 multiplier, s7 s8 y and step, s9 zero point,
 *     s10 start_end, s12-s15 multipliers
 *     2: s3 where the loop is entered, s4 the end of the weights, s11 how many bytes the loop has
 *        behind it there, s16-s19 start, s20 x_end, s21 weights, s22 y of the pixels, s23 bytes of
 *        steps */
void ek_dsp_paired_2(const uint32_t *x, const int8_t *weights, const paired_job *job,
                     int32_t steps);
void ek_dsp_paired_1(const uint32_t *x, const int8_t *weights, const paired_job *job,
                     int32_t steps);

#define JOB                      \
    "    ldm r2, {r4-r10}\n"     \
    "    vmov s2, r0\n"          \
    "    vmov s5, s6, r4, r5\n"  \
    "    vmov s7, s8, r6, r7\n"  \
    "    vmov s9, s10, r8, r9\n"

/* Four loads side by side take five cycles, two of two words six. They have 16 bits each, the
 * others 32. */
#define STEP_BYTES "48"
#define LOAD_2(at)                         \
    "    ldr.n r2, [r0, #8 * " at " + 4]\n" \
    "    ldr.n r3, [r0, #8 * " at " + 8]\n" \
    "    ldr.n r4, [r1, #8 * " at " + 4]\n" \
    "    ldr.n r5, [r1, #8 * " at " + 8]\n"
/* The sixteenth step's take x and weights along. */
#define LOAD_2_LAST                  \
    "    ldr r2, [r0, #124]\n"       \
    "    ldr r3, [r0, #128]!\n"      \
    "    ldr r4, [r1, #124]\n"       \
    "    ldr r5, [r1, #128]!\n"

#define PRODUCTS_2                       \
    "    smlad r8, r4, r2, r8\n"         \
    "    smlad r9, r4, r3, r9\n"         \
    "    smlad r12, r5, r2, r12\n"       \
    "    smlad lr, r5, r3, lr\n"         \
    "    sxtb16 r4, r4\n"                \
    "    sxtb16 r5, r5\n"                \
    "    smlad r6, r4, r2, r6\n"         \
    "    smlad r7, r4, r3, r7\n"         \
    "    smlad r10, r5, r2, r10\n"       \
    "    smlad r11, r5, r3, r11\n"
#define STEP_2(at) LOAD_2(at) PRODUCTS_2

#define STEPS_1                       \
    "    ldm r0!, {r2, r3}\n"         \
    "    ldm r1!, {r8-r11}\n"         \
    "    smlad r5, r8, r2, r5\n"      \
    "    smlad r7, r9, r2, r7\n"      \
    "    sxtb16 r8, r8\n"             \
    "    sxtb16 r9, r9\n"             \
    "    smlad r4, r8, r2, r4\n"      \
    "    smlad r6, r9, r2, r6\n"      \
    "    smlad r5, r10, r3, r5\n"     \
    "    smlad r7, r11, r3, r7\n"     \
    "    sxtb16 r10, r10\n"           \
    "    sxtb16 r11, r11\n"           \
    "    smlad r4, r10, r3, r4\n"     \
    "    smlad r6, r11, r3, r6\n"

/* The odd channel's sum from both, and its start. */
#define ODD(even, odd, start)                        \
    "    sub " odd ", " odd ", " even "\n"           \
    "    add " odd ", " start ", " odd ", asr #8\n"

/* Block by block, and in each two pixels at a time. The first step turns starts to sums, the others
 * go sixteen a turn. As they are an odd number, the first turn begins in the middle, with x and
 * weights as many steps lower. */
EK_ASM_FUNCTION("ek_dsp_paired_2",
                "    push {r4-r11, lr}\n"
                "    vpush {s16-s23}\n"
                "    subs r0, #4\n"
                "    subs r1, #4\n" JOB
                "    subs r7, r10, #4\n"
                "    rsb r4, r3, #1\n"
                "    and r4, r4, #15\n"
                "    adr r5, 2f\n"
                "    movs r6, #" STEP_BYTES "\n"
                "    mla r5, r4, r6, r5\n"
                "    adds r5, #1\n" /* Thumb */
                "    subs r4, #1\n"
                "    lsls r4, r4, #3\n"
                "    lsls r3, r3, #3\n"
                "    vmov s3, r5\n"
                "    vmov s11, r4\n"
                "    vmov s20, r7\n"
                "    vmov s23, r3\n"
                "4:  vmov r4, s5\n"
                "    vmov r5, s6\n"
                "    vmov r6, s23\n"
                "    vmov r7, s7\n"
                "    vldm r4!, {s16-s19}\n"
                "    vldm r5!, {s12-s15}\n"
                "    vmov s5, r4\n"
                "    vmov s6, r5\n"
                "    vmov s21, r1\n"
                "    adds r6, r6, r1\n"
                "    vmov s4, r6\n"
                "    vmov s22, r7\n"
                "    adds r7, #4\n"
                "    vmov s7, r7\n"
                "    vmov r0, s2\n"
                "1:  vmov r1, s21\n"
                "    vmov r6, s16\n"
                "    vmov r10, s18\n" LOAD_2("0")
                "    smlad r8, r4, r2, r6\n"
                "    smlad r9, r4, r3, r6\n"
                "    smlad r12, r5, r2, r10\n"
                "    smlad lr, r5, r3, r10\n"
                "    sxtb16 r4, r4\n"
                "    sxtb16 r5, r5\n"
                "    smlad r7, r4, r3, r6\n"
                "    smlad r6, r4, r2, r6\n"
                "    smlad r11, r5, r3, r10\n"
                "    smlad r10, r5, r2, r10\n"
                "    vmov r2, s11\n"
                "    vmov r4, s3\n"
                "    subs r0, r0, r2\n"
                "    subs r1, r1, r2\n"
                "    bx r4\n"
                "    .balign 4\n"
                "2:\n" STEP_2("0") STEP_2("1") STEP_2("2") STEP_2("3")
                STEP_2("4") STEP_2("5") STEP_2("6") STEP_2("7")
                STEP_2("8") STEP_2("9") STEP_2("10") STEP_2("11")
                STEP_2("12") STEP_2("13") STEP_2("14") LOAD_2_LAST PRODUCTS_2
                "    vmov r2, s4\n"
                "    cmp r1, r2\n"
                "    bne 2b\n"
                "    vmov r2, s17\n"
                "    vmov r3, s19\n"
                ODD("r6", "r8", "r2") ODD("r7", "r9", "r2")
                ODD("r10", "r12", "r3") ODD("r11", "lr", "r3")
                "    vmov r4, s9\n"
                EK_DSP_REQUANTIZE("r6", "r7", "s12", "s12", "r4")
                EK_DSP_REQUANTIZE("r8", "r9", "s13", "s13", "r4")
                EK_DSP_REQUANTIZE("r10", "r11", "s14", "s14", "r4")
                EK_DSP_REQUANTIZE("r12", "lr", "s15", "s15", "r4")
                "    vmov r2, s22\n"
                "    vmov r5, s8\n"
                "    vmov r4, s20\n"
                "    adds r3, r2, r5\n"
                "    strb r6, [r2]\n"
                "    strb r8, [r2, #1]\n"
                "    strb r10, [r2, #2]\n"
                "    strb r12, [r2, #3]\n"
                "    strb r7, [r3]\n"
                "    strb r9, [r3, #1]\n"
                "    strb r11, [r3, #2]\n"
                "    strb lr, [r3, #3]\n"
                "    adds r3, r3, r5\n"
                "    vmov s22, r3\n"
                "    cmp r0, r4\n"
                "    bne 1b\n"
                "    vmov r4, s5\n"
                "    vmov r5, s10\n"
                "    cmp r4, r5\n"
                "    bne 4b\n"
                "    vpop {s16-s23}\n"
                "    pop {r4-r11, pc}\n");

EK_ASM_FUNCTION("ek_dsp_paired_1",
                "    push {r4-r11, lr}\n" JOB
                "    bic r4, r3, #7\n"
                "    add lr, r0, r4, lsl #2\n"
                "    add r12, r0, r3, lsl #2\n"
                "1:  vmov r2, s5\n"
                "    ldr r4, [r2]\n"
                "    ldr r6, [r2, #8]\n"
                "    mov r5, r4\n"
                "    mov r7, r6\n"
                "    cmp r0, lr\n"
                "    beq 3f\n"
                "2:  .rept 4\n" STEPS_1
                "    .endr\n"
                "    cmp r0, lr\n"
                "    bne 2b\n"
                "3:  cmp r0, r12\n"
                "    beq 4f\n" STEPS_1
                "    b 3b\n"
                "4:  vmov r8, s5\n"
                "    vmov r9, s6\n"
                "    ldr r2, [r8, #4]\n"
                "    ldr r3, [r8, #12]\n"
                "    vldm r9!, {s12-s15}\n"
                "    add r8, r8, #16\n"
                "    vmov s5, r8\n"
                "    vmov s6, r9\n"
                ODD("r4", "r5", "r2") ODD("r6", "r7", "r3")
                "    vmov r9, s9\n"
                EK_DSP_REQUANTIZE("r4", "r5", "s12", "s13", "r9")
                EK_DSP_REQUANTIZE("r6", "r7", "s14", "s15", "r9")
                "    vmov r2, s7\n"
                "    strb r4, [r2]\n"
                "    strb r5, [r2, #1]\n"
                "    strb r6, [r2, #2]\n"
                "    strb r7, [r2, #3]\n"
                "    adds r2, #4\n"
                "    vmov s7, r2\n"
                "    vmov r0, s2\n"
                "    vmov r2, s10\n"
                "    cmp r8, r2\n"
                "    bne 1b\n"
                "    pop {r4-r11, pc}\n");

/* ---- Windows --------------------------------------------------------------------------------- */

/* `quads` quads of each of two pixels as pairs, of a quad's values 0 2 and then 1 3, the pixels
 * side by side. For 8 values 7 instructions. */
void ek_dsp_widen_2(const int8_t *a, const int8_t *b, uint32_t *x, int32_t quads);

#define WIDEN_2                       \
    "    ldr r4, [r0], #4\n"          \
    "    ldr r5, [r1], #4\n"          \
    "    sxtb16 r6, r4, ror #8\n"     \
    "    sxtb16 r12, r5, ror #8\n"    \
    "    sxtb16 r4, r4\n"             \
    "    sxtb16 r5, r5\n"             \
    "    stm r2!, {r4-r6, r12}\n"

EK_ASM_FUNCTION("ek_dsp_widen_2",
                "    push {r4-r6, lr}\n"
                "    lsrs r3, r3, #1\n" /* an odd quad first */
                "    bcc 1f\n" WIDEN_2
                "1:  cbz r3, 3f\n"
                "2:\n" WIDEN_2 WIDEN_2
                "    subs r3, #1\n"
                "    bne 2b\n"
                "3:  pop {r4-r6, pc}\n");

/* The same of one pixel. */
static void widen(const int8_t *from, int32_t quads, uint32_t *x)
{
    for (; quads > 0; quads--, from += QUAD) {
        const uint32_t word = ek_dsp_load(from);
        *x++ = ek_dsp_even(word);
        *x++ = ek_dsp_odd(word);
    }
}

/* Whether all of the window at row h and column w is in the input. */
static int is_inside(const ek_conv_params *p, int32_t h, int32_t w)
{
    return h >= 0 && w >= 0 && h + (p->kernel_h - 1) * p->dilation_h < p->in.h
        && w + (p->kernel_w - 1) * p->dilation_w < p->in.w;
}

#define SHORT_LINE 12

/* What does not change from window to window. */
typedef struct windows {
    const ek_conv_params *p;
    ek_patch_shape shape;
    int32_t steps;       /* pairs of values */
    int32_t line;        /* values of a kernel's row */
    int32_t dense;       /* each is one run in the input, */
    int32_t short_lines; /* of 4 to SHORT_LINE values, */
    int32_t whole_quads; /* of whole quads, */
    int32_t in_place;    /* and the only one, always inside the input */
} windows;

static windows windows_of(const ek_conv_params *p)
{
    windows w = {.p = p, .shape = ek_patch_shape_of(p), .steps = steps_of(p)};
    w.line = p->kernel_w * w.shape.in_channels;
    w.dense = p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == w.shape.in_channels);
    w.short_lines = w.dense && w.line >= QUAD && w.line <= SHORT_LINE;
    w.whole_quads = w.dense && w.line % QUAD == 0;
    w.in_place = w.whole_quads && p->kernel_h == 1 && is_inside(p, -p->pad_top, -p->pad_left)
        && is_inside(p, (p->out.h - 1) * p->stride_h - p->pad_top,
                     (p->out.w - 1) * p->stride_w - p->pad_left);
    return w;
}

/* `count` bytes, of which there are few. */
static inline void copy(int8_t *to, const int8_t *from, int32_t count)
{
    for (; count > 4; count -= 4, to += 4, from += 4)
        ek_dsp_store(to, ek_dsp_load(from));
    if (count == 4)
        ek_dsp_store(to, ek_dsp_load(from));
    else
        for (; count > 0; count--)
            *to++ = *from++;
}

/* `lines` lines of 4 to SHORT_LINE bytes, `next` apart, one behind the other: each is three words,
 * which may overlap. */
void ek_dsp_gather(const int8_t *from, int8_t *to, ptrdiff_t next, int32_t lines, int32_t bytes);

/* r4 bytes, r5 the last word, r6 the middle one */
EK_ASM_FUNCTION("ek_dsp_gather",
                "    push {r4-r7, lr}\n"
                "    ldr r4, [sp, #20]\n"
                "    subs r5, r4, #4\n"
                "    cmp r5, #4\n"
                "    ite lt\n"
                "    movlt r6, r5\n"
                "    movge r6, #4\n"
                "1:  ldr r7, [r0]\n"
                "    ldr r12, [r0, r6]\n"
                "    ldr lr, [r0, r5]\n"
                "    str r7, [r1]\n"
                "    str r12, [r1, r6]\n"
                "    str lr, [r1, r5]\n"
                "    add r0, r2\n"
                "    add r1, r4\n"
                "    subs r3, #1\n"
                "    bne 1b\n"
                "    pop {r4-r7, pc}\n");

/* The window as bytes, one kernel row behind the other. */
static void gather(const windows *win, const int8_t *image, int32_t h, int32_t w, int8_t *patch)
{
    const ek_conv_params *p = win->p;
    const int32_t channels = win->shape.in_channels, step = p->dilation_w * p->in.w_stride;
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int32_t inside = cols.end - cols.first;
    if (rows.end - rows.first < p->kernel_h || inside < p->kernel_w)
        memset(patch, p->x_zero, (size_t)win->shape.depth);
    for (int32_t kh = rows.first; kh < rows.end && inside > 0; kh++) {
        int8_t *to = patch + kh * win->line + cols.first * channels;
        const int8_t *from =
            image + ek_image_at(&p->in, 0, h + kh * p->dilation_h, w + cols.first * p->dilation_w);
        if (win->dense) {
            copy(to, from, inside * channels);
            continue;
        }
        for (int32_t i = 0; i < inside; i++, to += channels, from += step)
            copy(to, from, channels);
    }
}

/* The window at row h and column w of the input as pairs. What fills up the last quad meets weights
 * that are zero. */
static void widen_one(const windows *win, const int8_t *image, int32_t h, int32_t w, uint32_t *x,
                      int8_t *patch)
{
    const ek_conv_params *p = win->p;
    if (win->in_place) {
        widen(image + ek_image_at(&p->in, 0, h, w), win->steps / 2, x);
    } else {
        gather(win, image, h, w, patch);
        widen(patch, win->steps / 2, x);
    }
}

/* Windows of two neighbouring pixels, the first at row h and column w, line by line. Their columns
 * are all in the input. */
static void widen_lines(const windows *win, const int8_t *image, int32_t h, int32_t w, uint32_t *x)
{
    const ek_conv_params *p = win->p;
    const ptrdiff_t next = (ptrdiff_t)p->stride_w * p->in.w_stride;
    const uint32_t zero = (uint32_t)(uint16_t)p->x_zero * 0x10001u;
    for (int32_t kh = p->kernel_h; kh > 0; kh--, h += p->dilation_h) {
        if (h >= 0 && h < p->in.h) {
            const int8_t *from = image + ek_image_at(&p->in, 0, h, w);
            ek_dsp_widen_2(from, from + next, x, win->line / QUAD);
            x += win->line;
        } else {
            for (int32_t i = win->line; i > 0; i--)
                *x++ = zero;
        }
    }
}

/* `twos` times two pixels' windows, side by side. */
static void widen_twos(const windows *win, const int8_t *image, int32_t h, int32_t w, int32_t twos,
                       uint32_t *x, int8_t *patch)
{
    const ek_conv_params *p = win->p;
    const int32_t step = p->stride_w, words = PIXELS * win->steps, quads = win->steps / 2;
    const int32_t last_tap = step + (p->kernel_w - 1) * p->dilation_w;
    const int rows_inside = h >= 0 && h + (p->kernel_h - 1) * p->dilation_h < p->in.h;
    const ptrdiff_t next = (ptrdiff_t)step * p->in.w_stride;
    const ptrdiff_t below = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    ptrdiff_t at = ek_image_at(&p->in, 0, h, w);
    int8_t *const second = patch + quads * QUAD;
    for (; twos > 0; twos--, w += PIXELS * step, at += PIXELS * next, x += words) {
        const int cols_inside = w >= 0 && w + last_tap < p->in.w;
        const int8_t *a = patch, *b = second;
        if (win->in_place) {
            a = image + at;
            b = a + next;
        } else if (cols_inside && win->whole_quads) {
            widen_lines(win, image, h, w, x);
            continue;
        } else if (cols_inside && rows_inside && win->short_lines) {
            const int8_t *from = image + at;
            ek_dsp_gather(from, patch, below, p->kernel_h, win->line);
            ek_dsp_gather(from + next, second, below, p->kernel_h, win->line);
        } else {
            gather(win, image, h, w, patch);
            gather(win, image, h, w + step, second);
        }
        ek_dsp_widen_2(a, b, x, quads);
    }
}

/* ---- Outputs --------------------------------------------------------------------------------- */

/* The row of outputs and what it is made of; y is at column 0. */
typedef struct output_row {
    const windows *win;
    const int8_t *image;
    int32_t h; /* of the windows, in the input */
    int8_t *y;
    uint32_t *x;   /* scratch: pairs, */
    int8_t *patch; /* and behind them bytes */
} output_row;

static paired_job job_of(const windows *win, int32_t first, int32_t end, int8_t *y)
{
    const ek_conv_params *p = win->p;
    const paired_job job = {
        .start = p->start + first,
        .multiplier = p->multiplier + first,
        .y = y,
        .step = p->out.w_stride,
        .zero = p->clamp.zero,
        .start_end = p->start + end,
    };
    return job;
}

/* Channels [first, end) of a pixel, which are a part of one block: by way of a copy. */
static void part_of_block(const windows *win, const uint32_t *x, const int8_t *weights,
                          int32_t first, int32_t end, int8_t *y)
{
    const ek_conv_params *p = win->p;
    const int32_t block = first / CHANNELS * CHANNELS;
    int32_t start[CHANNELS] = {0};
    float multiplier[CHANNELS] = {0};
    int8_t outputs[CHANNELS];
    for (int32_t i = block; i < ek_min(block + CHANNELS, p->out.c); i++) {
        start[i - block] = p->start[i];
        multiplier[i - block] = p->multiplier[i];
    }
    paired_job job = job_of(win, block, end, outputs);
    job.start = start;
    job.multiplier = multiplier;
    job.start_end = start + CHANNELS;
    ek_dsp_paired_1(x, weights, &job, win->steps);
    for (int32_t o = first; o < end; o++)
        y[o] = outputs[o - block];
}

static const int8_t *weights_of(const windows *win, int32_t channel)
{
    return win->p->weights.data + channel / CHANNELS * (ptrdiff_t)(win->steps * 2 * CHANNELS);
}

/* Channels [first, end) of one pixel, whose pairs are in scratch. */
static void run_channels(const output_row *r, int32_t first, int32_t end, int8_t *y)
{
    const windows *win = r->win;
    while (first < end) {
        const int32_t whole = first % CHANNELS == 0 ? (end - first) / CHANNELS * CHANNELS : 0;
        const int32_t stop =
            whole > 0 ? first + whole : ek_min(end, first / CHANNELS * CHANNELS + CHANNELS);
        if (whole > 0) {
            const paired_job job = job_of(win, first, stop, y + first);
            ek_dsp_paired_1(r->x, weights_of(win, first), &job, win->steps);
        } else {
            part_of_block(win, r->x, weights_of(win, first), first, stop, y);
        }
        first = stop;
    }
}

/* Those of columns [col, col_end) one by one. */
static void run_pixels(const output_row *r, int32_t col, int32_t col_end, int32_t first,
                       int32_t end)
{
    const windows *win = r->win;
    const ek_conv_params *p = win->p;
    for (; first < end && col < col_end; col++) {
        widen_one(win, r->image, r->h, col * p->stride_w - p->pad_left, r->x, r->patch);
        run_channels(r, first, end, r->y + (ptrdiff_t)col * p->out.w_stride);
    }
}

/* Whole blocks of columns [col, col_end), an even number. */
static void run_twos(const output_row *r, int32_t col, int32_t col_end, int32_t first, int32_t end)
{
    const windows *win = r->win;
    const ek_conv_params *p = win->p;
    const int32_t most = PIXELS * twos_of(p);
    for (; col < col_end; col += most) {
        const int32_t count = ek_min(most, col_end - col);
        paired_job job = job_of(win, first, end, r->y + (ptrdiff_t)col * p->out.w_stride + first);
        job.x_end = r->x + count * win->steps;
        widen_twos(win, r->image, r->h, col * p->stride_w - p->pad_left, count / PIXELS, r->x,
                   r->patch);
        ek_dsp_paired_2(r->x, weights_of(win, first), &job, win->steps);
    }
}

/* Whole blocks of channels of two pixels at a time, what is left pixel by pixel. */
static void run_row(const output_row *r, const ek_range *range)
{
    const int32_t first = (range->ch + CHANNELS - 1) / CHANNELS * CHANNELS;
    const int32_t end = range->ch_end / CHANNELS * CHANNELS;
    int32_t col = range->col;
    if (first < end) {
        const int32_t twos_end = range->col_end - (range->col_end - col) % PIXELS;
        run_twos(r, col, twos_end, first, end);
        run_pixels(r, col, twos_end, range->ch, first);
        run_pixels(r, col, twos_end, end, range->ch_end);
        col = twos_end;
    }
    run_pixels(r, col, range->col_end, range->ch, range->ch_end);
}

/* Bytes of pairs that a call holds. */
static size_t pairs_bytes(const ek_conv_params *p)
{
    const int32_t pixels = p->out.w == 1 ? 1 : PIXELS * twos_of(p);
    return (size_t)(pixels * steps_of(p)) * sizeof(uint32_t);
}

void ek_conv2d_paired_dsp(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_conv_params *p = params;
    const windows win = windows_of(p);
    output_row r = {.win = &win, .x = scratch, .patch = (int8_t *)scratch + pairs_bytes(p)};
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, h = row % p->out.h;
        r.h = h * p->stride_h - p->pad_top;
        r.image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        r.y = (int8_t *)out + ek_image_at(&p->out, n, h, 0);
        run_row(&r, range);
    }
    if (!ek_dsp_is_whole(&p->clamp))
        ek_dsp_clamp_range(p, out, range);
}

int ek_conv2d_paired_dsp_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->weights.tile_n == CHANNELS && p->weights.tile_k == -QUAD && p->groups == 1;
}

/* Windows as pairs, and where they are gathered, those of two pixels as bytes. */
size_t ek_conv2d_paired_dsp_scratch(const void *params)
{
    const windows win = windows_of(params);
    const size_t bytes = (size_t)win.steps * (win.p->out.w == 1 ? 2 : 2 * PIXELS);
    return pairs_bytes(win.p) + (win.in_place ? 0 : bytes);
}

#else

EK_DSP_UNSUPPORTED(ek_conv2d_paired_dsp)

#endif
