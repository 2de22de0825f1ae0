/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution with Helium: blocks of two pixels by four output channels over sixteen values at a time.
 *
 * Weights are INTERLEAVED [4 channels][16 values], zero-filled, so that what stands behind a patch does not
 * matter. Eight sums are all that there are registers for: vmladav accumulates in even ones.
 */
#include "../kernels.h"
#include "patch.h"

#define PIXELS 2
#define CHANNELS 4
#define STEP 16

/* Blocks of four channels, one behind the other, for two pixels. */
typedef struct blocks_job {
    const int32_t *start;
    const float *multiplier;
    int8_t *y[PIXELS];
    int32_t steps; /* of sixteen values, 1 or more */
    int32_t blocks;
    int32_t zero, lo, hi;
} blocks_job;

/* Clobbers the job. Per step, 14 instructions do 128 multiply-accumulates. The requantization is that of
 * requant.h: vcvtn rounds to nearest even and saturates, and the zero point is added with saturation.
 *
 *     r0 r2 r4 r6 sums of pixel 0, r8 r10 r12 lr of pixel 1, r1 r3 pixels, r5 weights, r7 steps,
 *     r9 scratch, r11 the job, q6 lo, q7 hi */
void ek_mve_outputs(const int8_t *x0, const int8_t *x1, const int8_t *weights, blocks_job *job);

__asm__("    .syntax unified\n"
        "    .thumb\n"
        "    .macro ek_mve_step\n"
        "    vldrb.8 q0, [r1], #16\n"
        "    vldrb.8 q2, [r5], #16\n"
        "    vldrb.8 q1, [r3], #16\n"
        "    vmladava.s8 r0, q0, q2\n"
        "    vldrb.8 q3, [r5], #16\n"
        "    vmladava.s8 r8, q1, q2\n"
        "    vldrb.8 q2, [r5], #16\n"
        "    vmladava.s8 r2, q0, q3\n"
        "    vmladava.s8 r10, q1, q3\n"
        "    vldrb.8 q3, [r5], #16\n"
        "    vmladava.s8 r4, q0, q2\n"
        "    vmladava.s8 r12, q1, q2\n"
        "    vmladava.s8 r6, q0, q3\n"
        "    vmladava.s8 lr, q1, q3\n"
        "    .endm\n"
        "    .section .text.ek_mve_outputs, \"ax\", %progbits\n"
        "    .align 2\n"
        "    .global ek_mve_outputs\n"
        "    .hidden ek_mve_outputs\n"
        "    .thumb_func\n"
        "    .type ek_mve_outputs, %function\n"
        "ek_mve_outputs:\n"
        "    push {r4-r11, lr}\n"
        "    vpush {d12-d15}\n"
        "    sub sp, #12\n"
        "    strd r0, r1, [sp]\n"
        "    mov r5, r2\n"
        "    mov r11, r3\n"
        "    ldrd r7, r9, [r11, #28]\n"
        "    vdup.32 q6, r7\n"
        "    vdup.32 q7, r9\n"
        "1:  ldr r9, [r11]\n"
        "    ldrd r0, r2, [r9], #8\n"
        "    ldrd r4, r6, [r9], #8\n"
        "    str r9, [r11]\n"
        "    mov r8, r0\n"
        "    mov r10, r2\n"
        "    mov r12, r4\n"
        "    mov lr, r6\n"
        "    ldrd r1, r3, [sp]\n"
        "    ldr r7, [r11, #16]\n"
        "    lsrs r7, r7, #1\n"
        "    bcc 2f\n"
        "    ek_mve_step\n"
        "    cbz r7, 3f\n"
        "2:  ek_mve_step\n"
        "    ek_mve_step\n"
        "    subs r7, #1\n"
        "    bne 2b\n"
        "3:  ldr r9, [r11, #4]\n"
        "    vldrw.32 q2, [r9], #16\n"
        "    str r9, [r11, #4]\n"
        "    vmov q0[2], q0[0], r0, r4\n"
        "    vmov q1[2], q1[0], r8, r12\n"
        "    vmov q0[3], q0[1], r2, r6\n"
        "    vmov q1[3], q1[1], r10, lr\n"
        "    vcvt.f32.s32 q0, q0\n"
        "    vcvt.f32.s32 q1, q1\n"
        "    vmul.f32 q0, q0, q2\n"
        "    vmul.f32 q1, q1, q2\n"
        "    vcvtn.s32.f32 q0, q0\n"
        "    vcvtn.s32.f32 q1, q1\n"
        "    ldr r9, [r11, #24]\n"
        "    vqadd.s32 q0, q0, r9\n"
        "    vqadd.s32 q1, q1, r9\n"
        "    ldrd r1, r3, [r11, #8]\n"
        "    vmax.s32 q0, q0, q6\n"
        "    vmax.s32 q1, q1, q6\n"
        "    vmin.s32 q0, q0, q7\n"
        "    vmin.s32 q1, q1, q7\n"
        "    vstrb.32 q0, [r1], #4\n"
        "    vstrb.32 q1, [r3], #4\n"
        "    strd r1, r3, [r11, #8]\n"
        "    ldr r9, [r11, #20]\n"
        "    subs r9, #1\n"
        "    str r9, [r11, #20]\n"
        "    bne 1b\n"
        "    add sp, #12\n"
        "    vpop {d12-d15}\n"
        "    pop {r4-r11, pc}\n"
        "    .size ek_mve_outputs, . - ek_mve_outputs\n"
        "    .text\n");

