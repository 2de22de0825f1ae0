/* SPDX-License-Identifier: Apache-2.0
 *
 * CONV2D, DEPTHWISE_CONV2D and DENSE: constant weights.
 */
#include "check.h"
#include "operator.h"

/* What the three have in common: activations, weights, int32 start and multipliers, clamp. */
static ek_status check_accumulate(const ek_op *op, uint32_t start, uint32_t multiplier,
                                  uint32_t channels, int32_t lo, int32_t hi)
{
    if (!ek_is_clamp(lo, hi))
        return EK_ERROR_OPERATOR;
    return ek_check_requantization(op->model, start, multiplier, channels);
}

static int has_tensor_types(const ek_op *op)
{
    return ek_is_activation(op->model, ek_op_input(op, 0)) &&
           ek_is_weight(op->model, ek_op_input(op, 1)) &&
           ek_is_activation(op->model, ek_op_output(op));
}

/* Without groups. */
static ek_conv_params conv_params(const ek_op *op, const ek_window *w, uint32_t start,
                                  uint32_t multiplier, int32_t lo, int32_t hi)
{
    const ek_model *model = op->model;
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    return (ek_conv_params){
        .in = ek_image_of_tensor(model, x),
        .out = ek_image_of_tensor(model, y),
        .kernel_h = (int32_t)w->kernel_h,
        .kernel_w = (int32_t)w->kernel_w,
        .stride_h = (int32_t)w->stride_h,
        .stride_w = (int32_t)w->stride_w,
        .dilation_h = (int32_t)w->dilation_h,
        .dilation_w = (int32_t)w->dilation_w,
        .pad_top = (int32_t)w->pad_top,
        .pad_left = (int32_t)w->pad_left,
        .groups = 1,
        .x_zero = ek_zero_point(model, x),
        .clamp = ek_clamp_of(model, y, lo, hi),
        .start = ek_weights_at(model, start),
        .multiplier = ek_weights_at(model, multiplier),
    };
}

/* ---- CONV2D ---------------------------------------------------------------------------------- */

ek_status ek_check_conv2d(const ek_op *op)
{
    const ek_conv2d_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *w = ek_op_input(op, 1);
    const ek_tensor_record *y = ek_op_output(op);
    if (!has_tensor_types(op) || x->rank != 4 || w->rank != 4 || y->rank != 4)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *wd = ek_dims(op->model, w);
    const uint32_t *yd = ek_dims(op->model, y);
    const ek_window window = EK_WINDOW(p, wd[1], wd[2]);
    if (p->groups == 0 || xd[3] % p->groups != 0 || yd[3] % p->groups != 0 || wd[0] != yd[3] ||
        wd[3] != xd[3] / p->groups || (uint64_t)wd[1] * wd[2] * wd[3] > EK_FORMAT_MAX_DEPTH ||
        !ek_window_fits(&window, xd, yd, 0))
        return EK_ERROR_OPERATOR;
    return check_accumulate(op, p->start, p->multiplier, yd[3], p->lo, p->hi);
}

/* A 1x1 convolution sees no rows: one long row lets kernels fill their tiles. */
static void flatten_pointwise(ek_conv_params *p)
{
    if (p->kernel_h != 1 || p->kernel_w != 1 || p->stride_h != 1 || p->stride_w != 1 ||
        p->in.h != p->out.h || p->in.w != p->out.w || p->pad_top != 0 || p->pad_left != 0)
        return;
    const int32_t pixels = p->in.n * p->in.h * p->in.w;
    p->in = (ek_image){1, 1, pixels, p->in.c, pixels * p->in.c, pixels * p->in.c, p->in.c};
    p->out = (ek_image){1, 1, pixels, p->out.c, pixels * p->out.c, pixels * p->out.c, p->out.c};
}

void ek_prepare_conv2d(ek_builder *builder, const ek_op *op)
{
    const ek_conv2d_record *r = ek_op_params(op);
    const ek_tensor_record *w = ek_op_input(op, 1);
    const uint32_t *wd = ek_dims(op->model, w);
    const ek_window window = EK_WINDOW(r, wd[1], wd[2]);
    ek_conv_params p = conv_params(op, &window, r->start, r->multiplier, r->lo, r->hi);
    p.groups = (int32_t)r->groups;
    flatten_pointwise(&p);
    ek_emit_conv(builder, op, EK_KIND_CONV2D, &p, ek_op_input(op, 0), w);
}

