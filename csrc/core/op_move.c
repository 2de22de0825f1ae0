/* SPDX-License-Identifier: Apache-2.0
 *
 * RESHAPE, TRANSPOSE, SLICE, PAD, CONCAT and RESIZE_NEAREST: values move and keep their scale.
 */
#include "check.h"
#include "operator.h"

/* Activations with the scale and zero point of the output. */
static int values_move(const ek_op *op)
{
    const ek_tensor_record *y = ek_op_output(op);
    if (!ek_is_activation(op->model, y))
        return 0;
    for (uint32_t i = 0; i < op->record->n_inputs; i++) {
        const ek_tensor_record *x = ek_op_input(op, i);
        if (!ek_is_activation(op->model, x) || !ek_same_quant(op->model, x, y))
            return 0;
    }
    return 1;
}

/* A strided copy of input `i` over `dims`, merged where possible. */
static void emit_copy(ek_builder *builder, const ek_op *op, uint32_t i, ek_copy_params *p)
{
    int32_t *const strides[] = {p->in_stride, p->out_stride};
    int32_t size = 1;
    p->rank = ek_collapse(p->rank, p->dims, strides, 2);
    p->element_bytes = 1;
    for (int32_t d = 0; d < p->rank; d++)
        size *= p->dims[d];
    for (int32_t d = p->rank; d < EK_MAX_RANK; d++)
        p->dims[d] = p->in_stride[d] = p->out_stride[d] = 0;
    const ek_call call = {
        .kind = EK_KIND_COPY,
        .params = p,
        .params_bytes = sizeof *p,
        .in = {ek_op_input(op, i)},
        .rows = p->dims[0],
        .cols = 1,
        .chs = 1,
        .work = (uint64_t)size,
    };
    ek_emit(builder, op, &call);
}

static void copy_array(int32_t *to, const int32_t *from)
{
    for (int32_t i = 0; i < EK_MAX_RANK; i++)
        to[i] = from[i];
}

/* ---- RESHAPE --------------------------------------------------------------------------------- */

ek_status ek_check_reshape(const ek_op *op)
{
    const uint32_t in = ek_elements(op->model, ek_op_input(op, 0));
    const uint32_t out = ek_elements(op->model, ek_op_output(op));
    return values_move(op) && in == out ? EK_OK : EK_ERROR_OPERATOR;
}

void ek_prepare_reshape(ek_builder *builder, const ek_op *op)
{
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (x->region == y->region && x->offset == y->offset) {
        ek_emit_nothing(builder, op);
        return;
    }
    const int32_t size = (int32_t)ek_elements(op->model, y);
    ek_copy_params p = {.rank = 1, .dims = {size}, .in_stride = {1}, .out_stride = {1}};
    emit_copy(builder, op, 0, &p);
}

/* ---- TRANSPOSE ------------------------------------------------------------------------------- */

ek_status ek_check_transpose(const ek_op *op)
{
    const ek_transpose_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (!values_move(op) || x->rank != y->rank || !ek_is_permutation(p->perm, x->rank) ||
        p->reserved != 0)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *yd = ek_dims(op->model, y);
    for (uint32_t i = 0; i < x->rank; i++)
        if (yd[i] != xd[p->perm[i]])
            return EK_ERROR_OPERATOR;
    return EK_OK;
}

void ek_prepare_transpose(ek_builder *builder, const ek_op *op)
{
    const ek_transpose_record *r = ek_op_params(op);
    const ek_shape x = ek_shape_of(op->model, ek_op_input(op, 0));
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    ek_copy_params p = {.rank = y.rank};
    copy_array(p.dims, y.dims);
    copy_array(p.out_stride, y.strides);
    for (int32_t i = 0; i < y.rank; i++)
        p.in_stride[i] = x.strides[r->perm[i]];
    emit_copy(builder, op, 0, &p);
}

/* ---- SLICE ----------------------------------------------------------------------------------- */

static int slice_fits(int64_t start, int64_t step, uint32_t in, uint32_t out)
{
    const int64_t last = start + (int64_t)(out - 1) * step; /* below 2^62 */
    return step != 0 && 0 <= start && start < in && 0 <= last && last < in;
}

ek_status ek_check_slice(const ek_op *op)
{
    const ek_slice_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (!values_move(op) || x->rank != y->rank)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *yd = ek_dims(op->model, y);
    for (uint32_t i = 0; i < EK_FORMAT_MAX_RANK; i++) {
        const int fits = i < x->rank ? slice_fits(p->start[i], p->step[i], xd[i], yd[i])
                                     : p->start[i] == 0 && p->step[i] == 1;
        if (!fits)
            return EK_ERROR_OPERATOR;
    }
    return EK_OK;
}

void ek_prepare_slice(ek_builder *builder, const ek_op *op)
{
    const ek_slice_record *r = ek_op_params(op);
    const ek_shape x = ek_shape_of(op->model, ek_op_input(op, 0));
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    ek_copy_params p = {.rank = y.rank};
    copy_array(p.dims, y.dims);
    copy_array(p.out_stride, y.strides);
    for (int32_t i = 0; i < y.rank; i++) {
        /* Where one element is taken its step is never walked, and may be anything. */
        p.in_stride[i] = y.dims[i] == 1 ? x.strides[i] : x.strides[i] * r->step[i];
        p.in_offset += x.strides[i] * r->start[i];
    }
    emit_copy(builder, op, 0, &p);
}

