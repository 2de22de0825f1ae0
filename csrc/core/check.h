/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions that the checks of operators ask. Each answers 1 or 0. They may be asked once
 * all tensor, quantization and I/O records have passed: shapes are then sound, every tensor has
 * fewer than 2^31 elements, and its bytes lie inside its region.
 */
#ifndef EK_CHECK_H
#define EK_CHECK_H

#include "model.h"

typedef struct ek_window {
    uint32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    uint32_t pad_top, pad_left, pad_bottom, pad_right;
} ek_window;

/* The window fields that convolution and pooling records share. */
#define EK_WINDOW(record, height, width)                                                     \
    ((ek_window){(height), (width), (record)->stride_h, (record)->stride_w,                  \
                 (record)->dilation_h, (record)->dilation_w, (record)->pad_top,              \
                 (record)->pad_left, (record)->pad_bottom, (record)->pad_right})

/* int8, dense, with one scale and zero point: what operators compute on. */
int ek_is_activation(const ek_model *model, const ek_tensor_record *tensor);

/* int8 constants with symmetric quantization, if any: what weights are. */
int ek_is_weight(const ek_model *model, const ek_tensor_record *tensor);

int ek_same_shape(const ek_model *model, const ek_tensor_record *a, const ek_tensor_record *b);

/* The same scale, bit by bit, and zero point: values may move between them. */
int ek_same_quant(const ek_model *model, const ek_tensor_record *a, const ek_tensor_record *b);

/* In [EK_SCALE_MIN, EK_SCALE_MAX]; not a NaN. */
int ek_is_scale(float value);

/* A multiplier that repeats what tensors' scales say: exactly f32(expected), and a scale. */
ek_status ek_check_multiplier(float stored, float expected);

/* `count` elements of `size` bytes lie inside WEIGHTS, aligned to 4. */
int ek_is_array(const ek_model *model, uint32_t offset, uint64_t count, uint32_t size);

/* lo <= hi, both int8. */
int ek_is_clamp(int32_t lo, int32_t hi);

/* A permutation of 0 to rank - 1, zero behind it. */
int ek_is_permutation(const uint8_t perm[EK_FORMAT_MAX_RANK], uint32_t rank);

/* int32 starts and sound float32 multipliers of `channels` output channels. */
ek_status ek_check_requantization(const ek_model *model, uint32_t start, uint32_t multiplier,
                                  uint32_t channels);

/* Strides, dilations and padding of a window over x[N,H,W,C], and that y has N and a height and
 * width that fit: exactly, or with the last, partial window of a pooling's ceil mode. */
int ek_window_fits(const ek_window *window, const uint32_t *x, const uint32_t *y, int ceil_mode);

/* Every window covers a position of the input. */
int ek_window_never_empty(const ek_window *window, const uint32_t *x, const uint32_t *y);

/* The stored bytes of weights are what their encoding says: sizes, zero filling and, for SPARSE,
 * that every value lies inside its tile. */
int ek_weights_are_sound(const ek_model *model, const ek_tensor_record *tensor);

#endif /* EK_CHECK_H */
