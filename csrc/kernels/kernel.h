/* SPDX-License-Identifier: Apache-2.0
 *
 * The interface of every kernel.
 *
 * A kernel is a pure function of one const parameter struct, its input, output and scratch
 * pointers and an output range. It knows nothing of models, files or arenas; the interpreter,
 * threads, tests, and later fused tiles and generated C all make the same call.
 *
 * Pointers and strides: `in[i]` and `out` point at element 0 of the whole tensors; the range says
 * which outputs to write. Strides are in elements. A kernel reads only elements of its inputs
 * and writes only elements of its range, not one byte beyond; `restrict` does not hold for
 * operators that may run in place (see each struct). Parameters are trusted: prepare.c has
 * checked them.
 *
 * Accumulators wrap: add and multiply through uint32_t. Requantization lives in requant.h, once
 * per instruction set, and nowhere else.
 */
#ifndef EK_KERNEL_H
#define EK_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define EK_MAX_RANK 6

/* Part of the output: [row, row_end) x [col, col_end) x [ch, ch_end). What rows, columns and
 * channels are stands at each struct. A range is never empty. */
typedef struct ek_range {
    int32_t row, row_end;
    int32_t col, col_end;
    int32_t ch, ch_end;
} ek_range;

typedef void (*ek_kernel_fn)(const void *params, const void *const in[], void *out, void *scratch,
                             const ek_range *range);

/* Bytes of scratch (aligned to 64) that one call needs for any range. */
typedef size_t (*ek_scratch_fn)(const void *params);

/* Whether the kernel computes this case, with `weights` as the kernel would get them: after
 * repacking, where that is planned. */
typedef int (*ek_supports_fn)(const void *params);

/* Whether the kernel is likely to be faster than those behind it in the list, for a case that it
 * supports. An estimate: a file that was tuned knows better. */
typedef int (*ek_pays_fn)(const void *params);

/* What a kernel computes; each has one parameter struct. */
typedef enum ek_kernel_kind {
    EK_KIND_CONV2D,     /* ek_conv_params; also dense layers: 1x1, n = h = 1, w = rows */
    EK_KIND_DEPTHWISE,  /* ek_conv_params */
    EK_KIND_MATMUL,     /* ek_matmul_params */
    EK_KIND_ADD,        /* ek_add_params */
    EK_KIND_MUL,        /* ek_mul_params */
    EK_KIND_MAX_POOL,   /* ek_pool_params */
    EK_KIND_AVERAGE_POOL, /* ek_pool_params */
    EK_KIND_LUT,        /* ek_lut_params */
    EK_KIND_PRELU,      /* ek_prelu_params */
    EK_KIND_SOFTMAX,    /* ek_softmax_params */
    EK_KIND_LAYER_NORM, /* ek_layer_norm_params */
    EK_KIND_COPY,       /* ek_copy_params: transpose, slice, concat, reshape out of place */
    EK_KIND_PAD,        /* ek_pad_params */
    EK_KIND_RESIZE,     /* ek_resize_params */
    EK_KIND_QUANTIZE,   /* ek_quantize_params */
    EK_KIND_DEQUANTIZE, /* ek_quantize_params */
    EK_KIND_RAW,        /* ek_raw_params: raw 8-bit input by table */
    EK_KIND_COUNT
} ek_kernel_kind;

/* Output clamp and zero point: sat(rne(v) + zero) with lo <= result <= hi, all within int8. NaN,
 * which only a caller's float input can bring, becomes lo. */
typedef struct ek_clamp {
    int32_t zero, lo, hi;
} ek_clamp;

/* Geometry of a 4-D NHWC tensor; the channel stride is 1. */
typedef struct ek_image {
    int32_t n, h, w, c;
    int32_t n_stride, h_stride, w_stride;
} ek_image;

/* Weights as stored: DENSE canonical rows, or INTERLEAVED [N/tile_n][K/tile_k][tile_n][tile_k]
 * with N output channels and K taps times input channels, zero-filled. With groups each group
 * is interleaved on its own. tile_n = tile_k = 0 is DENSE; tile_n = 4 and tile_k = -4 is PAIRED
 * (docs/FORMAT.md, chapter Paired weights), which only kernels that ask for it read. */
typedef struct ek_weights {
    const int8_t *data;
    int32_t tile_n, tile_k;
    int32_t pairs_fit; /* no weight is -128: two products fit 16 bits together; 0: not known */
} ek_weights;

/* Convolution: rows are n * out.h + oh, columns ow, channels output channels.
 *   acc = start[o] + sum(x * w), padding reads x_zero; y = requantize(acc, multiplier[o]).
 * `start` is already bias - x_zero * sum(w), and for a kernel with an `x_offset` it is less
 * x_offset * sum(w), too. CONV2D weights are [o][kh][kw][c/groups];
 * DEPTHWISE ones [kh][kw][o], always DENSE; output channel o reads input channel
 * o / (out.c / in.c).
 * in[0] is x; out does not overlap it. */
typedef struct ek_conv_params {
    ek_image in, out;
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int32_t groups;
    int32_t x_zero;
    ek_clamp clamp;
    ek_weights weights;
    const int32_t *start;
    const float *multiplier;
} ek_conv_params;

/* out[b][m][n] = requantize(sum_k (a[b][m][k] - a_zero) * (b[b][k][n] - b_zero), multiplier);
 * transposed, the second factor is stored as b[b][n][k].
 * Rows are b * M + m, columns 1, channels n. in[0] a, in[1] b. */
typedef struct ek_matmul_params {
    int32_t batch, m, n, k;
    int32_t a_batch_stride, b_batch_stride; /* 0 where one b serves all */
    int32_t b_transposed;
    int32_t a_zero, b_zero;
    float multiplier;
    ek_clamp clamp;
} ek_matmul_params;

