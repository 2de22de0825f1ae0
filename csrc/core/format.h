/* SPDX-License-Identifier: Apache-2.0
 *
 * Layout of .ekm files. Made by `python -m edgekit.format.generate` from
 * edgekit/format/schema.py; docs/FORMAT.md explains it. Do not edit.
 */
#ifndef EK_FORMAT_H
#define EK_FORMAT_H

#include <stdint.h>

#define EK_FORMAT_MAGIC {0x89, 0x45, 0x4B, 0x4D, 0x0D, 0x0A, 0x1A, 0x0A}
#define EK_FORMAT_VERSION_MAJOR 1
#define EK_FORMAT_VERSION_MINOR 0
#define EK_SECTION_ALIGN 64u
#define EK_ARENA_ALIGN 16u
#define EK_WEIGHTS_ALIGN_DENSE 16u
#define EK_WEIGHTS_ALIGN_INTERLEAVED 64u
#define EK_WEIGHTS_ALIGN_SPARSE 4u
#define EK_WEIGHTS_ALIGN_PAIRED 16u
#define EK_PAIRED_TILE 4
#define EK_SECTION_SLOTS 12
#define EK_NO_INDEX 0xFFFFFFFFu
#define EK_NO_QUANT 0xFFFFu
#define EK_SCALE_MIN 0x1.0000000000000p-96f
#define EK_SCALE_MAX 0x1.0000000000000p+64f

/* Limits; docs/FORMAT.md says of what. */
#define EK_FORMAT_MAX_FILE_BYTES 2147483647u
#define EK_FORMAT_MAX_ARENA_BYTES 2147483647u
#define EK_FORMAT_MAX_RANK 6u
#define EK_FORMAT_MAX_RECORDS 65535u
#define EK_FORMAT_MAX_DEPTH 16777216u
#define EK_FORMAT_MAX_POOL_POSITIONS 4194304u
#define EK_FORMAT_MAX_PADDED_ELEMENTS 1073741824u
#define EK_FORMAT_MAX_SOFTMAX_ENTRY 16777216u
#define EK_FORMAT_MAX_NORM_DEPTH 65536u
#define EK_FORMAT_MAX_TILE_N 64u
#define EK_FORMAT_MAX_TILE_K 16u
#define EK_FORMAT_MAX_GAP_BITS 8u
#define EK_FORMAT_KERNEL_NAME_BYTES 32u
#define EK_FORMAT_PAIRED_SUM 65535u

#define EK_SECTION_TENSORS 0
#define EK_SECTION_DIMS 1
#define EK_SECTION_QUANTS 2
#define EK_SECTION_OPS 3
#define EK_SECTION_SUBPROGRAMS 4
#define EK_SECTION_IOS 5
#define EK_SECTION_STRINGS 6
#define EK_SECTION_DEBUG 7
#define EK_SECTION_WEIGHTS 8
#define EK_SECTION_STATE 9
#define EK_SECTION_CHOICES 10

#define EK_DTYPE_I8 1
#define EK_DTYPE_U8 2
#define EK_DTYPE_I16 3
#define EK_DTYPE_I32 4
#define EK_DTYPE_I64 5
#define EK_DTYPE_F32 6
#define EK_DTYPE_I4 7
#define EK_DTYPE_I2 8
#define EK_DTYPE_I1 9

#define EK_REGION_IO 0
#define EK_REGION_ARENA 1
#define EK_REGION_STATE 2
#define EK_REGION_READONLY 3

#define EK_ENCODING_DENSE 0
#define EK_ENCODING_INTERLEAVED 1
#define EK_ENCODING_SPARSE 2
#define EK_ENCODING_CODEBOOK 3
#define EK_ENCODING_PAIRED 4

#define EK_GRANULARITY_TENSOR 0
#define EK_GRANULARITY_AXIS 1
#define EK_GRANULARITY_GROUP 2

#define EK_RAW_LAYOUT_NONE 0
#define EK_RAW_LAYOUT_NCHW 1
#define EK_RAW_LAYOUT_NHWC 2

