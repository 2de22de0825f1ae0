/* SPDX-License-Identifier: Apache-2.0
 *
 * ADD, MUL, LUT, PRELU and SOFTMAX: as many outputs as inputs, and in place where wanted.
 */
#include "check.h"
#include "operator.h"

static int are_activations(const ek_op *op)
{
    for (uint32_t i = 0; i < op->record->n_inputs; i++)
        if (!ek_is_activation(op->model, ek_op_input(op, i)))
            return 0;
    return ek_is_activation(op->model, ek_op_output(op));
}

static int is_unary(const ek_op *op)
{
    return are_activations(op) && ek_same_shape(op->model, ek_op_input(op, 0), ek_op_output(op));
}

/* ---- ADD and MUL ----------------------------------------------------------------------------- */

/* Dimension `i` of y as `t` sees it, aligned at the last dimension. */
static uint32_t aligned_dim(const ek_model *model, const ek_tensor_record *t, uint32_t y_rank,
                            uint32_t i)
{
    const uint32_t missing = y_rank - t->rank;
    return i < missing ? 1 : ek_dims(model, t)[i - missing];
}

static int broadcasts(const ek_op *op)
{
    const ek_tensor_record *a = ek_op_input(op, 0), *b = ek_op_input(op, 1);
    const ek_tensor_record *y = ek_op_output(op);
    if (!are_activations(op) || a->rank > y->rank || b->rank > y->rank)
        return 0;
    for (uint32_t i = 0; i < y->rank; i++) {
        const uint32_t ad = aligned_dim(op->model, a, y->rank, i);
        const uint32_t bd = aligned_dim(op->model, b, y->rank, i);
        const uint32_t yd = ek_dims(op->model, y)[i];
        if (yd != (ad > bd ? ad : bd) || (ad != yd && ad != 1) || (bd != yd && bd != 1))
            return 0;
    }
    return 1;
}

/* Strides of `t` along the dimensions of y: 0 where it repeats. */
static void broadcast_strides(const ek_model *model, const ek_tensor_record *t,
                              const ek_shape *y, int32_t *strides)
{
    const ek_shape shape = ek_shape_of(model, t);
    const int32_t missing = y->rank - shape.rank;
    for (int32_t i = 0; i < y->rank; i++) {
        const int repeats = i < missing || shape.dims[i - missing] == 1;
        strides[i] = repeats ? 0 : shape.strides[i - missing];
    }
}

static ek_broadcast broadcast_of(const ek_op *op)
{
    const ek_model *model = op->model;
    ek_shape y = ek_shape_of(model, ek_op_output(op));
    ek_broadcast shape = {0};
    broadcast_strides(model, ek_op_input(op, 0), &y, shape.a_stride);
    broadcast_strides(model, ek_op_input(op, 1), &y, shape.b_stride);
    int32_t *const strides[] = {shape.a_stride, shape.b_stride};
    shape.rank = ek_collapse(y.rank, y.dims, strides, 2);
    for (int32_t i = 0; i < shape.rank; i++)
        shape.dims[i] = y.dims[i];
    return shape;
}

static void emit_broadcast(ek_builder *builder, const ek_op *op, ek_kernel_kind kind,
                           const void *params, size_t params_bytes)
{
    const ek_broadcast *shape = params; /* the first member */
    int32_t rows = 1;
    for (int32_t i = 0; i < shape->rank - 1; i++)
        rows *= shape->dims[i];
    const int32_t chs = shape->dims[shape->rank - 1];
    const ek_call call = {
        .kind = kind,
        .params = params,
        .params_bytes = params_bytes,
        .in = {ek_op_input(op, 0), ek_op_input(op, 1)},
        .rows = rows,
        .cols = 1,
        .chs = chs,
        .ch_step = 64,
        .work = (uint64_t)rows * (uint64_t)chs,
    };
    ek_emit(builder, op, &call);
}

ek_status ek_check_add(const ek_op *op)
{
    const ek_add_record *p = ek_op_params(op);
    if (!broadcasts(op) || !ek_is_clamp(p->lo, p->hi))
        return EK_ERROR_OPERATOR;
    const float y_scale = ek_scale(op->model, ek_op_output(op));
    const float b = p->multiplier_b < 0 ? -p->multiplier_b : p->multiplier_b;
    const ek_status status =
        ek_check_multiplier(p->multiplier_a, ek_scale(op->model, ek_op_input(op, 0)) / y_scale);
    if (status != EK_OK)
        return status;
    return ek_check_multiplier(b, ek_scale(op->model, ek_op_input(op, 1)) / y_scale);
}

void ek_prepare_add(ek_builder *builder, const ek_op *op)
{
    const ek_add_record *r = ek_op_params(op);
    const ek_add_params p = {
        .shape = broadcast_of(op),
        .a_zero = ek_zero_point(op->model, ek_op_input(op, 0)),
        .b_zero = ek_zero_point(op->model, ek_op_input(op, 1)),
        .a_multiplier = r->multiplier_a,
        .b_multiplier = r->multiplier_b,
        .clamp = ek_clamp_of(op->model, ek_op_output(op), r->lo, r->hi),
    };
    emit_broadcast(builder, op, EK_KIND_ADD, &p, sizeof p);
}

ek_status ek_check_mul(const ek_op *op)
{
    const ek_mul_record *p = ek_op_params(op);
    if (!broadcasts(op) || !ek_is_clamp(p->lo, p->hi))
        return EK_ERROR_OPERATOR;
    const float a_scale = ek_scale(op->model, ek_op_input(op, 0));
    const float b_scale = ek_scale(op->model, ek_op_input(op, 1));
    return ek_check_multiplier(p->multiplier,
                               a_scale * b_scale / ek_scale(op->model, ek_op_output(op)));
}