/* ---- PAD ------------------------------------------------------------------------------------- */

ek_status ek_check_pad(const ek_op *op)
{
    const ek_pad_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (!values_move(op) || x->rank != y->rank || p->value < INT8_MIN || p->value > INT8_MAX)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *yd = ek_dims(op->model, y);
    for (uint32_t i = 0; i < EK_FORMAT_MAX_RANK; i++) {
        const uint64_t needed = i < x->rank ? (uint64_t)xd[i] + p->before[i] : p->before[i];
        if (needed > (i < x->rank ? yd[i] : 0))
            return EK_ERROR_OPERATOR;
    }
    return EK_OK;
}

void ek_prepare_pad(ek_builder *builder, const ek_op *op)
{
    const ek_pad_record *r = ek_op_params(op);
    const ek_shape x = ek_shape_of(op->model, ek_op_input(op, 0));
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    ek_pad_params p = {.value = r->value};
    for (int32_t i = 0; i < y.rank; i++) {
        if (y.dims[i] == 1 && p.rank + y.rank - i > 1)
            continue; /* nothing is padded here: let a longer dimension be cut for threads */
        p.out_dims[p.rank] = y.dims[i];
        p.in_dims[p.rank] = x.dims[i];
        p.before[p.rank] = (int32_t)r->before[i];
        p.rank++;
    }
    const ek_call call = {
        .kind = EK_KIND_PAD,
        .params = &p,
        .params_bytes = sizeof p,
        .in = {ek_op_input(op, 0)},
        .rows = p.out_dims[0],
        .cols = 1,
        .chs = 1,
        .work = (uint64_t)ek_shape_size(&y),
    };
    ek_emit(builder, op, &call);
}

/* ---- CONCAT ---------------------------------------------------------------------------------- */

ek_status ek_check_concat(const ek_op *op)
{
    const ek_concat_record *p = ek_op_params(op);
    const ek_tensor_record *y = ek_op_output(op);
    if (!values_move(op) || p->axis >= y->rank)
        return EK_ERROR_OPERATOR;
    const uint32_t *yd = ek_dims(op->model, y);
    uint64_t length = 0;
    for (uint32_t k = 0; k < op->record->n_inputs; k++) {
        const ek_tensor_record *x = ek_op_input(op, k);
        const uint32_t *xd = ek_dims(op->model, x);
        if (x->rank != y->rank)
            return EK_ERROR_OPERATOR;
        for (uint32_t i = 0; i < y->rank; i++)
            if (i != p->axis && xd[i] != yd[i])
                return EK_ERROR_OPERATOR;
        length += xd[p->axis];
    }
    return length == yd[p->axis] ? EK_OK : EK_ERROR_OPERATOR;
}

void ek_prepare_concat(ek_builder *builder, const ek_op *op)
{
    const ek_concat_record *r = ek_op_params(op);
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    int32_t offset = 0;
    for (uint32_t k = 0; k < op->record->n_inputs; k++) {
        const ek_shape x = ek_shape_of(op->model, ek_op_input(op, k));
        ek_copy_params p = {.rank = x.rank, .out_offset = offset};
        copy_array(p.dims, x.dims);
        copy_array(p.in_stride, x.strides);
        copy_array(p.out_stride, y.strides);
        offset += x.dims[r->axis] * y.strides[r->axis];
        emit_copy(builder, op, k, &p);
    }
}

/* ---- RESIZE_NEAREST -------------------------------------------------------------------------- */

static int is_index_table(const ek_model *model, uint32_t offset, uint32_t count, uint32_t limit)
{
    if (!ek_is_array(model, offset, count, sizeof(uint16_t)))
        return 0;
    const uint16_t *table = ek_weights_at(model, offset);
    for (uint32_t i = 0; i < count; i++)
        if (table[i] >= limit)
            return 0;
    return 1;
}

ek_status ek_check_resize_nearest(const ek_op *op)
{
    const ek_resize_nearest_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (!values_move(op) || x->rank != 4 || y->rank != 4)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *yd = ek_dims(op->model, y);
    return xd[0] == yd[0] && xd[3] == yd[3] &&
                   is_index_table(op->model, p->rows, yd[1], xd[1]) &&
                   is_index_table(op->model, p->cols, yd[2], xd[2])
               ? EK_OK
               : EK_ERROR_OPERATOR;
}

void ek_prepare_resize_nearest(ek_builder *builder, const ek_op *op)
{
    const ek_resize_nearest_record *r = ek_op_params(op);
    const ek_shape x = ek_shape_of(op->model, ek_op_input(op, 0));
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    const ek_resize_params p = {
        .in = ek_image_of(&x),
        .out = ek_image_of(&y),
        .row_index = ek_weights_at(op->model, r->rows),
        .col_index = ek_weights_at(op->model, r->cols),
    };
    const ek_call call = {
        .kind = EK_KIND_RESIZE,
        .params = &p,
        .params_bytes = sizeof p,
        .in = {ek_op_input(op, 0)},
        .rows = p.out.n * p.out.h,
        .cols = p.out.w,
        .chs = p.out.c,
        .ch_step = 64,
        .work = (uint64_t)ek_shape_size(&y),
    };
    ek_emit(builder, op, &call);
}
