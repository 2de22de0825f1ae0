/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 convolution with Helium.
 *
 * Four input rows are interleaved in scratch, so that a word holds a column of four values of one
 * channel, and a vector four columns. Four products of it with weights in the same order are 2x2
 * outputs; their weights are shifted by a word for the next column, by a byte for the next row.
 * With strides, one output takes one vector. Zero weights make up for what a window does not
 * cover.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "mve.h"

#define TAPS 3
#define ROWS 4
#define GROUP 16                /* channels that one step interleaves */
#define GROUP_BYTES (GROUP * ROWS)
#define PLANES (TAPS + 2)       /* columns of weights, between two of zeros */
#define LINES_BYTES 4096        /* of interleaved rows, unless four outputs need more */
#define MAX_STRIDE 4
#define AT_ONCE 4               /* outputs of a row with strides */

/* ---- Sums and outputs ------------------------------------------------------------------------ */

/* Outputs of some channels, of a row or of two: the first words are the walk over channels, which
 * the functions overwrite. */
typedef struct outputs_job {
    const int8_t *weights; /* for two rows from the zeros on, for one from the first column on */
    const int32_t *start;
    const float *multiplier;
    const int8_t *x; /* interleaved rows */
    int8_t *y;
    int32_t channels; /* 20, overwritten */
    int32_t count;    /* 24: of two columns each; or columns */
    int32_t odd;      /* whether one more column follows the pairs */
    int32_t x_step, y_step; /* 32: of two columns, or outputs; y_step of a turn of the inner loop */
    int32_t zero;
    int32_t lo, hi;
    uint32_t x_offsets[4]; /* 52: of four columns */
    uint32_t y_offsets[4]; /* 68: of the outputs of a turn */
} outputs_job;

_Static_assert(offsetof(outputs_job, x_offsets) == 52, "the assembly counts on it");

/* Two rows, two or more columns; for the clamp of the type and for others. */
void ek_mve_depthwise_pairs(outputs_job *job);
void ek_mve_depthwise_pairs_clamped(outputs_job *job);
/* One row with any stride. */
void ek_mve_depthwise_row(outputs_job *job);

/* r0 the job, from here on in r11; r9 x_step, r3 y_step, r12 zero point, q5 x_offsets, q7
 * y_offsets. */
#define BEGIN                       \
    "    push {r4-r11, lr}\n"       \
    "    vpush {d8-d15}\n"          \
    "    mov r11, r0\n"             \
    "    ldrd r9, r3, [r11, #32]\n" \
    "    ldr r12, [r11, #40]\n"     \
    "    add r1, r11, #52\n"        \
    "    vldrw.32 q5, [r1]\n"       \
    "    vldrw.32 q7, [r1, #16]\n"

#define END                    \
    "    ldr r0, [r11, #20]\n" \
    "    subs r0, #1\n"        \
    "    str r0, [r11, #20]\n" \
    "    bne.w 1b\n"           \
    "    vpop {d8-d15}\n"      \
    "    pop {r4-r11, pc}\n"

/* The next channel: r0 weights, r5 x, r7 y, r1 start, r10 multiplier. */
#define CHANNEL(weights)                  \
    "1:  ldm r11, {r0, r2, r4, r5, r7}\n" \
    weights                               \
    "    adds r0, #4\n"                   \
    "    ldr r1, [r2], #4\n"              \
    "    ldr r10, [r4], #4\n"             \
    "    add r6, r5, #4\n"                \
    "    add r8, r7, #1\n"                \
    "    stm r11, {r0, r2, r4, r6, r8}\n"

/* Sums in r0, r2, r4, r6 to outputs in `q`. */
#define REQUANTIZE(q)                       \
    "    vmov " q "[2], " q "[0], r0, r4\n" \
    "    vmov " q "[3], " q "[1], r2, r6\n" \
    "    vadd.i32 " q ", " q ", r1\n"       \
    "    vcvt.f32.s32 " q ", " q "\n"       \
    "    vmul.f32 " q ", " q ", r10\n"      \
    "    vcvtn.s32.f32 " q ", " q "\n"      \
    "    vqadd.s32 " q ", " q ", r12\n"

/* q0 to q3 are the weights of the outputs (0, 0), (0, 1), (1, 0) and (1, 1). An odd column is
 * computed together with the one before once more. */