static int32_t padded_depth(const ek_patch_shape *s)
{
    return (s->depth + STEP - 1) / STEP * STEP;
}

/* Two pixels of one group; of channels [first, end) only. y are at the group's first channel. */
typedef struct pixels {
    const int8_t *x[PIXELS];
    int8_t *y[PIXELS];
    int32_t group, first, end;
} pixels;

static blocks_job job_of(const ek_conv_params *p, const ek_patch_shape *s)
{
    return (blocks_job){
        .steps = padded_depth(s) / STEP,
        .blocks = 1,
        .zero = p->clamp.zero,
        .lo = p->clamp.lo,
        .hi = p->clamp.hi,
    };
}

static const int8_t *weights_of(const ek_conv_params *p, const ek_patch_shape *s, int32_t group,
                                int32_t channel)
{
    const int32_t rows = (s->channels + CHANNELS - 1) / CHANNELS * CHANNELS;
    return p->weights.data + ((ptrdiff_t)group * rows + channel) * padded_depth(s);
}

/* The block of four at `channel`, of which not all are in the group or wanted. */
static void part_of_block(const ek_conv_params *p, const ek_patch_shape *s, const pixels *px,
                          int32_t channel)
{
    const int32_t base = px->group * s->channels + channel;
    const int32_t count = ek_min(CHANNELS, s->channels - channel);
    int32_t start[CHANNELS] = {0};
    float multiplier[CHANNELS] = {0};
    int8_t y[PIXELS][CHANNELS];
    memcpy(start, p->start + base, (size_t)count * sizeof start[0]);
    memcpy(multiplier, p->multiplier + base, (size_t)count * sizeof multiplier[0]);
    blocks_job job = job_of(p, s);
    job.start = start;
    job.multiplier = multiplier;
    job.y[0] = y[0];
    job.y[1] = y[1];
    ek_mve_outputs(px->x[0], px->x[1], weights_of(p, s, px->group, channel), &job);
    for (int32_t c = ek_max(channel, px->first); c < ek_min(channel + count, px->end); c++) {
        px->y[0][c] = y[0][c - channel];
        px->y[1][c] = y[1][c - channel];
    }
}

static void run_pixels(const ek_conv_params *p, const ek_patch_shape *s, const pixels *px)
{
    int32_t channel = px->first / CHANNELS * CHANNELS;
    if (channel < px->first) {
        part_of_block(p, s, px, channel);
        channel += CHANNELS;
    }
    const int32_t blocks = (px->end - channel) / CHANNELS;
    if (blocks > 0) {
        blocks_job job = job_of(p, s);
        job.start = p->start + px->group * s->channels + channel;
        job.multiplier = p->multiplier + px->group * s->channels + channel;
        job.y[0] = px->y[0] + channel;
        job.y[1] = px->y[1] + channel;
        job.blocks = blocks;
        ek_mve_outputs(px->x[0], px->x[1], weights_of(p, s, px->group, channel), &job);
        channel += blocks * CHANNELS;
    }
    if (channel < px->end)
        part_of_block(p, s, px, channel);
}

/* Behind a window that is read in place, a step reads up to fifteen bytes more. */
static const int8_t *pixel(const ek_conv_params *p, const ek_patch_shape *s, const int8_t *image,
                           int32_t row, int32_t col, int8_t *patch)
{
    const int8_t *x = ek_patch(p, s, image, row, col, patch);
    if (x == patch || s->depth % STEP == 0)
        return x;
    return memcpy(patch, x, (size_t)s->depth);
}

void ek_conv2d_mve(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_conv_params *p = params;
    const ek_patch_shape s = ek_patch_shape_of(p);
    int8_t *const patches[PIXELS] = {scratch, (int8_t *)scratch + padded_depth(&s)};

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, row / p->out.h, 0, 0);
        int8_t *y = (int8_t *)out + ek_image_at(&p->out, row / p->out.h, row % p->out.h, 0);
        for (int32_t col = range->col; col < range->col_end; col += PIXELS) {
            const int32_t other = col + (col + 1 < range->col_end); /* a single pixel twice */
            for (int32_t o = range->ch; o < range->ch_end;) {
                pixels px = {.group = o / s.channels};
                const int32_t base = px.group * s.channels;
                const int8_t *group = image + (ptrdiff_t)px.group * s.in_channels;
                px.first = o - base;
                px.end = ek_min(range->ch_end - base, s.channels);
                px.x[0] = pixel(p, &s, group, row, col, patches[0]);
                px.x[1] = other == col ? px.x[0] : pixel(p, &s, group, row, other, patches[1]);
                px.y[0] = y + (ptrdiff_t)col * p->out.w_stride + base;
                px.y[1] = y + (ptrdiff_t)other * p->out.w_stride + base;
                run_pixels(p, &s, &px);
                o = base + px.end;
            }
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
    const ek_patch_shape s = ek_patch_shape_of(params);
    return (size_t)PIXELS * (size_t)padded_depth(&s);
}
