/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution with Helium: sixteen values at a time, in blocks of two pixels by four output
 * channels; a single pixel by eight channels.
 *
 * Weights are INTERLEAVED [4 channels][16 values], zero-filled, so that what stands behind a patch
 * does not matter.
 */
#include "../kernels.h"
#include "mve.h"
#include "patch.h"

#define CHANNELS 4
#define STEP 16

/* Patches are gathered for several pixels at a time, as many as fit. */
#define MAX_PATCHES 16
#define PATCHES_BYTES 2560

/* How far the second pixel's outputs may lie behind the first's: offsets have 16 bits. */
#define MAX_BETWEEN (UINT16_MAX - CHANNELS)

/* ---- Sums and outputs ------------------------------------------------------------------------ */

/* Where a turn is, or begins: sums start at `start` and go on with x0 times weights. x1 is the
 * second pixel; for single pixels the bytes of a block's weights. The order is that of the
 * registers that hold it. */
typedef struct turn {
    const int32_t *start;
    const int8_t *x0;
    const float *multiplier;
    uintptr_t x1;
    int8_t *y;
} turn;

/* Outputs of `blocks` blocks of channels, of four for pairs of pixels, of eight for single ones,
 * and of `turns` pairs or single pixels, which are x_step and y_step bytes apart. The functions
 * overwrite what is marked. */
typedef struct gemm_job {
    turn at;             /* marked */
    int32_t blocks_left; /* marked */
    int32_t rounds;      /* marked: of eight steps each behind the first step */
    turn next;           /* 28, marked: the turn that begins */
    const int8_t *weights;
    int32_t blocks;
    int32_t turns; /* 56, marked */
    ptrdiff_t x_step, y_step;
    int32_t steps; /* of sixteen values, 1 or more */
    int32_t zero, lo, hi;
    uint16_t offsets[2 * CHANNELS]; /* 84: of a block's outputs, its halves in turn */
} gemm_job;

void ek_mve_pairs(gemm_job *job);
void ek_mve_singles(gemm_job *job);

/* Sixteen values of two pixels (r1, r3) by four channels (r5): 14 instructions for 128 products.
 * `a` adds to sums. */
#define PAIR_STEP(a)                    \
    "    vldrb.8 q0, [r1], #16\n"       \
    "    vldrb.8 q2, [r5], #16\n"       \
    "    vldrb.8 q1, [r3], #16\n"       \
    "    vmladav" a ".s8 r0, q0, q2\n"  \
    "    vldrb.8 q3, [r5], #16\n"       \
    "    vmladav" a ".s8 r8, q1, q2\n"  \
    "    vldrb.8 q2, [r5], #16\n"       \
    "    vmladav" a ".s8 r2, q0, q3\n"  \
    "    vmladav" a ".s8 r10, q1, q3\n" \
    "    vldrb.8 q3, [r5], #16\n"       \
    "    vmladav" a ".s8 r4, q0, q2\n"  \
    "    vmladav" a ".s8 r12, q1, q2\n" \
    "    vmladav" a ".s8 r6, q0, q3\n"  \
    "    vmladav" a ".s8 lr, q1, q3\n"
#define PAIR_STEP_BYTES "56"

/* Sixteen values of a pixel (r1) by eight channels (r5, r3): 17 instructions. */
#define SINGLE_STEP(a)                  \
    "    vldrb.8 q0, [r1], #16\n"       \
    "    vldrb.8 q2, [r5], #16\n"       \
    "    vldrb.8 q3, [r5], #16\n"       \
    "    vmladav" a ".s8 r0, q0, q2\n"  \
    "    vldrb.8 q2, [r5], #16\n"       \
    "    vmladav" a ".s8 r2, q0, q3\n"  \
    "    vldrb.8 q3, [r5], #16\n"       \
    "    vmladav" a ".s8 r4, q0, q2\n"  \
    "    vldrb.8 q2, [r3], #16\n"       \
    "    vmladav" a ".s8 r6, q0, q3\n"  \
    "    vldrb.8 q3, [r3], #16\n"       \
    "    vmladav" a ".s8 r8, q0, q2\n"  \
    "    vldrb.8 q2, [r3], #16\n"       \
    "    vmladav" a ".s8 r10, q0, q3\n" \
    "    vldrb.8 q3, [r3], #16\n"       \
    "    vmladav" a ".s8 r12, q0, q2\n" \
    "    vmladav" a ".s8 lr, q0, q3\n"
