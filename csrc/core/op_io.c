/* SPDX-License-Identifier: Apache-2.0
 *
 * QUANTIZE and DEQUANTIZE: the caller's float32 or raw arrays, in the model's own layout, to and
 * from int8 tensors.
 */
#include "build.h"
#include "check.h"
#include "operator.h"

#include <float.h>

static int is_float_io(const ek_tensor_record *tensor)
{
    return tensor->region == EK_REGION_IO && tensor->dtype == EK_DTYPE_F32;
}

/* Dimension i of `to` is dimension perm[i] of `from`. */
static int is_permuted(const ek_model *model, const ek_tensor_record *from,
                       const ek_tensor_record *to, const uint8_t perm[EK_FORMAT_MAX_RANK])
{
    if (from->rank != to->rank || !ek_is_permutation(perm, to->rank))
        return 0;
    for (uint32_t i = 0; i < to->rank; i++)
        if (ek_dims(model, to)[i] != ek_dims(model, from)[perm[i]])
            return 0;
    return 1;
}

/* ---- QUANTIZE -------------------------------------------------------------------------------- */

static int has_no_table(const ek_quantize_record *p)
{
    uint32_t used = p->table_axis | p->raw_layout | p->table_count;
    for (uint32_t i = 0; i < EK_FORMAT_MAX_RANK; i++)
        used |= p->raw_perm[i];
    return used == 0 && p->table == EK_NO_INDEX && p->mean == EK_NO_INDEX && p->std == EK_NO_INDEX;
}

static int is_raw_table(const ek_model *model, const ek_quantize_record *p,
                        const ek_tensor_record *y)
{
    if (p->raw_dtype != EK_DTYPE_I8 && p->raw_dtype != EK_DTYPE_U8)
        return 0;
    if (!ek_is_permutation(p->raw_perm, y->rank) || (p->table_axis != 0 && p->table_axis >= y->rank))
        return 0;
    const uint32_t channels = p->table_axis < y->rank ? ek_dims(model, y)[p->table_axis] : 1;
    return (p->table_count == 1 || p->table_count == channels) &&
           ek_is_array(model, p->table, p->table_count, 256) &&
           ek_is_array(model, p->mean, p->table_count, sizeof(float)) &&
           ek_is_array(model, p->std, p->table_count, sizeof(float));
}

/* A named layout is that of an image, and tables by channel run along its channels. */
static int is_raw_layout(const ek_quantize_record *p, const ek_tensor_record *y)
{
    if (p->raw_layout == EK_RAW_LAYOUT_NONE)
        return 1;
    if (y->rank != 4 || (p->raw_layout != EK_RAW_LAYOUT_NCHW && p->raw_layout != EK_RAW_LAYOUT_NHWC))
        return 0;
    const uint8_t channels = p->raw_layout == EK_RAW_LAYOUT_NCHW ? 1 : 3;
    return p->table_count == 1 || p->raw_perm[p->table_axis] == channels;
}

/* Nothing here computes with mean and std; whoever does, from a checked file, can rely on them. */
static int is_normalization(const ek_model *model, const ek_quantize_record *p)
{
    const float *mean = ek_weights_at(model, p->mean), *std = ek_weights_at(model, p->std);
    for (uint32_t i = 0; i < p->table_count; i++)
        if (!(mean[i] >= -FLT_MAX && mean[i] <= FLT_MAX) || !ek_is_scale(std[i]))
            return 0;
    return 1;
}

static ek_status check_raw(const ek_model *model, const ek_quantize_record *p,
                           const ek_tensor_record *y)
{
    if (p->raw_dtype == 0)
        return has_no_table(p) ? EK_OK : EK_ERROR_OPERATOR;
    if (!EK_BUILD_RAW || !is_raw_table(model, p, y) || !is_raw_layout(p, y))
        return EK_ERROR_OPERATOR;
    return is_normalization(model, p) ? EK_OK : EK_ERROR_SCALE;
}

ek_status ek_check_quantize(const ek_op *op)
{
    const ek_quantize_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    /* The only reader of its input, so that a bound format has one meaning. */
    if (!is_float_io(x) || ek_io_at(op->model, x->offset)->output ||
        !ek_is_activation(op->model, y) || x->last_op != op->index || p->reserved != 0 ||
        !is_permuted(op->model, x, y, p->perm))
        return EK_ERROR_OPERATOR;
    return check_raw(op->model, p, y);
}