#define EK_OPCODE_QUANTIZE 1
#define EK_OPCODE_DEQUANTIZE 2
#define EK_OPCODE_CONV2D 3
#define EK_OPCODE_DEPTHWISE_CONV2D 4
#define EK_OPCODE_DENSE 5
#define EK_OPCODE_MATMUL 6
#define EK_OPCODE_ADD 7
#define EK_OPCODE_MUL 8
#define EK_OPCODE_MAX_POOL 9
#define EK_OPCODE_AVERAGE_POOL 10
#define EK_OPCODE_LUT 11
#define EK_OPCODE_PRELU 12
#define EK_OPCODE_SOFTMAX 13
#define EK_OPCODE_RESHAPE 14
#define EK_OPCODE_TRANSPOSE 15
#define EK_OPCODE_SLICE 16
#define EK_OPCODE_PAD 17
#define EK_OPCODE_CONCAT 18
#define EK_OPCODE_RESIZE_NEAREST 19
#define EK_OPCODE_CALL 20
#define EK_OPCODE_LAYER_NORM 21
#define EK_OPCODE_MATMUL_TRANSPOSED 22

#define EK_FEATURE_INTERLEAVED_WEIGHTS 0x1u
#define EK_FEATURE_SPARSE_WEIGHTS 0x2u
#define EK_FEATURE_CODEBOOK_WEIGHTS 0x4u
#define EK_FEATURE_STATE 0x8u
#define EK_FEATURE_SUBPROGRAMS 0x10u
#define EK_FEATURE_INT16_ACTIVATIONS 0x20u
#define EK_FEATURE_SUB_BYTE_WEIGHTS 0x40u
#define EK_FEATURE_FLOAT_OPERATORS 0x80u
#define EK_FEATURE_GROUP_QUANTIZATION 0x100u
#define EK_FEATURE_INT64_TENSORS 0x200u
#define EK_FEATURE_PAIRED_WEIGHTS 0x400u

/* Least and most inputs; bit i: the output may take over the memory of input i exactly. */
#define EK_OPERANDS_QUANTIZE 1, 1, 0
#define EK_OPERANDS_DEQUANTIZE 1, 1, 0
#define EK_OPERANDS_CONV2D 2, 2, 0
#define EK_OPERANDS_DEPTHWISE_CONV2D 2, 2, 0
#define EK_OPERANDS_DENSE 2, 2, 0
#define EK_OPERANDS_MATMUL 2, 2, 0
#define EK_OPERANDS_ADD 2, 2, 3
#define EK_OPERANDS_MUL 2, 2, 3
#define EK_OPERANDS_MAX_POOL 1, 1, 0
#define EK_OPERANDS_AVERAGE_POOL 1, 1, 0
#define EK_OPERANDS_LUT 1, 1, 1
#define EK_OPERANDS_PRELU 1, 1, 1
#define EK_OPERANDS_SOFTMAX 1, 1, 1
#define EK_OPERANDS_RESHAPE 1, 1, 1
#define EK_OPERANDS_TRANSPOSE 1, 1, 0
#define EK_OPERANDS_SLICE 1, 1, 0
#define EK_OPERANDS_PAD 1, 1, 0
#define EK_OPERANDS_CONCAT 1, 255, 0
#define EK_OPERANDS_RESIZE_NEAREST 1, 1, 0
#define EK_OPERANDS_LAYER_NORM 1, 1, 1
#define EK_OPERANDS_MATMUL_TRANSPOSED 2, 2, 0

/* The first bytes of every file. */
typedef struct ek_file_header {
    uint8_t magic[8]; /* 89 45 4B 4D 0D 0A 1A 0A */
    uint16_t version_major; /* 1 */
    uint16_t version_minor; /* 0 */
    uint32_t program_checksum; /* CRC-32 of bytes [0, program_bytes) with this field zero */
    uint32_t weights_checksum; /* CRC-32 of bytes [program_bytes, file_bytes) */
    uint32_t file_bytes; /* size of the whole file, at most 2^31 - 1 */
    uint64_t required_features; /* bitmap of `Feature`; a reader refuses a bit it does not know */
    uint32_t program_bytes; /* offset of the first byte that the program checksum leaves out; a multiple of 64 */
    uint32_t arena_bytes; /* size of the ARENA region, at most 2^31 - 1 */
    uint32_t state_bytes; /* size of the STATE region */
    uint32_t reserved[3]; /* zero */
    uint32_t section[24]; /* pairs of offset and size in bytes, indexed by `Section`; offsets are multiples of 64 */
} ek_file_header;
_Static_assert(sizeof(ek_file_header) == 152, "ek_file_header");