#define SINGLE_STEP_BYTES "68"

#define EIGHT(step) step step step step step step step step

/* r0 is the job, from here on in r11; q4 zero point, q6 lo, q7 hi, all in 16 bits, q5 offsets. r9
 * is where to go on behind a block's first step: to 4, or into the round that ends at 3, so that
 * only whole rounds follow.
 *
 *     0 a turn, 1 or 8 a block, 2 a round, 3 its end, 4 the block's outputs */
#define BEGIN(step_bytes)            \
    "    push {r4-r11, lr}\n"        \
    "    vpush {d8-d15}\n"           \
    "    mov r11, r0\n"              \
    "    ldr r0, [r11, #72]\n"       \
    "    ldrd r1, r2, [r11, #76]\n"  \
    "    vdup.16 q4, r0\n"           \
    "    vdup.16 q6, r1\n"           \
    "    vdup.16 q7, r2\n"           \
    "    add r0, r11, #84\n"         \
    "    vldrh.16 q5, [r0]\n"        \
    "    adr.w r9, 4f\n"             \
    "    ldr r0, [r11, #68]\n"       \
    "    subs r0, #2\n"              \
    "    blt 9f\n"                   \
    "    adr.w r9, 3f\n"             \
    "    lsrs r1, r0, #3\n"          \
    "    adds r1, #1\n"              \
    "    str r1, [r11, #24]\n"       \
    "    and r0, r0, #7\n"           \
    "    adds r0, #1\n"              \
    "    movs r1, #" step_bytes "\n" \
    "    mls r9, r0, r1, r9\n"       \
    "9:  orr r9, r9, #1\n"

/* A turn begins: r0 start, r1 x0, r2 multiplier, r3 x1, r4 y, r5 weights, r6 blocks, r7 rounds.
 * `more` prepares r3. */
#define TURN(more)                               \
    "0:  add r7, r11, #28\n"                     \
    "    ldm r7, {r0, r1, r2, r3, r4, r5, r6}\n" \
    "    stm r11, {r0, r1, r2, r3, r4, r6}\n"    \
    "    ldr r7, [r11, #24]\n" more

/* All products of a block. */
#define BLOCK(step)                    \
    "1:\n" step("")                    \
    "    bx r9\n"                      \
    "2:\n" EIGHT(step("a"))            \
    "3:  subs r7, #1\n"                \
    "    bne.w 2b\n"                   \
    "4:  vmov q0[2], q0[0], r0, r4\n"  \
    "    vmov q1[2], q1[0], r8, r12\n" \
    "    vmov q0[3], q0[1], r2, r6\n"  \
    "    vmov q1[3], q1[1], r10, lr\n"

/* The outputs of a block from products in q0 and q1, then the next block. */
#define OUTPUTS(y_bytes, next)                \
    "    vcvtn.s32.f32 q0, q0\n"              \
    "    vcvtn.s32.f32 q1, q1\n"              \
    "    vqmovnb.s32 q0, q0\n"                \
    "    vqmovnt.s32 q0, q1\n"                \
    "    vqadd.s16 q0, q0, q4\n"              \
    "    vmax.s16 q0, q0, q6\n"               \
    "    vmin.s16 q0, q0, q7\n"               \
    "    vstrb.16 q0, [r4, q5]\n"             \
    "    adds r4, #" y_bytes "\n"             \
    "    subs r6, #1\n"                       \
    "    stm r11, {r0, r1, r2, r3, r4, r6}\n" \
    "    bne.w " next "b\n"

/* The next turn; `more` prepares r3, the next x1. */
#define END(more)                   \
    "    ldrd r0, r1, [r11, #56]\n" \
    "    ldr r6, [r11, #64]\n"      \
    "    ldr r2, [r11, #32]\n"      \
    "    ldrd r3, r4, [r11, #40]\n" \
    "    add r2, r1\n"              \
    more                            \
    "    add r4, r6\n"              \
    "    str r2, [r11, #32]\n"      \
    "    strd r3, r4, [r11, #40]\n" \
    "    subs r0, #1\n"             \
    "    str r0, [r11, #56]\n"      \
    "    bne.w 0b\n"                \
    "    vpop {d8-d15}\n"           \
    "    pop {r4-r11, pc}\n"

