/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operators.
 */
#include "operator.h"

const ek_operator *ek_operator_find(uint8_t opcode)
{
    static const ek_operator table[] = {
#define EK_OPERATOR(OPCODE, name, param_bytes) \
    {EK_OPCODE_##OPCODE, EK_OPERANDS_##OPCODE, param_bytes, ek_check_##name, ek_prepare_##name},
#include "operators.def"
#undef EK_OPERATOR
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].opcode == opcode)
            return &table[i];
    return NULL;
}