#define PAIRS(clamp)                         \
    BEGIN                                    \
    CHANNEL("    add.w r6, r0, r9, lsr #1\n" \
            "    vldrw.32 q1, [r0, q5]\n"    \
            "    vldrw.32 q0, [r6, q5]\n"    \
            "    vshl.i32 q3, q1, #8\n"      \
            "    vshl.i32 q2, q0, #8\n")     \
    "    ldrd lr, r8, [r11, #24]\n"          \
    "2:  vldrw.32 q4, [r5, q5]\n"            \
    "    vmladav.s8 r0, q4, q0\n"            \
    "    add r5, r9\n"                       \
    "    vmladav.s8 r2, q4, q1\n"            \
    "    vmladav.s8 r4, q4, q2\n"            \
    "    vmladav.s8 r6, q4, q3\n"            \
    REQUANTIZE("q6") clamp                   \
    "    vstrb.32 q6, [r7, q7]\n"            \
    "    add r7, r3\n"                       \
    "    le lr, 2b\n"                        \
    "    cmp r8, #0\n"                       \
    "    beq 3f\n"                           \
    "    sub r5, r5, r9, lsr #1\n"           \
    "    sub r7, r7, r3, lsr #1\n"           \
    "    mov r8, #0\n"                       \
    "    mov lr, #1\n"                       \
    "    b 2b\n"                             \
    "3:\n" END

EK_ASM_FUNCTION("ek_mve_depthwise_pairs",
                PAIRS("    vqmovnb.s32 q6, q6\n"
                      "    vqmovnb.s16 q6, q6\n"));

EK_ASM_FUNCTION("ek_mve_depthwise_pairs_clamped",
                PAIRS("    ldrd r0, r2, [r11, #44]\n"
                      "    vdup.32 q4, r0\n"
                      "    vmax.s32 q6, q6, q4\n"
                      "    vdup.32 q4, r2\n"
                      "    vmin.s32 q6, q6, q4\n"));

/* q0 weights, q1 lo, q2 hi; q5 and q6 find the vectors of two outputs, x_step that of the third. */
EK_ASM_FUNCTION("ek_mve_depthwise_row",
                BEGIN
                "    ldrd r0, r2, [r11, #44]\n"
                "    vdup.32 q1, r0\n"
                "    vdup.32 q2, r2\n"
                "    lsrs r0, r9, #1\n"
                "    vadd.i32 q6, q5, r0\n"
                CHANNEL("    vldrw.32 q0, [r0, q5]\n")
                "    ldr r8, [r11, #24]\n"
                "2:  vldrw.32 q3, [r5, q5]\n"
                "    vldrw.32 q4, [r5, q6]\n"
                "    vmladav.s8 r0, q3, q0\n"
                "    add r5, r9\n"
                "    vmladav.s8 r2, q4, q0\n"
                "    vldrw.32 q3, [r5, q5]\n"
                "    vldrw.32 q4, [r5, q6]\n"
                "    vmladav.s8 r4, q3, q0\n"
                "    add r5, r9\n"
                "    vmladav.s8 r6, q4, q0\n"
                REQUANTIZE("q3")
                "    vmax.s32 q3, q3, q1\n"
                "    vmin.s32 q3, q3, q2\n"
                "    vctp.32 r8\n"
                "    vpst\n"
                "    vstrbt.32 q3, [r7, q7]\n"
                "    add r7, r3\n"
                "    subs r8, #4\n"
                "    bgt 2b\n"
                END);

/* ---- Interleaved rows ------------------------------------------------------------------------ */

/* Four rows of bytes; the next sixteen of each are `step` bytes behind. */
typedef struct lines {
    const int8_t *at[ROWS];
    ptrdiff_t step[ROWS];
} lines;

/* Sixteen bytes of each row, `groups` times, to words of a byte of each row. */
static void interleave(int8_t *to, const lines *from, int32_t groups)
{
    const int8_t *a = from->at[0], *b = from->at[1], *c = from->at[2], *d = from->at[3];
    if (groups <= 0)
        return;
    __asm__ volatile("dls lr, %[groups]\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%[a]]\n\t"
                     "vldrb.8 q1, [%[b]]\n\t"
                     "vldrb.8 q2, [%[c]]\n\t"
                     "vldrb.8 q3, [%[d]]\n\t"
                     "add %[a], %[a], %[step_a]\n\t"
                     "add %[b], %[b], %[step_b]\n\t"
                     "add %[c], %[c], %[step_c]\n\t"
                     "add %[d], %[d], %[step_d]\n\t"
                     "vst40.8 {q0, q1, q2, q3}, [%[to]]\n\t"
                     "vst41.8 {q0, q1, q2, q3}, [%[to]]\n\t"
                     "vst42.8 {q0, q1, q2, q3}, [%[to]]\n\t"
                     "vst43.8 {q0, q1, q2, q3}, [%[to]]!\n\t"
                     "le lr, 1b"
                     : [to] "+r"(to), [a] "+l"(a), [b] "+l"(b), [c] "+l"(c), [d] "+l"(d)
                     : [groups] "r"(groups), [step_a] "r"(from->step[0]),
                       [step_b] "r"(from->step[1]), [step_c] "r"(from->step[2]),
                       [step_d] "r"(from->step[3])
                     : "q0", "q1", "q2", "q3", "lr", "memory");
}