EK_ASM_FUNCTION("ek_mve_pairs",
                BEGIN(PAIR_STEP_BYTES) TURN("") BLOCK(PAIR_STEP)
                "    ldm r11, {r0, r1, r2, r3, r4, r6, r7}\n"
                "    vldrw.32 q2, [r0], #16\n"
                "    vldrw.32 q3, [r2], #16\n"
                "    vadd.i32 q0, q0, q2\n"
                "    vadd.i32 q1, q1, q2\n"
                "    vcvt.f32.s32 q0, q0\n"
                "    vcvt.f32.s32 q1, q1\n"
                "    vmul.f32 q0, q0, q3\n"
                "    vmul.f32 q1, q1, q3\n"
                OUTPUTS("4", "1") END("    add r3, r1\n"));

EK_ASM_FUNCTION("ek_mve_singles",
                BEGIN(SINGLE_STEP_BYTES) TURN("8:  add r3, r5\n") BLOCK(SINGLE_STEP)
                "    mov r5, r3\n"
                "    ldm r11, {r0, r1, r2, r3, r4, r6, r7}\n"
                "    vldrw.32 q2, [r0], #16\n"
                "    vldrw.32 q3, [r0], #16\n"
                "    vadd.i32 q0, q0, q2\n"
                "    vadd.i32 q1, q1, q3\n"
                "    vldrw.32 q2, [r2], #16\n"
                "    vldrw.32 q3, [r2], #16\n"
                "    vcvt.f32.s32 q0, q0\n"
                "    vcvt.f32.s32 q1, q1\n"
                "    vmul.f32 q0, q0, q2\n"
                "    vmul.f32 q1, q1, q3\n"
                OUTPUTS("8", "8") END(""));

_Static_assert(offsetof(gemm_job, next) == 28, "the assembly counts on it");
_Static_assert(offsetof(gemm_job, offsets) == 84, "the assembly counts on it");

/* ---- A group's layer ------------------------------------------------------------------------- */

typedef struct layer {
    const ek_conv_params *p;
    ek_patch_shape s;
    int32_t padded; /* the depth in whole steps */
    int32_t group;
    const int8_t *image; /* input and output, at the group's first channel */
    int8_t *y;
    int32_t first, end; /* channels of the group */
    ek_taps inside;     /* output columns whose windows are inside the input's width */
    int8_t *patches;    /* scratch */
} layer;

/* Pixels one step apart, whose values stand in memory as the weights want them. */
typedef struct span {
    const int8_t *x;
    int8_t *y;
    ptrdiff_t x_step, y_step;
    int32_t count;
} span;

static int32_t padded_depth(const ek_patch_shape *s)
{
    return (s->depth + STEP - 1) / STEP * STEP;
}

/* A job but for its pixels: blocks from a channel on, a multiple of four. */
static gemm_job job_of(const layer *l, int32_t channel, int32_t blocks, ptrdiff_t between)
{
    const ek_conv_params *p = l->p;
    const int32_t base = l->group * l->s.channels + channel;
    const int32_t rows = (l->s.channels + CHANNELS - 1) / CHANNELS * CHANNELS;
    gemm_job job;
    job.next.start = p->start + base;
    job.next.multiplier = p->multiplier + base;
    job.weights = p->weights.data + ((ptrdiff_t)l->group * rows + channel) * l->padded;
    job.blocks = blocks;
    job.steps = l->padded / STEP;
    job.zero = p->clamp.zero;
    job.lo = p->clamp.lo;
    job.hi = p->clamp.hi;
    for (int32_t i = 0; i < CHANNELS; i++) {
        job.offsets[2 * i] = (uint16_t)i;
        job.offsets[2 * i + 1] = (uint16_t)(i + between);
    }
    return job;
}

static void set_pixels(gemm_job *job, const span *px, uintptr_t x1, int32_t together)
{
    job->next.x0 = px->x;
    job->next.x1 = x1;
    job->next.y = px->y;
    job->x_step = together * px->x_step;
    job->y_step = together * px->y_step;
    job->turns = px->count / together;
}

