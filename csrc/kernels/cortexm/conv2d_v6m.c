/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution with the instructions of ARMv6-M: products of four rows of bytes with one, which are
 * the windows of four pixels and a channel's weights, or for a single pixel the other way round.
 */
#include "../kernels.h"
#include "patch.h"
#include "v6m.h"

#define ROWS 4
#define CHANNELS 16 /* whose sums stand on the stack together */

/* `repeat` times: products of one row with four; then both move on by their steps. */
typedef struct dots_job {
    uint32_t *sums; /* [repeat][ROWS] */
    int32_t count;  /* values of a row, at least 1 */
    int32_t repeat;
    int32_t row_step, rows_step;
} dots_job;

/* Sums of the products of `row` with ROWS rows `stride` apart. For 4 multiply-accumulates 14
 * instructions. Changes the job.
 *
 *     r0 r1 r3 r4 the rows, r2 row, r5 the index, r6 its value in row, r7 a product
 *     r8-r11 sums, r12 count, lr the last multiple of eight below; the job is at sp */
void ek_v6m_dots(const int8_t *rows, ptrdiff_t stride, const int8_t *row, dots_job *job);

#define PRODUCT(row, sum)              \
    "    ldrsb r7, [" row ", r5]\n"    \
    "    muls r7, r6, r7\n"            \
    "    add " sum ", r7\n"

#define STEP                   \
    "    ldrsb r6, [r2, r5]\n" \
    PRODUCT("r0", "r8")        \
    PRODUCT("r1", "r9")        \
    PRODUCT("r3", "r10")       \
    PRODUCT("r4", "r11")       \
    "    adds r5, #1\n"

EK_ASM_FUNCTION("ek_v6m_dots", EK_V6M_ENTER
                "    push {r3}\n"
                "    ldr r5, [r3, #4]\n"
                "    mov r12, r5\n"
                "    movs r6, #7\n"
                "    bics r5, r6\n"
                "    mov lr, r5\n"
                "    adds r7, r0, r1\n"
                "    adds r3, r7, r1\n"
                "    adds r4, r3, r1\n"
                "    mov r1, r7\n"
                "4:  movs r5, #0\n"
                "    mov r8, r5\n"
                "    mov r9, r5\n"
                "    mov r10, r5\n"
                "    mov r11, r5\n"
                "    cmp r5, lr\n"
                "    beq 2f\n"
                "1:  .rept 8\n"
                STEP
                "    .endr\n"
                "    cmp r5, lr\n"
                "    bne 1b\n"
                "2:  cmp r5, r12\n"
                "    beq 3f\n"
                STEP
                "    b 2b\n"
                "3:  ldr r7, [sp]\n"
                "    ldr r5, [r7, #12]\n"
                "    adds r2, r2, r5\n"
                "    ldr r5, [r7, #16]\n"
                "    adds r0, r0, r5\n"
                "    adds r1, r1, r5\n"
                "    adds r3, r3, r5\n"
                "    adds r4, r4, r5\n"
                "    ldr r6, [r7]\n"
                "    mov r5, r8\n"
                "    str r5, [r6]\n"
                "    mov r5, r9\n"
                "    str r5, [r6, #4]\n"
                "    mov r5, r10\n"
                "    str r5, [r6, #8]\n"
                "    mov r5, r11\n"
                "    str r5, [r6, #12]\n"
                "    adds r6, #16\n"
                "    str r6, [r7]\n"
                "    ldr r6, [r7, #8]\n"
                "    subs r6, #1\n"
                "    str r6, [r7, #8]\n"
                "    beq 5f\n"
                "    b 4b\n"
                "5:  add sp, #4\n"
                EK_V6M_LEAVE);

/* `count` channels of one group; weights and start begin at the first of them, and so does what is
 * written. */
typedef struct channels_part {
    const int8_t *weights;
    const int32_t *start;
    const float *multiplier;
    int32_t depth, count;
    ek_fixed fixed[CHANNELS]; /* where a row has four pixels */
    ek_fixed_clamp clamp;
} channels_part;

/* Four pixels, whose windows lie `stride` bytes apart, and outputs `step`. */
static void four_pixels(const channels_part *part, const int8_t *windows, ptrdiff_t stride,
                        int8_t *y, ptrdiff_t step)
{
    uint32_t sums[CHANNELS * ROWS];
    dots_job job = {sums, part->depth, part->count, part->depth, 0};
    ek_v6m_dots(windows, stride, part->weights, &job);
    for (int32_t o = 0; o < part->count; o++)
        ek_fixed_store(sums + o * ROWS, ROWS, &part->fixed[o], (uint32_t)part->start[o],
                       &part->clamp, y + o, step);
}