void ek_prepare_mul(ek_builder *builder, const ek_op *op)
{
    const ek_mul_record *r = ek_op_params(op);
    const ek_mul_params p = {
        .shape = broadcast_of(op),
        .a_zero = ek_zero_point(op->model, ek_op_input(op, 0)),
        .b_zero = ek_zero_point(op->model, ek_op_input(op, 1)),
        .multiplier = r->multiplier,
        .clamp = ek_clamp_of(op->model, ek_op_output(op), r->lo, r->hi),
    };
    emit_broadcast(builder, op, EK_KIND_MUL, &p, sizeof p);
}

/* ---- LUT ------------------------------------------------------------------------------------- */

ek_status ek_check_lut(const ek_op *op)
{
    const ek_lut_record *p = ek_op_params(op);
    return is_unary(op) && ek_is_array(op->model, p->table, 256, 1) ? EK_OK : EK_ERROR_OPERATOR;
}

void ek_prepare_lut(ek_builder *builder, const ek_op *op)
{
    const ek_lut_record *r = ek_op_params(op);
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    const ek_lut_params p = {ek_shape_size(&y), ek_weights_at(op->model, r->table)};
    const ek_call call = {
        .kind = EK_KIND_LUT,
        .params = &p,
        .params_bytes = sizeof p,
        .in = {ek_op_input(op, 0)},
        .rows = 1,
        .cols = 1,
        .chs = p.size,
        .ch_step = 64,
        .work = (uint64_t)p.size,
    };
    ek_emit(builder, op, &call);
}

/* ---- PRELU ----------------------------------------------------------------------------------- */

static int is_zero_or_scale(float value)
{
    return value == 0 || ek_is_scale(value < 0 ? -value : value);
}

ek_status ek_check_prelu(const ek_op *op)
{
    const ek_prelu_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0);
    if (!is_unary(op) || x->rank == 0 || !ek_is_clamp(p->lo, p->hi))
        return EK_ERROR_OPERATOR;
    const uint32_t channels = ek_dims(op->model, x)[x->rank - 1];
    if (!ek_is_array(op->model, p->negative, channels, sizeof(float)))
        return EK_ERROR_OPERATOR;
    const float *negative = ek_weights_at(op->model, p->negative);
    for (uint32_t i = 0; i < channels; i++)
        if (!is_zero_or_scale(negative[i]))
            return EK_ERROR_SCALE;
    return ek_check_multiplier(p->multiplier,
                               ek_scale(op->model, x) / ek_scale(op->model, ek_op_output(op)));
}

void ek_prepare_prelu(ek_builder *builder, const ek_op *op)
{
    const ek_prelu_record *r = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0);
    const ek_shape shape = ek_shape_of(op->model, x);
    const ek_prelu_params p = {
        .rows = ek_shape_rows(&shape),
        .c = shape.dims[shape.rank - 1],
        .x_zero = ek_zero_point(op->model, x),
        .multiplier = r->multiplier,
        .negative = ek_weights_at(op->model, r->negative),
        .clamp = ek_clamp_of(op->model, ek_op_output(op), r->lo, r->hi),
    };
    const ek_call call = {
        .kind = EK_KIND_PRELU,
        .params = &p,
        .params_bytes = sizeof p,
        .in = {x},
        .rows = p.rows,
        .cols = 1,
        .chs = p.c,
        .ch_step = 64,
        .work = (uint64_t)p.rows * (uint64_t)p.c,
    };
    ek_emit(builder, op, &call);
}

/* ---- SOFTMAX --------------------------------------------------------------------------------- */

/* The largest input of a row has d = 0, so that sums lie in [table[0], table[0] * count], which is
 * positive and fits int32. */
static int is_softmax_table(const uint32_t *table, uint64_t count)
{
    if (table[0] == 0 || table[0] > EK_FORMAT_MAX_SOFTMAX_ENTRY || table[0] * count > INT32_MAX)
        return 0;
    for (uint32_t i = 1; i < 256; i++)
        if (table[i] > table[0])
            return 0;
    return 1;
}

ek_status ek_check_softmax(const ek_op *op)
{
    const ek_softmax_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0);
    if (!is_unary(op) || x->rank == 0 || !ek_is_clamp(p->lo, p->hi) ||
        !ek_is_array(op->model, p->table, 256, sizeof(uint32_t)))
        return EK_ERROR_OPERATOR;
    const uint32_t count = ek_dims(op->model, x)[x->rank - 1];
    const uint32_t *table = ek_weights_at(op->model, p->table);
    if (!is_softmax_table(table, count))
        return EK_ERROR_OPERATOR;
    const float largest_sum = (float)(table[0] * count);
    if (!ek_is_scale(p->inverse_scale / largest_sum))
        return EK_ERROR_SCALE;
    return ek_check_multiplier(p->inverse_scale, 1 / ek_scale(op->model, ek_op_output(op)));
}

void ek_prepare_softmax(ek_builder *builder, const ek_op *op)
{
    const ek_softmax_record *r = ek_op_params(op);
    const ek_shape shape = ek_shape_of(op->model, ek_op_output(op));
    const ek_softmax_params p = {
        .rows = ek_shape_rows(&shape),
        .c = shape.dims[shape.rank - 1],
        .table = ek_weights_at(op->model, r->table),
        .inverse_scale = r->inverse_scale,
        .clamp = ek_clamp_of(op->model, ek_op_output(op), r->lo, r->hi),
    };
    const ek_call call = {
        .kind = EK_KIND_SOFTMAX,
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