/* Blocks of four channels of every pixel, one pixel after the other. */
static void single_pixels(const layer *l, const span *px, int32_t channel, int32_t blocks)
{
    if (blocks > 1) {
        gemm_job job = job_of(l, channel, blocks / 2, CHANNELS);
        set_pixels(&job, px, (uintptr_t)(CHANNELS * l->padded), 1);
        ek_mve_singles(&job);
    }
    if (blocks % 2 != 0) {
        const int32_t done = (blocks - 1) * CHANNELS;
        gemm_job job = job_of(l, channel + done, 1, 0); /* a pair of one pixel */
        span last = *px;
        last.y += done;
        set_pixels(&job, &last, (uintptr_t)px->x, 1);
        ek_mve_pairs(&job);
    }
}

/* The same by pairs, as far as there are any. px->y is at the channel. */
static void whole_blocks(const layer *l, const span *px, int32_t channel, int32_t blocks)
{
    span rest = *px;
    if (px->count > 1 && px->y_step <= MAX_BETWEEN) {
        gemm_job job = job_of(l, channel, blocks, px->y_step);
        set_pixels(&job, px, (uintptr_t)(px->x + px->x_step), 2);
        ek_mve_pairs(&job);
        rest.count = px->count % 2;
        rest.x += (px->count - rest.count) * px->x_step;
        rest.y += (px->count - rest.count) * px->y_step;
    }
    if (rest.count > 0)
        single_pixels(l, &rest, channel, blocks);
}

/* The block of four at `channel`, of which not all are in the group or wanted. */
static void part_of_block(const layer *l, const span *px, int32_t channel)
{
    const int32_t base = l->group * l->s.channels + channel;
    const int32_t count = ek_min(CHANNELS, l->s.channels - channel);
    const int32_t first = ek_max(channel, l->first), end = ek_min(channel + count, l->end);
    int32_t start[CHANNELS] = {0};
    float multiplier[CHANNELS] = {0};
    memcpy(start, l->p->start + base, (size_t)count * sizeof start[0]);
    memcpy(multiplier, l->p->multiplier + base, (size_t)count * sizeof multiplier[0]);
    for (int32_t i = 0; i < px->count; i++) {
        int8_t y[CHANNELS];
        gemm_job job = job_of(l, channel, 1, 0);
        const span one = {px->x + i * px->x_step, y, 0, 0, 1};
        job.next.start = start;
        job.next.multiplier = multiplier;
        set_pixels(&job, &one, (uintptr_t)one.x, 1);
        ek_mve_pairs(&job);
        memcpy(px->y + i * px->y_step + first, y + (first - channel), (size_t)(end - first));
    }
}

/* The wanted channels. px->y is at the group's first channel. */
static void channels(const layer *l, const span *px)
{
    int32_t channel = l->first / CHANNELS * CHANNELS;
    if (channel < l->first) {
        part_of_block(l, px, channel);
        channel += CHANNELS;
    }
    const int32_t blocks = (l->end - channel) / CHANNELS;
    if (blocks > 0) {
        span whole = *px;
        whole.y += channel;
        whole_blocks(l, &whole, channel, blocks);
        channel += blocks * CHANNELS;
    }
    if (channel < l->end)
        part_of_block(l, px, channel);
}

/* ---- Windows --------------------------------------------------------------------------------- */

/* Whether the values under a line of a window are one run of bytes. */
static int dense_lines(const ek_conv_params *p, const ek_patch_shape *s)
{
    return p->kernel_w == 1 || p->dilation_w * p->in.w_stride == s->in_channels;
}

/* Whether the values under every window are one run of bytes of the input. */
static int in_place(const ek_conv_params *p, const ek_patch_shape *s)
{
    const int32_t span = (p->kernel_w - 1) * p->dilation_w + 1;
    return p->kernel_h == 1 && dense_lines(p, s) && p->pad_top == 0 && p->pad_left == 0
        && (p->out.h - 1) * p->stride_h < p->in.h
        && (p->out.w - 1) * p->stride_w + span <= p->in.w;
}

/* Runs of bytes from the input to patches: `rows` runs for each of `windows` windows. What leads
 * from row to row is less what a run, rounded up to whole vectors, has moved the pointer by. */