static void one_pixel(const channels_part *part, const int8_t *window, int8_t *y)
{
    uint32_t sums[CHANNELS * ROWS];
    const int32_t depth = part->depth, whole = part->count / ROWS * ROWS;
    dots_job job = {sums, depth, whole / ROWS, 0, ROWS * depth};
    if (whole > 0)
        ek_v6m_dots(part->weights, depth, window, &job);
    for (int32_t o = whole; o < part->count; o++) { /* the same channel four times */
        job = (dots_job){sums + o, depth, 1, 0, 0};
        ek_v6m_dots(part->weights + (ptrdiff_t)o * depth, 0, window, &job);
    }
    for (int32_t o = 0; o < part->count; o++) {
        const ek_fixed fixed = ek_fixed_init(part->multiplier[o]);
        ek_fixed_store(sums + o, 1, &fixed, (uint32_t)part->start[o], &part->clamp, y + o, 1);
    }
}

/* Whether all windows of [col, col + ROWS) stand in the input itself. */
static int are_in_place(const ek_conv_params *p, const ek_patch_shape *s, int32_t row, int32_t col)
{
    const int32_t h = row % p->out.h * p->stride_h - p->pad_top;
    const int32_t w = col * p->stride_w - p->pad_left;
    const int32_t last = w + (ROWS - 1) * p->stride_w + p->kernel_w;
    return p->kernel_h == 1 && h >= 0 && h < p->in.h && w >= 0 && last <= p->in.w
        && (p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == s->in_channels));
}

/* Pixels [col, end) of a row. */
static void pixels(const ek_conv_params *p, const ek_patch_shape *s, const channels_part *part,
                   const int8_t *image, int8_t *y, int8_t *patches, int32_t row, int32_t col,
                   int32_t end)
{
    const ptrdiff_t step = p->out.w_stride;
    for (; end - col >= ROWS; col += ROWS, y += ROWS * step) {
        if (are_in_place(p, s, row, col)) {
            const int8_t *windows = ek_patch(p, s, image, row, col, patches);
            four_pixels(part, windows, (ptrdiff_t)p->stride_w * p->in.w_stride, y, step);
            continue;
        }
        for (int32_t i = 0; i < ROWS; i++) {
            int8_t *patch = patches + (ptrdiff_t)i * s->depth;
            const int8_t *window = ek_patch(p, s, image, row, col + i, patch);
            if (window != patch)
                memcpy(patch, window, (size_t)s->depth);
        }
        four_pixels(part, patches, s->depth, y, step);
    }
    for (; col < end; col++, y += step)
        one_pixel(part, ek_patch(p, s, image, row, col, patches), y);
}

static void run_part(const ek_conv_params *p, const ek_patch_shape *s, const channels_part *part,
                     const int8_t *in, int8_t *out, int8_t *patches, const ek_range *range)
{
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *image = in + ek_image_at(&p->in, row / p->out.h, 0, 0);
        int8_t *y = out + ek_image_at(&p->out, row / p->out.h, row % p->out.h, range->col);
        pixels(p, s, part, image, y, patches, row, range->col, range->col_end);
    }
}

void ek_conv2d_v6m(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_conv_params *p = params;
    const ek_patch_shape s = ek_patch_shape_of(p);
    channels_part part;
    part.depth = s.depth;
    part.clamp = ek_fixed_clamp_init(&p->clamp);
    for (int32_t o = range->ch; o < range->ch_end; o += part.count) {
        const int32_t group = o / s.channels, group_end = (group + 1) * s.channels;
        part.count = ek_min(CHANNELS, ek_min(range->ch_end, group_end) - o);
        part.weights = p->weights.data + (ptrdiff_t)o * s.depth;
        part.start = p->start + o;
        part.multiplier = p->multiplier + o;
        for (int32_t i = 0; i < part.count && range->col_end - range->col >= ROWS; i++)
            part.fixed[i] = ek_fixed_init(p->multiplier[o + i]);
        run_part(p, &s, &part, (const int8_t *)in[0] + (ptrdiff_t)group * s.in_channels,
                 (int8_t *)out + o, scratch, range);
    }
}

#define PATCHES_LIMIT 16384 /* bytes of scratch at most */

int ek_conv2d_v6m_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->weights.tile_n == 0 && ek_patch_shape_of(p).depth <= PATCHES_LIMIT / ROWS;
}

size_t ek_conv2d_v6m_scratch(const void *params)
{
    return (size_t)ROWS * (size_t)ek_patch_shape_of(params).depth;
}