/* Strides, along y's dimensions, of an array whose dimension perm[i] is y's dimension i. */
static void permuted_strides(const ek_shape *y, const uint8_t *perm, int32_t *strides)
{
    int32_t dims[EK_MAX_RANK], stride = 1;
    for (int32_t i = 0; i < y->rank; i++)
        dims[perm[i]] = y->dims[i];
    int32_t by_dim[EK_MAX_RANK];
    for (int32_t i = y->rank; i-- > 0;) {
        by_dim[i] = stride;
        stride *= dims[i];
    }
    for (int32_t i = 0; i < y->rank; i++)
        strides[i] = by_dim[perm[i]];
}

/* The walk over contiguous `to`, whose dimension i is dimension perm[i] of the other array or the
 * other way round; merged where possible. */
static ek_quantize_params walk_of(const ek_shape *to, const int32_t *in_stride)
{
    ek_quantize_params p = {.rank = to->rank};
    int32_t out_stride[EK_MAX_RANK];
    for (int32_t i = 0; i < to->rank; i++) {
        p.dims[i] = to->dims[i];
        p.in_stride[i] = in_stride[i];
        out_stride[i] = to->strides[i];
    }
    int32_t *const strides[] = {p.in_stride, out_stride};
    p.rank = ek_collapse(p.rank, p.dims, strides, 2);
    for (int32_t i = p.rank; i < EK_MAX_RANK; i++)
        p.dims[i] = p.in_stride[i] = 0;
    return p;
}

static ek_call walk_call(const ek_op *op, ek_kernel_kind kind, const void *params,
                         size_t params_bytes, int32_t rows, const ek_shape *shape)
{
    return (ek_call){
        .kind = kind,
        .params = params,
        .params_bytes = params_bytes,
        .in = {ek_op_input(op, 0)},
        .rows = rows,
        .cols = 1,
        .chs = 1,
        .work = 2 * (uint64_t)ek_shape_size(shape),
    };
}

static void emit_quantize_float(ek_builder *builder, const ek_op *op, const ek_shape *y)
{
    const ek_quantize_record *r = ek_op_params(op);
    int32_t in_stride[EK_MAX_RANK];
    permuted_strides(y, r->perm, in_stride);
    ek_quantize_params p = walk_of(y, in_stride);
    p.scale = ek_scale(op->model, ek_op_output(op));
    p.clamp = ek_clamp_of(op->model, ek_op_output(op), INT8_MIN, INT8_MAX);
    ek_call call = walk_call(op, EK_KIND_QUANTIZE, &p, sizeof p, p.dims[0], y);
    call.only_if_bound = 1;
    call.format = EK_FORMAT_FLOAT;
    ek_emit(builder, op, &call);
}

static void emit_quantize_raw(ek_builder *builder, const ek_op *op, const ek_shape *y)
{
    const ek_quantize_record *r = ek_op_params(op);
    ek_raw_params p = {
        .rank = y->rank,
        .table_axis = r->table_axis,
        .table_stride = r->table_count == 1 ? 0 : 256,
        .flip = r->raw_dtype == EK_DTYPE_I8 ? 0x80 : 0,
        .table = ek_weights_at(op->model, r->table),
    };
    for (int32_t i = 0; i < y->rank; i++)
        p.dims[i] = y->dims[i];
    permuted_strides(y, r->raw_perm, p.in_stride);
    ek_call call = walk_call(op, EK_KIND_RAW, &p, sizeof p, p.dims[0], y);
    call.only_if_bound = 1;
    call.format = EK_FORMAT_RAW;
    ek_emit(builder, op, &call);
}

void ek_prepare_quantize(ek_builder *builder, const ek_op *op)
{
    const ek_quantize_record *r = ek_op_params(op);
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    emit_quantize_float(builder, op, &y);
    if (EK_BUILD_RAW && r->raw_dtype != 0)
        emit_quantize_raw(builder, op, &y);
}

/* ---- DEQUANTIZE ------------------------------------------------------------------------------ */

ek_status ek_check_dequantize(const ek_op *op)
{
    const ek_dequantize_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    return ek_is_activation(op->model, x) && is_float_io(y) && p->reserved == 0 &&
                   is_permuted(op->model, x, y, p->perm)
               ? EK_OK
               : EK_ERROR_OPERATOR;
}

void ek_prepare_dequantize(ek_builder *builder, const ek_op *op)
{
    const ek_dequantize_record *r = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0);
    const ek_shape y = ek_shape_of(op->model, ek_op_output(op));
    int32_t in_stride[EK_MAX_RANK];
    permuted_strides(&y, r->perm, in_stride);
    ek_quantize_params p = walk_of(&y, in_stride);
    p.scale = ek_scale(op->model, x);
    p.clamp = ek_clamp_of(op->model, x, INT8_MIN, INT8_MAX);
    const ek_call call = walk_call(op, EK_KIND_DEQUANTIZE, &p, sizeof p, p.dims[0], &y);
    ek_emit(builder, op, &call);
}