typedef struct runs_job {
    const int8_t *from;
    int8_t *to;
    int32_t bytes, rows, windows; /* 1 or more */
    ptrdiff_t from_row, to_row;
    ptrdiff_t from_window, to_window;
} runs_job;

void ek_mve_copy_runs(const runs_job *job);

EK_ASM_FUNCTION("ek_mve_copy_runs",
                "    push {r4-r11, lr}\n"
                "    ldm r0, {r1, r2, r3, r4, r5, r6, r7, r8, r9}\n"
                "1:  mov r0, r4\n"
                "    mov r10, r1\n"
                "    mov r11, r2\n"
                "2:  dlstp.8 lr, r3\n"
                "3:  vldrb.8 q0, [r10], #16\n"
                "    vstrb.8 q0, [r11], #16\n"
                "    letp lr, 3b\n"
                "    add r10, r6\n"
                "    add r11, r7\n"
                "    subs r0, #1\n"
                "    bne 2b\n"
                "    add r1, r8\n"
                "    add r2, r9\n"
                "    subs r5, #1\n"
                "    bne 1b\n"
                "    pop {r4-r11, pc}\n");

/* Copies the taps inside the input of `count` windows: line by line where those are dense, else tap
 * by tap. `x` is where the first window begins. */
static void copy_windows(const layer *l, const int8_t *x, ek_taps rows, ek_taps cols, int32_t count,
                         int8_t *patch)
{
    const ek_conv_params *p = l->p;
    const int32_t c = l->s.in_channels, taps = cols.end - cols.first;
    const ptrdiff_t row = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    const ptrdiff_t tap = (ptrdiff_t)p->dilation_w * p->in.w_stride;
    const int dense = dense_lines(p, &l->s);
    const int32_t bytes = dense ? taps * c : c, moved = (bytes + STEP - 1) / STEP * STEP;
    runs_job job = {
        .from = x + rows.first * row + cols.first * tap,
        .to = patch + (rows.first * p->kernel_w + cols.first) * c,
        .bytes = bytes,
        .rows = rows.end - rows.first,
        .windows = count,
        .from_row = row - moved,
        .to_row = p->kernel_w * c - moved,
        .from_window = (ptrdiff_t)p->stride_w * p->in.w_stride,
        .to_window = l->padded,
    };
    if (taps <= 0 || job.rows <= 0)
        return;
    for (int32_t i = 0; i < (dense ? 1 : taps); i++, job.from += tap, job.to += c)
        ek_mve_copy_runs(&job);
}

/* The values under `count` windows of output row oh, from column `col` on, with x_zero outside the
 * input. */
static void gather(const layer *l, int32_t oh, int32_t col, int32_t count, int8_t *patch)
{
    const ek_conv_params *p = l->p;
    const int32_t h = oh * p->stride_h - p->pad_top;
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    for (int32_t some; count > 0; count -= some, col += some, patch += some * l->padded) {
        const int32_t w = col * p->stride_w - p->pad_left;
        const int inside = col >= l->inside.first && col < l->inside.end;
        some = inside ? ek_min(count, l->inside.end - col) : 1;
        ek_taps cols = {0, p->kernel_w};
        if (!inside)
            cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
        if (!inside || rows.end - rows.first < p->kernel_h)
            ek_mve_fill(patch, p->x_zero, some * l->padded);
        copy_windows(l, l->image + ek_image_at(&p->in, 0, h, w), rows, cols, some, patch);
    }
}

/* Of an input that is read in place, the last windows alone are gathered. */
static int32_t patches_of(const ek_conv_params *p, const ek_patch_shape *s)
{
    const int32_t fit = in_place(p, s) ? 2 : PATCHES_BYTES / padded_depth(s);
    return fit < 2 ? 2 : fit > MAX_PATCHES ? MAX_PATCHES : fit / 2 * 2;
}

/* `count` outputs by position: row by row, columns [col, p->out.w) of the first row and [0,
 * p->out.w) of the others, all y_step bytes apart. */
static void gathered(const layer *l, int32_t oh, int32_t col, int32_t count, int8_t *y)
{
    const int32_t most = patches_of(l->p, &l->s);
    while (count > 0) {
        span px = {l->patches, y, l->padded, l->p->out.w_stride, 0};
        while (px.count < most && px.count < count) {
            const int32_t some = ek_min(ek_min(most, count) - px.count, l->p->out.w - col);
            gather(l, oh, col, some, l->patches + px.count * l->padded);
            px.count += some;
            col += some;
            if (col == l->p->out.w) {
                col = 0;
                oh++;
            }
        }
        channels(l, &px);
        count -= px.count;
        y += px.count * px.y_step;
    }
}