/* One tensor of the program. */
typedef struct ek_tensor_record {
    uint8_t dtype; /* `Dtype` */
    uint8_t rank; /* 0 to 6 */
    uint8_t region; /* `Region` */
    uint8_t encoding; /* `Encoding`; DENSE outside READONLY */
    uint8_t tile_n; /* INTERLEAVED: channels of a tile, a power of two up to 64; SPARSE: rows of a tile, a power of two up to 64, or 0 for one tile; PAIRED: 4; else 0 */
    uint8_t tile_k; /* INTERLEAVED: depth of a tile, a power of two up to 16; SPARSE: bits of a gap, 1 to 8; PAIRED: 4; else 0 */
    uint16_t quant; /* index in QUANTS, or 0xFFFF */
    uint16_t first_op; /* index of the operator that writes it; 0 for READONLY, STATE and inputs */
    uint16_t last_op; /* index of the last operator that reads it, `first_op` if none does; for an output, the last operator */
    uint32_t offset; /* in its region; IO: index in IOS */
    uint32_t bytes; /* stored size */
    uint32_t dims; /* index in DIMS of the outermost of `rank` dimensions, none of them zero; 0 for rank 0 */
} ek_tensor_record;
_Static_assert(sizeof(ek_tensor_record) == 24, "ek_tensor_record");

/* Scales and zero points: real = scale * (q - zero_point). */
typedef struct ek_quant_record {
    uint8_t granularity; /* `Granularity` */
    uint8_t axis; /* AXIS and GROUP: the dimension the scales run along; else 0 */
    uint16_t group; /* GROUP: elements along `axis` that share a scale; else 0 */
    float scale; /* TENSOR: the scale; else 0 */
    int32_t zero_point; /* TENSOR: the zero point; else 0 */
    uint32_t scales; /* AXIS, GROUP: offset in WEIGHTS of the float32 scales, behind them as many int32 zero points; else 0xFFFFFFFF */
} ek_quant_record;
_Static_assert(sizeof(ek_quant_record) == 16, "ek_quant_record");

/* One tile of a SPARSE tensor. Offsets count from the tensor's first byte, which begins the table of tiles; a tile ends where the next one begins, the last one's gaps at the first values, its values at the tensor's end. */
typedef struct ek_sparse_tile {
    uint32_t gaps; /* offset of the first byte of gaps */
    uint32_t values; /* offset of the first value */
} ek_sparse_tile;
_Static_assert(sizeof(ek_sparse_tile) == 8, "ek_sparse_tile");

/* A run of operators; number 0 is the model. Without records all operators are the model. */
typedef struct ek_subprogram_record {
    uint32_t first_op; /* index of the first operator */
    uint32_t op_count; /* number of operators */
    uint32_t repeat; /* how many times a CALL runs it */
    uint32_t reserved; /* zero */
} ek_subprogram_record;
_Static_assert(sizeof(ek_subprogram_record) == 16, "ek_subprogram_record");

/* One named input or output, inputs first, in the model's order. */
typedef struct ek_io_record {
    uint32_t name; /* offset in STRINGS of the zero-terminated UTF-8 name */
    uint16_t tensor; /* index of its tensor, in region IO */
    uint8_t output; /* 0 input, 1 output */
    uint8_t reserved; /* zero */
} ek_io_record;
_Static_assert(sizeof(ek_io_record) == 8, "ek_io_record");