/* ---- DEPTHWISE_CONV2D ------------------------------------------------------------------------ */

ek_status ek_check_depthwise_conv2d(const ek_op *op)
{
    const ek_depthwise_conv2d_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *w = ek_op_input(op, 1);
    const ek_tensor_record *y = ek_op_output(op);
    if (!has_tensor_types(op) || x->rank != 4 || w->rank != 3 || y->rank != 4 ||
        w->encoding == EK_ENCODING_INTERLEAVED || w->encoding == EK_ENCODING_PAIRED)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *wd = ek_dims(op->model, w);
    const uint32_t *yd = ek_dims(op->model, y);
    const ek_window window = EK_WINDOW(p, wd[0], wd[1]);
    if (yd[3] % xd[3] != 0 || wd[2] != yd[3] || (uint64_t)wd[0] * wd[1] > EK_FORMAT_MAX_DEPTH ||
        !ek_window_fits(&window, xd, yd, 0))
        return EK_ERROR_OPERATOR;
    return check_accumulate(op, p->start, p->multiplier, yd[3], p->lo, p->hi);
}

void ek_prepare_depthwise_conv2d(ek_builder *builder, const ek_op *op)
{
    const ek_depthwise_conv2d_record *r = ek_op_params(op);
    const ek_tensor_record *w = ek_op_input(op, 1);
    const uint32_t *wd = ek_dims(op->model, w);
    const ek_window window = EK_WINDOW(r, wd[0], wd[1]);
    ek_conv_params p = conv_params(op, &window, r->start, r->multiplier, r->lo, r->hi);
    ek_emit_conv(builder, op, EK_KIND_DEPTHWISE, &p, ek_op_input(op, 0), w);
}

/* ---- DENSE ----------------------------------------------------------------------------------- */

ek_status ek_check_dense(const ek_op *op)
{
    const ek_dense_record *p = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *w = ek_op_input(op, 1);
    const ek_tensor_record *y = ek_op_output(op);
    if (!has_tensor_types(op) || x->rank == 0 || w->rank != 2 || y->rank != x->rank)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *wd = ek_dims(op->model, w);
    const uint32_t *yd = ek_dims(op->model, y);
    const uint32_t last = x->rank - 1u;
    for (uint32_t i = 0; i < last; i++)
        if (xd[i] != yd[i])
            return EK_ERROR_OPERATOR;
    if (wd[0] != yd[last] || wd[1] != xd[last] || wd[1] > EK_FORMAT_MAX_DEPTH)
        return EK_ERROR_OPERATOR;
    return check_accumulate(op, p->start, p->multiplier, wd[0], p->lo, p->hi);
}

void ek_prepare_dense(ek_builder *builder, const ek_op *op)
{
    const ek_model *model = op->model;
    const ek_dense_record *r = ek_op_params(op);
    const ek_tensor_record *x = ek_op_input(op, 0), *w = ek_op_input(op, 1);
    const int32_t o = (int32_t)ek_dims(model, w)[0], k = (int32_t)ek_dims(model, w)[1];
    const int32_t rows = (int32_t)ek_elements(model, x) / k;
    ek_conv_params p = {
        .in = {1, 1, rows, k, rows * k, rows * k, k},
        .out = {1, 1, rows, o, rows * o, rows * o, o},
        .kernel_h = 1,
        .kernel_w = 1,
        .stride_h = 1,
        .stride_w = 1,
        .dilation_h = 1,
        .dilation_w = 1,
        .groups = 1,
        .x_zero = ek_zero_point(model, x),
        .clamp = ek_clamp_of(model, ek_op_output(op), r->lo, r->hi),
        .start = ek_weights_at(model, r->start),
        .multiplier = ek_weights_at(model, r->multiplier),
    };
    ek_emit_conv(builder, op, EK_KIND_CONV2D, &p, x, w);
}
