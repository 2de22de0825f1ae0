/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator is to the runtime: a check and a prepare, side by side in op_<family>.c, and a
 * line in operators.def.
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

#define EK_OPERATOR(OPCODE, name, param_bytes)    \
    ek_status ek_check_##name(const ek_op *op);   \
    void ek_prepare_##name(ek_builder *builder, const ek_op *op);
#include "operators.def"
#undef EK_OPERATOR

#endif /* EK_OPERATOR_H */
