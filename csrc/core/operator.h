/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator is to the runtime: a check and a prepare, side by side in op_<family>.c, and a
 * line in the table of operators.c.
 */
#ifndef EK_OPERATOR_H
#define EK_OPERATOR_H

#include "model.h"
#include "prepare.h"

typedef struct ek_operator {
    uint8_t opcode;
    uint8_t min_inputs, max_inputs;
    uint8_t inplace; /* bit i: the output may take over the memory of input i exactly */
    uint16_t param_bytes;
    /* Called once at ek_open, after the records of all tensors have passed. Whatever prepare and
     * the kernels rely on is checked here. */
    ek_status (*check)(const ek_op *op);
    /* Emits the steps that compute it; the same calls measure and build. */
    void (*prepare)(ek_builder *builder, const ek_op *op);
} ek_operator;

/* Null for an opcode that this runtime does not know. */
const ek_operator *ek_operator_find(uint8_t opcode);

ek_status ek_check_quantize(const ek_op *op);
ek_status ek_check_dequantize(const ek_op *op);
ek_status ek_check_conv2d(const ek_op *op);
ek_status ek_check_depthwise_conv2d(const ek_op *op);
ek_status ek_check_dense(const ek_op *op);
ek_status ek_check_matmul(const ek_op *op);
ek_status ek_check_add(const ek_op *op);
ek_status ek_check_mul(const ek_op *op);
ek_status ek_check_max_pool(const ek_op *op);
ek_status ek_check_average_pool(const ek_op *op);
ek_status ek_check_lut(const ek_op *op);
ek_status ek_check_prelu(const ek_op *op);
ek_status ek_check_softmax(const ek_op *op);
ek_status ek_check_reshape(const ek_op *op);
ek_status ek_check_transpose(const ek_op *op);
ek_status ek_check_slice(const ek_op *op);
ek_status ek_check_pad(const ek_op *op);
ek_status ek_check_concat(const ek_op *op);
ek_status ek_check_resize_nearest(const ek_op *op);

void ek_prepare_quantize(ek_builder *builder, const ek_op *op);
void ek_prepare_dequantize(ek_builder *builder, const ek_op *op);
void ek_prepare_conv2d(ek_builder *builder, const ek_op *op);
void ek_prepare_depthwise_conv2d(ek_builder *builder, const ek_op *op);
void ek_prepare_dense(ek_builder *builder, const ek_op *op);
void ek_prepare_matmul(ek_builder *builder, const ek_op *op);
void ek_prepare_add(ek_builder *builder, const ek_op *op);
void ek_prepare_mul(ek_builder *builder, const ek_op *op);
void ek_prepare_max_pool(ek_builder *builder, const ek_op *op);
void ek_prepare_average_pool(ek_builder *builder, const ek_op *op);
void ek_prepare_lut(ek_builder *builder, const ek_op *op);
void ek_prepare_prelu(ek_builder *builder, const ek_op *op);
void ek_prepare_softmax(ek_builder *builder, const ek_op *op);
void ek_prepare_reshape(ek_builder *builder, const ek_op *op);
void ek_prepare_transpose(ek_builder *builder, const ek_op *op);
void ek_prepare_slice(ek_builder *builder, const ek_op *op);
void ek_prepare_pad(ek_builder *builder, const ek_op *op);
void ek_prepare_concat(ek_builder *builder, const ek_op *op);
void ek_prepare_resize_nearest(ek_builder *builder, const ek_op *op);

#endif /* EK_OPERATOR_H */