/* Pixels that are read in place: behind one, a step reads up to fifteen bytes more, which have to
 * be the tensor's. */
static int32_t readable(const layer *l, const int8_t *x, const int8_t *tensor_end, ptrdiff_t step,
                        int32_t count)
{
    const ptrdiff_t left = tensor_end - x - l->padded;
    if (left < 0)
        return 0;
    return left / step < count ? (int32_t)(left / step) + 1 : count;
}

/* `count` outputs by position, as for `gathered`; in the input, windows that are read in place are
 * one step apart. */
static void positions(const layer *l, int32_t oh, int32_t col, int32_t count, int reads_in_place,
                      const int8_t *tensor_end)
{
    const ek_conv_params *p = l->p;
    int8_t *y = l->y + ek_image_at(&p->out, 0, oh, col);
    int32_t done = 0;
    if (reads_in_place) {
        span px = {.x_step = (ptrdiff_t)p->stride_w * p->in.w_stride, .y_step = p->out.w_stride};
        px.x = l->image + ek_image_at(&p->in, 0, oh * p->stride_h, col * p->stride_w);
        px.y = y;
        px.count = done = readable(l, px.x, tensor_end, px.x_step, count);
        if (done > 0)
            channels(l, &px);
    }
    if (done < count)
        gathered(l, oh + (col + done) / p->out.w, (col + done) % p->out.w, count - done,
                 y + (ptrdiff_t)done * p->out.w_stride);
}

/* Rows [oh, oh_end) of an image, in one run where the memory allows it. */
static void image_rows(const layer *l, int32_t oh, int32_t oh_end, const ek_range *range,
                       const int8_t *tensor_end)
{
    const ek_conv_params *p = l->p;
    const int direct = in_place(p, &l->s);
    const int whole = range->col == 0 && range->col_end == p->out.w;
    const int one_run = p->out.h_stride == p->out.w * p->out.w_stride
        && (!direct || p->in.h_stride * p->stride_h == p->out.w * p->stride_w * p->in.w_stride);
    const int32_t rows = whole && one_run ? oh_end - oh : 1;
    for (; oh < oh_end; oh += rows)
        positions(l, oh, range->col, rows * (range->col_end - range->col), direct, tensor_end);
}

void ek_conv2d_mve(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_conv_params *p = params;
    layer l = {.p = p, .s = ek_patch_shape_of(p), .patches = scratch};
    const int8_t *x = in[0];
    const int8_t *end = x + ek_image_at(&p->in, p->in.n - 1, p->in.h - 1, p->in.w - 1) + p->in.c;
    l.padded = padded_depth(&l.s);
    l.inside = ek_columns_inside(p, &(ek_range){.col_end = p->out.w});
    for (int32_t row = range->row, row_end; row < range->row_end; row = row_end) {
        const int32_t n = row / p->out.h, first = n * p->out.h;
        row_end = ek_min(first + p->out.h, range->row_end);
        for (int32_t o = range->ch, base; o < range->ch_end; o = base + l.end) {
            l.group = o / l.s.channels;
            base = l.group * l.s.channels;
            l.first = o - base;
            l.end = ek_min(range->ch_end - base, l.s.channels);
            l.image = x + ek_image_at(&p->in, n, 0, 0) + (ptrdiff_t)l.group * l.s.in_channels;
            l.y = (int8_t *)out + ek_image_at(&p->out, n, 0, 0) + base;
            image_rows(&l, row - first, row_end - first, range, end);
        }
    }
}

int ek_conv2d_mve_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->weights.tile_n == CHANNELS && p->weights.tile_k == STEP;
}

size_t ek_conv2d_mve_scratch(const void *params)
{
    const ek_conv_params *p = params;
    const ek_patch_shape s = ek_patch_shape_of(p);
    if (in_place(p, &s) && s.depth % STEP == 0)
        return 0;
    return (size_t)patches_of(p, &s) * (size_t)padded_depth(&s);
}
