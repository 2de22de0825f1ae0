/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operators.
 */
#include "operator.h"

#define FIRST_INPUT 1u
#define EITHER_INPUT 3u

#define OPERATOR(OPCODE, name, min_inputs, max_inputs, inplace)                             \
    {EK_OPCODE_##OPCODE,        min_inputs,      max_inputs,        inplace,                \
     sizeof(ek_##name##_record), ek_check_##name, ek_prepare_##name}

const ek_operator *ek_operator_find(uint8_t opcode)
{
    static const ek_operator table[] = {
        OPERATOR(QUANTIZE, quantize, 1, 1, 0),
        OPERATOR(DEQUANTIZE, dequantize, 1, 1, 0),
        OPERATOR(CONV2D, conv2d, 2, 2, 0),
        OPERATOR(DEPTHWISE_CONV2D, depthwise_conv2d, 2, 2, 0),
        OPERATOR(DENSE, dense, 2, 2, 0),
        OPERATOR(MATMUL, matmul, 2, 2, 0),
        OPERATOR(ADD, add, 2, 2, EITHER_INPUT),
        OPERATOR(MUL, mul, 2, 2, EITHER_INPUT),
        OPERATOR(MAX_POOL, max_pool, 1, 1, 0),
        OPERATOR(AVERAGE_POOL, average_pool, 1, 1, 0),
        OPERATOR(LUT, lut, 1, 1, FIRST_INPUT),
        OPERATOR(PRELU, prelu, 1, 1, FIRST_INPUT),
        OPERATOR(SOFTMAX, softmax, 1, 1, FIRST_INPUT),
        /* A struct without fields does not exist in C. */
        {EK_OPCODE_RESHAPE, 1, 1, FIRST_INPUT, 0, ek_check_reshape, ek_prepare_reshape},
        OPERATOR(TRANSPOSE, transpose, 1, 1, 0),
        OPERATOR(SLICE, slice, 1, 1, 0),
        OPERATOR(PAD, pad, 1, 1, 0),
        OPERATOR(CONCAT, concat, 1, 255, 0),
        OPERATOR(RESIZE_NEAREST, resize_nearest, 1, 1, 0),
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].opcode == opcode)
            return &table[i];
    return NULL;
}