/* Elementwise over a broadcast, dimensions collapsed: dims[rank-1] is the innermost; out is
 * contiguous; an input stride of 0 repeats. Rows run over all dimensions but the innermost,
 * columns are 1, channels the innermost. In place on an input that is not broadcast. */
typedef struct ek_broadcast {
    int32_t rank;
    int32_t dims[EK_MAX_RANK];
    int32_t a_stride[EK_MAX_RANK];
    int32_t b_stride[EK_MAX_RANK];
} ek_broadcast;

typedef struct ek_add_params {
    ek_broadcast shape;
    int32_t a_zero, b_zero;
    float a_multiplier, b_multiplier;
    ek_clamp clamp;
} ek_add_params;

typedef struct ek_mul_params {
    ek_broadcast shape;
    int32_t a_zero, b_zero;
    float multiplier;
    ek_clamp clamp;
} ek_mul_params;

/* Rows are n * out.h + oh, columns ow, channels c. Average: m = sx / (sy * n) per position, where
 * n counts positions inside the input, or with count_include_pad inside input plus padding. Max
 * ignores scales and clamp. A window without any position gives the lowest value: clamp.lo, or
 * -128 for max. */
typedef struct ek_pool_params {
    ek_image in, out;
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int32_t pad_bottom, pad_right;
    int32_t count_include_pad;
    int32_t x_zero;
    float x_scale, y_scale;
    ek_clamp clamp;
} ek_pool_params;

/* Rows 1, columns 1, channels all elements. In place. */
typedef struct ek_lut_params {
    int32_t size;
    const int8_t *table; /* [256], indexed by x + 128 */
} ek_lut_params;

/* Rows all dimensions but the last, columns 1, channels the last. In place. */
typedef struct ek_prelu_params {
    int32_t rows, c;
    int32_t x_zero;
    float multiplier;
    const float *negative; /* [c] */
    ek_clamp clamp;
} ek_prelu_params;

/* Rows all dimensions but the last, columns 1, channels the last: always whole rows. In place. */
typedef struct ek_softmax_params {
    int32_t rows, c;
    const uint32_t *table; /* [256] */
    float inverse_scale;
    ek_clamp clamp;
} ek_softmax_params;

/* d = c * x - sum(x), |d| < 2^24; v = c * sum(x * x) - sum(x)^2, v < 2^46, as c <= 2^16.
 * out = round((d * (1 / sqrt(v + epsilon))) * gain + offset), each operation rounded to binary32.
 * Rows all dimensions but the last, columns 1, channels the last: always whole rows. In place. */
typedef struct ek_layer_norm_params {
    int32_t rows, c;
    float epsilon; /* positive */
    const float *gain, *offset; /* [c] */
    ek_clamp clamp;
} ek_layer_norm_params;

/* Strided copy: out[out_offset + sum(i*out_stride)] = in[in_offset + sum(i*in_stride)]. Rows run
 * over dims[0], columns and channels are 1. Strides may be negative. */
typedef struct ek_copy_params {
    int32_t rank;
    int32_t dims[EK_MAX_RANK];
    int32_t in_stride[EK_MAX_RANK];
    int32_t out_stride[EK_MAX_RANK];
    int32_t in_offset, out_offset;
    int32_t element_bytes;
} ek_copy_params;

/* Contiguous in and out. Rows run over out dims[0], columns and channels are 1. */
typedef struct ek_pad_params {
    int32_t rank;
    int32_t out_dims[EK_MAX_RANK];
    int32_t in_dims[EK_MAX_RANK];
    int32_t before[EK_MAX_RANK];
    int32_t value;
} ek_pad_params;

/* Rows are n * out.h + oh, columns ow, channels c. */
typedef struct ek_resize_params {
    ek_image in, out;
    const uint16_t *row_index; /* [out.h] */
    const uint16_t *col_index; /* [out.w] */
} ek_resize_params;

/* QUANTIZE reads float32 and writes int8, DEQUANTIZE the other way round: the output is contiguous
 * over `dims`, out[i] = convert(in[sum(i*in_stride)]). Rows run over dims[0], columns and channels
 * are 1. */
typedef struct ek_quantize_params {
    int32_t rank;
    int32_t dims[EK_MAX_RANK];
    int32_t in_stride[EK_MAX_RANK];
    float scale;
    ek_clamp clamp;
} ek_quantize_params;

/* out[i] = table[channel][in byte]; the same walk. `table_axis` is the dimension of `dims` that
 * selects the table; table_stride is 256, or 0 where one table serves all. */
typedef struct ek_raw_params {
    int32_t rank;
    int32_t dims[EK_MAX_RANK];
    int32_t in_stride[EK_MAX_RANK];
    int32_t table_axis, table_stride;
    int32_t flip; /* XORed to the byte before the look-up: 0x80 for int8, 0 for uint8 */
    const int8_t *table;
} ek_raw_params;

/* One kernel. */
typedef struct ek_kernel {
    ek_kernel_kind kind;
    uint32_t set;      /* EK_KERNELS_x */
    const char *name;  /* "conv2d_avx2" */
    ek_kernel_fn run;
    ek_supports_fn supports; /* null: always */
    ek_scratch_fn scratch;   /* null: none */
    int32_t tile_n, tile_k;  /* the packing it wants for its weights, as in ek_weights */
    int16_t x_offset; /* what a CONV2D kernel adds to each activation, to make it unsigned */
    int16_t block;    /* rows, and columns, that are computed together; 0: one. Such a kernel
                       * transforms its weights in each call. */
    ek_pays_fn pays;  /* null: always */
} ek_kernel;

/* All kernels of this build, best first within a kind. */
const ek_kernel *ek_kernel_list(size_t *count);

#endif /* EK_KERNEL_H */