/* The same for `count` bytes, up to sixteen, of each row once; writes GROUP_BYTES in any case. */
static void interleave_part(int8_t *to, const lines *from, int32_t group, int32_t count)
{
    const mve_pred16_t some = vctp8q((uint32_t)count);
    int8x16x4_t rows;
    for (int32_t i = 0; i < ROWS; i++)
        rows.val[i] = vldrbq_z_s8(from->at[i] + group * from->step[i], some);
    vst4q_s8(to, rows);
}

/* A run of bytes of each row; step is GROUP. Writes up to GROUP_BYTES more than there are words. */
static void interleave_run(int8_t *to, const lines *from, int32_t bytes)
{
    const int32_t groups = bytes / GROUP, rest = bytes % GROUP;
    interleave(to, from, groups);
    if (rest > 0)
        interleave_part(to + groups * GROUP_BYTES, from, groups, rest);
}

/* `channels`, up to sixteen, of each column; step leads to the next one. */
static void interleave_columns(int8_t *to, const lines *from, int32_t columns, int32_t channels)
{
    if (channels == GROUP) {
        interleave(to, from, columns);
        return;
    }
    for (int32_t i = 0; i < columns; i++, to += GROUP_BYTES)
        interleave_part(to, from, i, channels);
}

/* ---- Channels that are computed together ----------------------------------------------------- */

/* All of a dense tensor whose rows are short enough, or up to sixteen. */
typedef struct part {
    const ek_conv_params *p;
    int32_t channel, channels;
    int32_t flat;  /* the former: a row of the input is one run of bytes */
    int32_t plane; /* bytes of a column in scratch */
    int8_t *weights, *columns;
    int8_t zeros[GROUP], outside[GROUP]; /* rows that there are not */
} part;

/* Columns under `outputs` outputs of a row, with what is computed beside them. */
static int32_t columns_read(int32_t outputs, int32_t stride)
{
    return ((outputs + AT_ONCE - 1) / AT_ONCE * AT_ONCE - 1) * stride + TAPS + 1;
}

/* Outputs of a row that are computed together. */
static int32_t most_outputs(const part *part)
{
    const int32_t columns = LINES_BYTES / GROUP_BYTES - TAPS - 1;
    return part->flat ? part->p->out.w : (columns / part->p->stride_w + 1) / AT_ONCE * AT_ONCE;
}

static int fits_flat(const ek_conv_params *p)
{
    const int32_t columns = columns_read(p->out.w, p->stride_w);
    return p->in.w_stride == p->in.c && columns <= LINES_BYTES / ROWS / p->in.c;
}

/* Columns of weights as the rows are interleaved, zeros before and behind. */
static void interleave_weights(const part *part)
{
    const int32_t c = part->p->out.c;
    const int8_t *tap = part->p->weights.data + part->channel;
    ek_mve_fill(part->weights, 0, part->plane);
    for (int32_t kw = 0; kw < TAPS; kw++, tap += c) {
        const lines from = {{tap, tap + TAPS * c, tap + 2 * TAPS * c, part->zeros},
                            {GROUP, GROUP, GROUP, 0}};
        interleave_run(part->weights + (kw + 1) * part->plane, &from, part->channels);
    }
    ek_mve_fill(part->weights + (PLANES - 1) * part->plane, 0, part->plane);
}

/* The columns under `count` outputs of `rows` rows from (oh, col) on; `image` is at the first
 * channel. */
static void interleave_input(const part *part, const int8_t *image, int32_t oh, int32_t rows,
                             int32_t col, int32_t count)
{
    const ek_conv_params *p = part->p;
    const int32_t h = oh * p->stride_h - p->pad_top, w = col * p->stride_w - p->pad_left;
    const int32_t columns = (count - 1) * p->stride_w + TAPS;
    const ek_taps inside = ek_taps_inside(w, columns, 1, p->in.w);
    int8_t *first = part->columns + inside.first * part->plane;
    int8_t *end = part->columns + inside.end * part->plane;
    lines from;
    for (int32_t i = 0; i < ROWS; i++) {
        const int here =
            h + i >= 0 && h + i < p->in.h && i < rows - 1 + TAPS && inside.end > inside.first;
        from.at[i] = here ? image + ek_image_at(&p->in, 0, h + i, w + inside.first) : part->outside;
        from.step[i] = !here ? 0 : part->flat ? GROUP : p->in.w_stride;
    }
    ek_mve_fill(part->columns, p->x_zero, (int32_t)(first - part->columns));
    if (part->flat)
        interleave_run(first, &from, (inside.end - inside.first) * part->channels);
    else
        interleave_columns(first, &from, inside.end - inside.first, part->channels);
    ek_mve_fill(end, p->x_zero, (columns - inside.end) * part->plane);
}

