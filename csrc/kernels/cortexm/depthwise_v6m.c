/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 convolution with the instructions of ARMv6-M.
 *
 * One channel at a time is turned from NHWC to a plane of unsigned bytes in scratch, padding
 * included: loads of those take constant offsets, so that four neighbouring outputs of a line share
 * each weight. Lines run along that side of the image that four divides better.
 */
#include "../kernels.h"
#include "v6m.h"

#define TAPS 3
#define GROUP 4         /* outputs of a line that are computed together */
#define LINE_GROUPS 16  /* whose sums stand on the stack */
#define PLANE_BYTES 4096
#define SIGN 0x80       /* makes a signed byte unsigned, by adding 128 */

/* One direction of the image: along lines, or across them. Steps are in bytes of the tensors. */
typedef struct axis {
    int32_t in, out, pad;
    ptrdiff_t in_step, out_step, weight_step;
} axis;

typedef struct layout {
    axis along, across;
    int32_t stride;
    int32_t pitch; /* of a plane's line */
    int32_t lines; /* of outputs from one filling of the plane */
} layout;

static int32_t groups_of(int32_t outputs)
{
    return ek_ceil_div(outputs, GROUP);
}

static layout layout_of(const ek_conv_params *p)
{
    const axis rows = {p->in.h,        p->out.h,        p->pad_top,
                       p->in.h_stride, p->out.h_stride, (ptrdiff_t)TAPS * p->out.c};
    const axis cols = {p->in.w,        p->out.w,        p->pad_left,
                       p->in.w_stride, p->out.w_stride, p->out.c};
    const int swapped = groups_of(p->out.h) * p->out.w < groups_of(p->out.w) * p->out.h;
    layout l = {swapped ? rows : cols, swapped ? cols : rows, p->stride_h, 0, 0};
    l.pitch = (groups_of(l.along.out) * GROUP - 1) * l.stride + TAPS;
    l.lines = ek_min(ek_max((PLANE_BYTES / l.pitch - TAPS) / l.stride + 1, 1), l.across.out);
    return l;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

typedef struct taps_job {
    const uint8_t *x;
    ptrdiff_t pitch;
    const int32_t *weights; /* [3 across][3 along] */
    uint32_t *sums, *sums_end;
} taps_job;

/* The sums of neighbouring outputs, by stride 1 or 2; sums_end - sums is a multiple of GROUP. For
 * 36 multiply-accumulates 133 instructions.
 *
 *     r0 x, r1 a weight, r2 weights, r3 a product, r4-r7 sums
 *     r8 pitch, r9 x of the group, r10 where sums go, r11 their end */
void ek_v6m_taps_1(const taps_job *job);
void ek_v6m_taps_2(const taps_job *job);

#define PRODUCT(at, sum)             \
    "    ldrb r3, [r0, #" at "]\n"   \
    "    muls r3, r1, r3\n"          \
    "    adds " sum ", " sum ", r3\n"

#define TAP(weight, x0, x1, x2, x3)    \
    "    ldr r1, [r2, #" weight "]\n"  \
    PRODUCT(x0, "r4") PRODUCT(x1, "r5") PRODUCT(x2, "r6") PRODUCT(x3, "r7")

#define LINE_1(w0, w1, w2)              \
    TAP(w0, "0", "1", "2", "3")         \
    TAP(w1, "1", "2", "3", "4")         \
    TAP(w2, "2", "3", "4", "5")

#define LINE_2(w0, w1, w2)              \
    TAP(w0, "0", "2", "4", "6")         \
    TAP(w1, "1", "3", "5", "7")         \
    TAP(w2, "2", "4", "6", "8")

#define TAPS_FUNCTION(name, LINE, step)                          \
    EK_ASM_FUNCTION(name, EK_V6M_ENTER                           \
                    "    ldr r1, [r0, #4]\n"                     \
                    "    mov r8, r1\n"                           \
                    "    ldr r2, [r0, #8]\n"                     \
                    "    ldr r1, [r0, #12]\n"                    \
                    "    mov r10, r1\n"                          \
                    "    ldr r1, [r0, #16]\n"                    \
                    "    mov r11, r1\n"                          \
                    "    ldr r0, [r0]\n"                         \
                    "1:  mov r9, r0\n"                           \
                    "    movs r4, #0\n"                          \
                    "    movs r5, #0\n"                          \
                    "    movs r6, #0\n"                          \
                    "    movs r7, #0\n"                          \
                    LINE("0", "4", "8")                          \
                    "    add r0, r8\n"                           \
                    LINE("12", "16", "20")                       \
                    "    add r0, r8\n"                           \
                    LINE("24", "28", "32")                       \
                    "    mov r3, r10\n"                          \
                    "    stm r3!, {r4-r7}\n"                     \
                    "    mov r10, r3\n"                          \
                    "    mov r0, r9\n"                           \
                    "    adds r0, #" step "\n"                   \
                    "    cmp r3, r11\n"                          \
                    "    beq 2f\n"                               \
                    "    b 1b\n"                                 \
                    "2:\n"                                       \
                    EK_V6M_LEAVE)

TAPS_FUNCTION("ek_v6m_taps_1", LINE_1, "4");
TAPS_FUNCTION("ek_v6m_taps_2", LINE_2, "8");

/* ---- Planes ---------------------------------------------------------------------------------- */

/* `count` bytes `step` apart, made unsigned. */
static void copy_unsigned(const int8_t *from, ptrdiff_t step, int32_t count, uint8_t *to)
{
    for (; count >= 4; count -= 4, to += 4) {
        to[0] = (uint8_t)*from ^ SIGN;
        from += step;
        to[1] = (uint8_t)*from ^ SIGN;
        from += step;
        to[2] = (uint8_t)*from ^ SIGN;
        from += step;
        to[3] = (uint8_t)*from ^ SIGN;
        from += step;
    }
    for (; count > 0; count--, from += step)
        *to++ = (uint8_t)*from ^ SIGN;
}

/* `width` positions of an input line from position `first` on; those in [0, size) are inside. */
static void fill_line(const int8_t *line, ptrdiff_t step, int32_t size, uint8_t zero, int32_t first,
                      int32_t width, uint8_t *to)
{
    const int32_t before = ek_min(ek_max(-first, 0), width);
    const int32_t inside = ek_max(ek_min(size - first, width) - before, 0);
    for (int32_t i = 0; i < before; i++)
        to[i] = zero;
    copy_unsigned(line + (first + before) * step, step, inside, to + before);
    for (int32_t i = before + inside; i < width; i++)
        to[i] = zero;
}

/* ---- Ranges ---------------------------------------------------------------------------------- */

/* One channel of one image: outputs along [u, u_end), across [v, v_end). */
typedef struct part {
    const int8_t *in;
    int8_t *out;
    int32_t u, u_end, v, v_end;
    int32_t weights[TAPS * TAPS];
    uint32_t start;
    ek_fixed fixed;
    ek_fixed_clamp clamp;
} part;

/* One line of outputs. */
static void run_line(const layout *l, const part *part, const uint8_t *x, int8_t *y)
{
    uint32_t sums[LINE_GROUPS * GROUP];
    for (int32_t left = part->u_end - part->u; left > 0; left -= LINE_GROUPS * GROUP) {
        const int32_t count = ek_min(left, LINE_GROUPS * GROUP);
        const taps_job job = {x, l->pitch, part->weights, sums, sums + groups_of(count) * GROUP};
        if (l->stride == 1)
            ek_v6m_taps_1(&job);
        else
            ek_v6m_taps_2(&job);
        ek_fixed_store(sums, count, &part->fixed, part->start, &part->clamp, y, l->along.out_step);
        x += count * l->stride;
        y += count * l->along.out_step;
    }
}

/* Output lines [v, v + count), which fit the plane. */
static void run_lines(const layout *l, const part *part, uint8_t zero, int32_t v, int32_t count,
                      uint8_t *plane)
{
    const axis *along = &l->along, *across = &l->across;
    const int32_t first = part->u * l->stride - along->pad;
    for (int32_t i = 0; i < (count - 1) * l->stride + TAPS; i++) {
        const int32_t at = v * l->stride - across->pad + i;
        const int inside = at >= 0 && at < across->in;
        fill_line(part->in + (inside ? at : 0) * across->in_step, along->in_step,
                  inside ? along->in : 0, zero, first, l->pitch, plane + i * l->pitch);
    }
    for (int32_t i = 0; i < count; i++)
        run_line(l, part, plane + i * l->stride * l->pitch,
                 part->out + (v + i) * across->out_step + part->u * along->out_step);
}

/* The weights of a channel in the plane's order, and where its sums begin, as each value is 128
 * more. */
static void set_channel(const ek_conv_params *p, const layout *l, int32_t c, part *part)
{
    const int8_t *weights = p->weights.data + c;
    uint32_t sum = 0;
    for (int32_t i = 0; i < TAPS; i++)
        for (int32_t j = 0; j < TAPS; j++) {
            const int32_t w = weights[i * l->across.weight_step + j * l->along.weight_step];
            part->weights[i * TAPS + j] = w;
            sum += (uint32_t)w;
        }
    part->start = (uint32_t)p->start[c] - SIGN * sum;
    part->fixed = ek_fixed_init(p->multiplier[c]);
}

void ek_depthwise_v6m(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    const layout l = layout_of(p);
    const int swapped = l.along.weight_step != p->out.c;
    const uint8_t zero = (uint8_t)p->x_zero ^ SIGN;
    for (int32_t row = range->row; row < range->row_end;) {
        const int32_t n = row / p->out.h, h = row % p->out.h;
        const int32_t h_end = ek_min(p->out.h, h + range->row_end - row);
        part part = {
            .u = swapped ? h : range->col,
            .u_end = swapped ? h_end : range->col_end,
            .v = swapped ? range->col : h,
            .v_end = swapped ? range->col_end : h_end,
            .clamp = ek_fixed_clamp_init(&p->clamp),
        };
        for (int32_t c = range->ch; c < range->ch_end; c++) {
            part.in = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0) + c;
            part.out = (int8_t *)out + ek_image_at(&p->out, n, 0, 0) + c;
            set_channel(p, &l, c, &part);
            for (int32_t v = part.v; v < part.v_end; v += l.lines)
                run_lines(&l, &part, zero, v, ek_min(l.lines, part.v_end - v), scratch);
        }
        row += h_end - h;
    }
}

/* Lines so long that their planes would take much scratch are rare on these processors. */
#define LINE_LIMIT 1024

int ek_depthwise_v6m_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->kernel_h == TAPS && p->kernel_w == TAPS && p->dilation_h == 1 && p->dilation_w == 1
        && p->stride_h == p->stride_w && p->stride_h <= 2 && p->out.c == p->in.c
        && ek_max(p->out.h, p->out.w) <= LINE_LIMIT;
}

size_t ek_depthwise_v6m_scratch(const void *params)
{
    const layout l = layout_of(params);
    return (size_t)l.pitch * (size_t)((l.lines - 1) * l.stride + TAPS);
}
