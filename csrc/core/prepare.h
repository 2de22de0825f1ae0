/* SPDX-License-Identifier: Apache-2.0
 *
 * From operator records to steps. The same calls first measure, then build.
 */
#ifndef EK_PREPARE_H
#define EK_PREPARE_H

#include "../kernels/kernel.h"
#include "model.h"

_Static_assert(EK_MAX_RANK == EK_FORMAT_MAX_RANK, "kernels walk every rank of the format");

typedef struct ek_builder {
    const ek_model *model;
    ek_kernels kernels;  /* that may be used; EK_REPACK too */
    uint32_t threads;
    uint8_t *steps;      /* null: measure only */
    uint8_t *repacked, *arena, *state; /* null as well */
    struct ek_step *last_step;
    /* Sums so far. */
    uint64_t steps_bytes, repacked_bytes;
    uint64_t scratch_bytes; /* largest of any step */
    uint32_t step_count;
    int failed;             /* no kernel computes a step */
} ek_builder;

/* One kernel call of an operator. */
typedef struct ek_call {
    ek_kernel_kind kind;
    const void *params;
    size_t params_bytes;
    const ek_tensor_record *in[2]; /* the second may be null */
    int32_t rows, cols, chs;       /* extents of the kernel's range */
    int32_t ch_step;               /* channels are cut at multiples of it; 0: never */
    uint64_t work;                 /* about as many multiply-accumulates */
    int only_if_bound;             /* runs only if in[0], an input, is bound in `format` */
    ek_format format;
} ek_call;

/* One call of `op`. */
void ek_emit(ek_builder *builder, const ek_op *op, const ek_call *call);

/* A convolution (ek_conv_params; CONV2D or DEPTHWISE) with `weights` in any encoding; fills in
 * params->weights and the rest of the call. */
void ek_emit_conv(ek_builder *builder, const ek_op *op, ek_kernel_kind kind,
                  ek_conv_params *params, const ek_tensor_record *x,
                  const ek_tensor_record *weights);

/* `op` needs no kernel: its output is in place. */
void ek_emit_nothing(ek_builder *builder, const ek_op *op);

/* ---- What prepares of several operators share ------------------------------------------------ */

/* A shape with row-major strides in elements; rank 0 becomes one dimension of 1. */
typedef struct ek_shape {
    int32_t rank;
    int32_t dims[EK_MAX_RANK];
    int32_t strides[EK_MAX_RANK];
} ek_shape;

ek_shape ek_shape_of(const ek_model *model, const ek_tensor_record *tensor);

/* Product of all dimensions but the last, and of all. */
int32_t ek_shape_rows(const ek_shape *shape);
int32_t ek_shape_size(const ek_shape *shape);

/* Of a rank 4 tensor [N,H,W,C]. */
ek_image ek_image_of(const ek_shape *shape);
ek_image ek_image_of_tensor(const ek_model *model, const ek_tensor_record *tensor);

int32_t ek_zero_point(const ek_model *model, const ek_tensor_record *tensor);
float ek_scale(const ek_model *model, const ek_tensor_record *tensor);

/* [lo, hi] with the zero point of `y`. */
ek_clamp ek_clamp_of(const ek_model *model, const ek_tensor_record *y, int32_t lo, int32_t hi);

/* Merges neighbouring dimensions that every one of `count` stride arrays walks as one, drops
 * dimensions of 1, and returns the new rank, at least 1. */
int32_t ek_collapse(int32_t rank, int32_t *dims, int32_t *const strides[], int32_t count);

#endif /* EK_PREPARE_H */