/* `count` outputs of `rows` rows, 1 or 2, whose columns are interleaved; y is at the first one. */
static void outputs(const part *part, int8_t *y, int32_t rows, int32_t count)
{
    const ek_conv_params *p = part->p;
    const int32_t next = p->out.w_stride;
    outputs_job job = {
        .weights = part->weights,
        .start = p->start + part->channel,
        .multiplier = p->multiplier + part->channel,
        .x = part->columns,
        .y = y,
        .channels = part->channels,
        .zero = p->clamp.zero,
        .lo = p->clamp.lo,
        .hi = p->clamp.hi,
    };
    for (int32_t i = 0; i < 4; i++) {
        job.x_offsets[i] = (uint32_t)(i * part->plane);
        job.y_offsets[i] =
            (uint32_t)(rows == 1 ? i * next : i / 2 * p->out.h_stride + i % 2 * next);
    }
    if (rows == 1) {
        job.weights += part->plane;
        job.count = count;
        job.x_step = 2 * p->stride_w * part->plane;
        job.y_step = AT_ONCE * next;
        ek_mve_depthwise_row(&job);
        return;
    }
    job.count = count / 2;
    job.odd = count % 2;
    job.x_step = 2 * part->plane;
    job.y_step = 2 * next;
    if (p->clamp.lo == INT8_MIN && p->clamp.hi == INT8_MAX)
        ek_mve_depthwise_pairs(&job);
    else
        ek_mve_depthwise_pairs_clamped(&job);
}

/* Rows [oh, oh_end) of an image. An odd row is computed together with the one before once more. */
static void image_rows(const part *part, const int8_t *image, int8_t *y, int32_t oh, int32_t oh_end,
                       const ek_range *range)
{
    const ek_conv_params *p = part->p;
    const int32_t most = most_outputs(part);
    for (int32_t col = range->col; col < range->col_end; col += most) {
        const int32_t count = ek_min(most, range->col_end - col);
        const int pairs = p->stride_h == 1 && p->stride_w == 1 && count > 1 && oh_end - oh > 1;
        for (int32_t row = oh; row < oh_end; row += 1 + pairs) {
            const int32_t first = pairs ? ek_min(row, oh_end - 2) : row;
            interleave_input(part, image, first, 1 + pairs, col, count);
            outputs(part, y + ek_image_at(&p->out, 0, first, col), 1 + pairs, count);
        }
    }
}

void ek_depthwise_3x3_mve(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_conv_params *p = params;
    part part = {.p = p, .channel = range->ch, .weights = scratch};
    part.flat = range->ch == 0 && range->ch_end == p->out.c && fits_flat(p);
    memset(part.outside, p->x_zero, GROUP);

    for (; part.channel < range->ch_end; part.channel += part.channels) {
        part.channels = part.flat ? p->out.c : ek_min(GROUP, range->ch_end - part.channel);
        part.plane = part.flat ? p->out.c * ROWS : GROUP_BYTES;
        part.columns = part.weights + PLANES * part.plane;
        interleave_weights(&part);
        for (int32_t row = range->row, row_end; row < range->row_end; row = row_end) {
            const int32_t n = row / p->out.h, first = n * p->out.h;
            row_end = ek_min(first + p->out.h, range->row_end);
            image_rows(&part, (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0) + part.channel,
                       (int8_t *)out + ek_image_at(&p->out, n, 0, 0) + part.channel, row - first,
                       row_end - first, range);
        }
    }
}

int ek_depthwise_3x3_mve_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->out.c == p->in.c && p->kernel_h == TAPS && p->kernel_w == TAPS && p->dilation_h == 1
        && p->dilation_w == 1 && p->stride_w <= MAX_STRIDE;
}

/* Weights and columns, of all channels or of sixteen; groups are written whole. */
size_t ek_depthwise_3x3_mve_scratch(const void *params)
{
    const ek_conv_params *p = params;
    const int32_t columns = columns_read(p->out.w, p->stride_w);
    int32_t bytes = PLANES * GROUP_BYTES + ek_min(columns * GROUP_BYTES, LINES_BYTES);
    if (fits_flat(p))
        bytes = ek_max(bytes, (PLANES + columns) * p->out.c * ROWS);
    return (size_t)(bytes + GROUP_BYTES);
}
