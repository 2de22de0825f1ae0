/* SPDX-License-Identifier: Apache-2.0
 *
 * LAYER_NORM: over the last dimension, in place where wanted.
 */
#include "check.h"
#include "operator.h"

/* `count` numbers that are zero or have a scale as magnitude. |d * k| stays below 2^9, so that no
 * product or sum of them overflows. */
static ek_status check_factors(const ek_model *model, uint32_t offset, uint32_t count)
{
    if (!ek_is_array(model, offset, count, sizeof(float)))
        return EK_ERROR_OPERATOR;
    const float *values = ek_weights_at(model, offset);
    for (uint32_t i = 0; i < count; i++)
        if (values[i] != 0 && !ek_is_scale(values[i] < 0 ? -values[i] : values[i]))
            return EK_ERROR_SCALE;
    return EK_OK;
}

ek_status ek_check_layer_norm(const ek_op *op)
{
    const ek_model *model = op->model;
    const ek_layer_norm_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (!ek_is_activation(model, x) || !ek_is_activation(model, y) ||
        !ek_same_shape(model, x, y) || x->rank == 0 || !ek_is_clamp(p->lo, p->hi))
        return EK_ERROR_OPERATOR;
    const uint32_t count = ek_dims(model, x)[x->rank - 1];
    if (count > EK_FORMAT_MAX_NORM_DEPTH)
        return EK_ERROR_OPERATOR;
    if (!ek_is_scale(p->epsilon))
        return EK_ERROR_SCALE;
    const ek_status status = check_factors(model, p->gain, count);
    return status != EK_OK ? status : check_factors(model, p->offset, count);
}

void ek_prepare_layer_norm(ek_builder *builder, const ek_op *op)
{
    const ek_layer_norm_record *r = ek_op_params(op);
    const ek_shape shape = ek_shape_of(op->model, ek_op_output(op));
    const ek_layer_norm_params p = {
        .rows = ek_shape_rows(&shape),
        .c = shape.dims[shape.rank - 1],
        .epsilon = r->epsilon,
        .gain = ek_weights_at(op->model, r->gain),
        .offset = ek_weights_at(op->model, r->offset),
        .clamp = ek_clamp_of(op->model, ek_op_output(op), r->lo, r->hi),
    };
    const ek_call call = {
        .kind = EK_KIND_LAYER_NORM,
        .params = &p,
        .params_bytes = sizeof p,
        .in = {ek_op_input(op, 0)},
        .rows = p.rows,
        .cols = 1,
        .chs = p.c,
        .work = 4 * (uint64_t)p.rows * (uint64_t)p.c,
    };
    ek_emit(builder, op, &call);
}