/* A kernel that measured faster than another one on an operator. Names are ASCII, filled with zeros. */
typedef struct ek_choice_record {
    uint16_t op; /* index of the operator */
    uint16_t reserved; /* zero */
    uint8_t instead_of[32]; /* name of the kernel that the runtime would take by itself */
    uint8_t kernel[32]; /* name of the kernel to take in its place */
} ek_choice_record;
_Static_assert(sizeof(ek_choice_record) == 68, "ek_choice_record");

/* Head of an operator record. Behind it stand n_inputs + n_outputs uint16 tensor indexes, padded with zero to a multiple of 4 bytes, then the opcode's parameters. */
typedef struct ek_op_record {
    uint16_t bytes; /* whole record, a multiple of 4 */
    uint8_t opcode; /* `Opcode` */
    uint8_t version; /* of the parameters, 1 */
    uint8_t n_inputs; /* input tensors */
    uint8_t n_outputs; /* output tensors */
    uint16_t reserved; /* zero */
} ek_op_record;
_Static_assert(sizeof(ek_op_record) == 8, "ek_op_record");

/* Input 0 the caller's float32 array, output 0 the int8 tensor. Output dimension i is the array's dimension perm[i]. A caller may bind raw 8-bit data instead, whose dimension raw_perm[i] is output dimension i and which becomes the output by a table of 256 int8 per channel. What the table was made from is recorded beside it: the model's own input is f32(f32(raw - mean) / std). */
typedef struct ek_quantize_record {
    uint8_t perm[6]; /* float32 layout */
    uint8_t raw_perm[6]; /* raw layout */
    uint8_t raw_dtype; /* I8 or U8, or 0 where no table is recorded */
    uint8_t table_axis; /* output dimension that selects the table, and mean and std */
    uint8_t raw_layout; /* `RawLayout`; not NONE only where the rank is 4 */
    uint8_t reserved; /* zero */
    uint32_t table_count; /* 1, or the size of dimension `table_axis` */
    uint32_t table; /* offset in WEIGHTS of int8[table_count][256], indexed by the raw byte (I8: value + 128) */
    uint32_t mean; /* offset in WEIGHTS of float32[table_count], finite */
    uint32_t std; /* offset in WEIGHTS of float32[table_count], scales: from 2^-96 to 2^64 */
} ek_quantize_record;
_Static_assert(sizeof(ek_quantize_record) == 32, "ek_quantize_record");

/* Input 0 the int8 tensor, output 0 the caller's float32 array, whose dimension i is input dimension perm[i]. */
typedef struct ek_dequantize_record {
    uint8_t perm[6]; /* layout */
    uint16_t reserved; /* zero */
} ek_dequantize_record;
_Static_assert(sizeof(ek_dequantize_record) == 8, "ek_dequantize_record");

