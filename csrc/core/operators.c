/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operators.
 */
#include "operator.h"

#define OPERATOR(OPCODE, name)                                                             \
    {EK_OPCODE_##OPCODE, EK_OPERANDS_##OPCODE, sizeof(ek_##name##_record), ek_check_##name, \
     ek_prepare_##name}

const ek_operator *ek_operator_find(uint8_t opcode)
{
    static const ek_operator table[] = {
        OPERATOR(QUANTIZE, quantize),
        OPERATOR(DEQUANTIZE, dequantize),
        OPERATOR(CONV2D, conv2d),
        OPERATOR(DEPTHWISE_CONV2D, depthwise_conv2d),
        OPERATOR(DENSE, dense),
        OPERATOR(MATMUL, matmul),
        OPERATOR(ADD, add),
        OPERATOR(MUL, mul),
        OPERATOR(MAX_POOL, max_pool),
        OPERATOR(AVERAGE_POOL, average_pool),
        OPERATOR(LUT, lut),
        OPERATOR(PRELU, prelu),
        OPERATOR(SOFTMAX, softmax),
        /* A struct without fields does not exist in C. */
        {EK_OPCODE_RESHAPE, EK_OPERANDS_RESHAPE, 0, ek_check_reshape, ek_prepare_reshape},
        OPERATOR(TRANSPOSE, transpose),
        OPERATOR(SLICE, slice),
        OPERATOR(PAD, pad),
        OPERATOR(CONCAT, concat),
        OPERATOR(RESIZE_NEAREST, resize_nearest),
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].opcode == opcode)
            return &table[i];
    return NULL;
}
