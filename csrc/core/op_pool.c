/* SPDX-License-Identifier: Apache-2.0
 *
 * MAX_POOL and AVERAGE_POOL.
 */
#include "check.h"
#include "operator.h"

/* Types, ranks and the window; ceil mode shows in the output's shape alone. */
static ek_status check_pool(const ek_op *op, const ek_window *window)
{
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    if (!ek_is_activation(op->model, x) || !ek_is_activation(op->model, y) || x->rank != 4 ||
        y->rank != 4)
        return EK_ERROR_OPERATOR;
    const uint32_t *xd = ek_dims(op->model, x), *yd = ek_dims(op->model, y);
    if (xd[3] != yd[3] || window->kernel_h * window->kernel_w > EK_FORMAT_MAX_POOL_POSITIONS ||
        !ek_window_fits(window, xd, yd, 1) || !ek_window_never_empty(window, xd, yd))
        return EK_ERROR_OPERATOR;
    return EK_OK;
}

static void emit_pool(ek_builder *builder, const ek_op *op, ek_kernel_kind kind,
                      const ek_pool_params *p)
{
    const uint64_t outputs = (uint64_t)p->out.n * (uint64_t)p->out.n_stride;
    const ek_call call = {
        .kind = kind,
        .params = p,
        .params_bytes = sizeof *p,
        .in = {ek_op_input(op, 0)},
        .rows = p->out.n * p->out.h,
        .cols = p->out.w,
        .chs = p->out.c,
        .ch_step = 64,
        .work = outputs * (uint64_t)p->kernel_h * (uint64_t)p->kernel_w,
    };
    ek_emit(builder, op, &call);
}

static ek_pool_params pool_params(const ek_op *op, const ek_window *w)
{
    const ek_model *model = op->model;
    const ek_tensor_record *x = ek_op_input(op, 0), *y = ek_op_output(op);
    return (ek_pool_params){
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
        .pad_bottom = (int32_t)w->pad_bottom,
        .pad_right = (int32_t)w->pad_right,
        .x_zero = ek_zero_point(model, x),
        .x_scale = ek_scale(model, x),
        .y_scale = ek_scale(model, y),
        .clamp = ek_clamp_of(model, y, INT8_MIN, INT8_MAX),
    };
}

ek_status ek_check_max_pool(const ek_op *op)
{
    const ek_max_pool_record *p = ek_op_params(op);
    const ek_window window = EK_WINDOW(p, p->kernel_h, p->kernel_w);
    const ek_status status = check_pool(op, &window);
    if (status != EK_OK)
        return status;
    return ek_same_quant(op->model, ek_op_input(op, 0), ek_op_output(op)) ? EK_OK
                                                                          : EK_ERROR_OPERATOR;
}

void ek_prepare_max_pool(ek_builder *builder, const ek_op *op)
{
    const ek_max_pool_record *r = ek_op_params(op);
    const ek_window window = EK_WINDOW(r, r->kernel_h, r->kernel_w);
    const ek_pool_params p = pool_params(op, &window);
    emit_pool(builder, op, EK_KIND_MAX_POOL, &p);
}

ek_status ek_check_average_pool(const ek_op *op)
{
    const ek_average_pool_record *p = ek_op_params(op);
    const ek_window window = EK_WINDOW(p, p->kernel_h, p->kernel_w);
    const ek_status status = check_pool(op, &window);
    if (status != EK_OK)
        return status;
    if (p->count_include_pad > 1 || !ek_is_clamp(p->lo, p->hi))
        return EK_ERROR_OPERATOR;
    /* The multipliers of a window with one position and of a full one bound all others. */
    const float x_scale = ek_scale(op->model, ek_op_input(op, 0));
    const float y_scale = ek_scale(op->model, ek_op_output(op));
    const float positions = (float)(window.kernel_h * window.kernel_w);
    if (!ek_is_scale(x_scale / y_scale) || !ek_is_scale(x_scale / (y_scale * positions)))
        return EK_ERROR_SCALE;
    return EK_OK;
}

void ek_prepare_average_pool(ek_builder *builder, const ek_op *op)
{
    const ek_average_pool_record *r = ek_op_params(op);
    const ek_window window = EK_WINDOW(r, r->kernel_h, r->kernel_w);
    ek_pool_params p = pool_params(op, &window);
    p.count_include_pad = (int32_t)r->count_include_pad;
    p.clamp = ek_clamp_of(op->model, ek_op_output(op), r->lo, r->hi);
    emit_pool(builder, op, EK_KIND_AVERAGE_POOL, &p);
}