/* x[N,H,W,C], w[O,KH,KW,C/groups] -> y[N,OH,OW,O]. */
typedef struct ek_conv2d_record {
    uint32_t start; /* int32 per output channel, offset in WEIGHTS: bias - x_zero * sum of the channel's weights */
    uint32_t multiplier; /* float32 per output channel, offset in WEIGHTS */
    uint16_t stride_h; /* rows between windows, at least 1 */
    uint16_t stride_w; /* columns between windows, at least 1 */
    uint16_t dilation_h; /* rows between taps, at least 1 */
    uint16_t dilation_w; /* columns between taps, at least 1 */
    uint16_t pad_top; /* rows of padding */
    uint16_t pad_left; /* columns of padding */
    uint16_t pad_bottom; /* rows of padding */
    uint16_t pad_right; /* columns of padding */
    uint32_t groups; /* divides C and O */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_conv2d_record;
_Static_assert(sizeof(ek_conv2d_record) == 36, "ek_conv2d_record");

/* x[N,H,W,C], w[KH,KW,O] -> y[N,OH,OW,O]; O is a multiple of C and output channel o reads input channel o / (O / C). */
typedef struct ek_depthwise_conv2d_record {
    uint32_t start; /* int32 per output channel, offset in WEIGHTS: bias - x_zero * sum of the channel's weights */
    uint32_t multiplier; /* float32 per output channel, offset in WEIGHTS */
    uint16_t stride_h; /* rows between windows, at least 1 */
    uint16_t stride_w; /* columns between windows, at least 1 */
    uint16_t dilation_h; /* rows between taps, at least 1 */
    uint16_t dilation_w; /* columns between taps, at least 1 */
    uint16_t pad_top; /* rows of padding */
    uint16_t pad_left; /* columns of padding */
    uint16_t pad_bottom; /* rows of padding */
    uint16_t pad_right; /* columns of padding */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_depthwise_conv2d_record;
_Static_assert(sizeof(ek_depthwise_conv2d_record) == 32, "ek_depthwise_conv2d_record");

/* x[..., K], w[O, K] -> y[..., O]. */
typedef struct ek_dense_record {
    uint32_t start; /* int32 per output channel, offset in WEIGHTS: bias - x_zero * sum of the channel's weights */
    uint32_t multiplier; /* float32 per output channel, offset in WEIGHTS */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_dense_record;
_Static_assert(sizeof(ek_dense_record) == 16, "ek_dense_record");

/* a[..., M, K], b[..., K, N] -> y[..., M, N], both activations; batch dimensions are equal, or 1 in b. */
typedef struct ek_matmul_record {
    float multiplier; /* f32(f32(sa * sb) / sy) */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_matmul_record;
_Static_assert(sizeof(ek_matmul_record) == 12, "ek_matmul_record");

/* a[..., M, K], b[..., N, K] -> y[..., M, N]: MATMUL with the rows of b as columns of the second factor. */
typedef struct ek_matmul_transposed_record {
    float multiplier; /* f32(f32(sa * sb) / sy) */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_matmul_transposed_record;
_Static_assert(sizeof(ek_matmul_transposed_record) == 12, "ek_matmul_transposed_record");

/* a, b -> y with NumPy broadcasting to y; subtraction is a negative multiplier_b. */
typedef struct ek_add_record {
    float multiplier_a; /* f32(sa / sy) */
    float multiplier_b; /* f32(sb / sy), negated to subtract */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_add_record;
_Static_assert(sizeof(ek_add_record) == 16, "ek_add_record");

/* a, b -> y with NumPy broadcasting to y. */
typedef struct ek_mul_record {
    float multiplier; /* f32(f32(sa * sb) / sy) */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_mul_record;
_Static_assert(sizeof(ek_mul_record) == 12, "ek_mul_record");

/* x[N,H,W,C] -> y[N,OH,OW,C]; padding is ignored. */
typedef struct ek_max_pool_record {
    uint16_t kernel_h; /* rows of the window */
    uint16_t kernel_w; /* columns of the window */
    uint16_t stride_h; /* rows between windows, at least 1 */
    uint16_t stride_w; /* columns between windows, at least 1 */
    uint16_t dilation_h; /* rows between taps, at least 1 */
    uint16_t dilation_w; /* columns between taps, at least 1 */
    uint16_t pad_top; /* rows of padding */
    uint16_t pad_left; /* columns of padding */
    uint16_t pad_bottom; /* rows of padding */
    uint16_t pad_right; /* columns of padding */
} ek_max_pool_record;
_Static_assert(sizeof(ek_max_pool_record) == 20, "ek_max_pool_record");

/* x[N,H,W,C] -> y[N,OH,OW,C]; n counts the window's positions inside the input, and with count_include_pad those inside input and padding. */
typedef struct ek_average_pool_record {
    uint16_t kernel_h; /* rows of the window */
    uint16_t kernel_w; /* columns of the window */
    uint16_t stride_h; /* rows between windows, at least 1 */
    uint16_t stride_w; /* columns between windows, at least 1 */
    uint16_t dilation_h; /* rows between taps, at least 1 */
    uint16_t dilation_w; /* columns between taps, at least 1 */
    uint16_t pad_top; /* rows of padding */
    uint16_t pad_left; /* columns of padding */
    uint16_t pad_bottom; /* rows of padding */
    uint16_t pad_right; /* columns of padding */
    uint32_t count_include_pad; /* 0 or 1 */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_average_pool_record;
_Static_assert(sizeof(ek_average_pool_record) == 32, "ek_average_pool_record");

/* y = table[x + 128]. */
typedef struct ek_lut_record {
    uint32_t table; /* int8[256], offset in WEIGHTS */
} ek_lut_record;
_Static_assert(sizeof(ek_lut_record) == 4, "ek_lut_record");

/* x[..., C] -> y[..., C]. */
typedef struct ek_prelu_record {
    float multiplier; /* f32(sx / sy), for q >= zx */
    uint32_t negative; /* float32 per channel f32(f32(sx * slope) / sy), any sign or zero, offset in WEIGHTS */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_prelu_record;
_Static_assert(sizeof(ek_prelu_record) == 16, "ek_prelu_record");

/* Over the last dimension. t = table[max - q]; k = f32(inverse_scale / f32(sum t)); y = sat(rne(f32(f32(t) * k)) + zy). */
typedef struct ek_softmax_record {
    uint32_t table; /* uint32[256], offset in WEIGHTS; table[0] * (last dimension) below 2^31, none above table[0], at most 2^24 */
    float inverse_scale; /* f32(1 / sy) */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_softmax_record;
_Static_assert(sizeof(ek_softmax_record) == 16, "ek_softmax_record");

/* Over the last dimension, of length n. d = n * q - sum(q); v = n * sum(q * q) - sum(q)^2; k = f32(1 / f32(sqrt(f32(f32(v) + epsilon)))); y = sat(rne(f32(f32(f32(f32(d) * k) * gain) + offset)) + zy). */
typedef struct ek_layer_norm_record {
    float epsilon; /* f32(eps * (n / sx)^2), a scale: from 2^-96 to 2^64 */
    uint32_t gain; /* float32[n], f32(gamma / sy), offset in WEIGHTS; each is zero or has a scale as magnitude */
    uint32_t offset; /* float32[n], f32(beta / sy), offset in WEIGHTS; each is zero or has a scale as magnitude */
    int32_t lo; /* lowest output value */
    int32_t hi; /* highest output value, at least `lo` */
} ek_layer_norm_record;
_Static_assert(sizeof(ek_layer_norm_record) == 20, "ek_layer_norm_record");

/* Output dimension i is input dimension perm[i]. */
typedef struct ek_transpose_record {
    uint8_t perm[6]; /* a permutation of the rank */
    uint16_t reserved; /* zero */
} ek_transpose_record;
_Static_assert(sizeof(ek_transpose_record) == 8, "ek_transpose_record");

/* y[i] = x[start + i * step] in every dimension. */
typedef struct ek_slice_record {
    int32_t start[6]; /* first index */
    int32_t step[6]; /* not zero; 1 behind the rank */
} ek_slice_record;
_Static_assert(sizeof(ek_slice_record) == 48, "ek_slice_record");

/* Constant padding. */
typedef struct ek_pad_record {
    uint32_t before[6]; /* elements in front, per dimension */
    int32_t value; /* the quantized constant */
} ek_pad_record;
_Static_assert(sizeof(ek_pad_record) == 28, "ek_pad_record");

/* All inputs along `axis`; scales are equal. */
typedef struct ek_concat_record {
    uint32_t axis; /* dimension */
} ek_concat_record;
_Static_assert(sizeof(ek_concat_record) == 4, "ek_concat_record");

/* y[n,i,j,c] = x[n,rows[i],cols[j],c]. */
typedef struct ek_resize_nearest_record {
    uint32_t rows; /* uint16 per output row, offset in WEIGHTS */
    uint32_t cols; /* uint16 per output column, offset in WEIGHTS */
} ek_resize_nearest_record;
_Static_assert(sizeof(ek_resize_nearest_record) == 8, "ek_resize_nearest_record");

/* Runs a subprogram its `repeat` times. */
typedef struct ek_call_record {
    uint32_t subprogram; /* index, not 0 */
} ek_call_record;
_Static_assert(sizeof(ek_call_record) == 4, "ek_call_record");

#endif /* EK_FORMAT_H */
