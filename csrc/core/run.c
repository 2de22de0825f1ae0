/* SPDX-License-Identifier: Apache-2.0
 *
 * Inputs and outputs, and ek_run: a walk over the prepared steps.
 */
#include "instance.h"
#include "arithmetic.h"
#include "build.h"

#include <string.h>

/* ---- Inputs and outputs ---------------------------------------------------------------------- */

uint32_t ek_input_count(const ek_model *model)
{
    return model == NULL ? 0 : model->input_count;
}

uint32_t ek_output_count(const ek_model *model)
{
    return model == NULL ? 0 : model->output_count;
}

/* The QUANTIZE that reads the tensor or the DEQUANTIZE that writes it; record is null if none. */
static ek_op find_conversion(const ek_model *model, const ek_tensor_record *tensor)
{
    ek_op op = ek_op_first(model);
    for (; op.index < model->op_count; op = ek_op_next(op)) {
        const uint8_t opcode = op.record->opcode;
        if ((opcode == EK_OPCODE_QUANTIZE && ek_op_input(&op, 0) == tensor) ||
            (opcode == EK_OPCODE_DEQUANTIZE && ek_op_output(&op) == tensor))
            return op;
    }
    return (ek_op){model, NULL, 0};
}

static const ek_quantize_record *raw_input(const ek_op *op)
{
    if (!EK_BUILD_RAW || op->record == NULL || op->record->opcode != EK_OPCODE_QUANTIZE)
        return NULL;
    const ek_quantize_record *r = ek_op_params(op);
    return r->raw_dtype == 0 ? NULL : r;
}

static void describe_raw(const ek_op *op, ek_io_info *info)
{
    const ek_quantize_record *r = raw_input(op);
    if (r == NULL)
        return;
    const uint32_t *dims = ek_dims(op->model, ek_op_output(op));
    info->raw_dtype = r->raw_dtype == EK_DTYPE_I8 ? 1 : 2;
    for (int32_t i = 0; i < info->rank; i++)
        info->raw_dims[r->raw_perm[i]] = (int32_t)dims[i];
}

static void describe(const ek_model *model, uint32_t io, ek_io_info *info)
{
    const ek_io_record *record = ek_io_at(model, io);
    const ek_tensor_record *tensor = ek_tensor_at(model, record->tensor);
    const ek_tensor_record *quantized = tensor;
    memset(info, 0, sizeof *info);
    info->name = (const char *)ek_section_at(model, EK_SECTION_STRINGS).data + record->name;
    info->elements = ek_elements(model, tensor);
    info->rank = tensor->rank;
    info->format = tensor->dtype == EK_DTYPE_F32 ? EK_FORMAT_FLOAT : EK_FORMAT_INT8;
    for (uint32_t i = 0; i < tensor->rank; i++)
        info->dims[i] = (int32_t)ek_dims(model, tensor)[i];
    if (info->format == EK_FORMAT_FLOAT) {
        const ek_op op = find_conversion(model, tensor);
        if (op.record == NULL) /* an input that nothing reads */
            return;
        quantized = record->output ? ek_op_input(&op, 0) : ek_op_output(&op);
        describe_raw(&op, info);
    }
    info->scale = ek_quant(model, quantized)->scale;
    info->zero_point = ek_quant(model, quantized)->zero_point;
}

ek_status ek_input_info(const ek_model *model, uint32_t index, ek_io_info *info)
{
    if (model == NULL || info == NULL || index >= model->input_count)
        return EK_ERROR_ARGUMENT;
    describe(model, index, info);
    return EK_OK;
}

ek_status ek_output_info(const ek_model *model, uint32_t index, ek_io_info *info)
{
    if (model == NULL || info == NULL || index >= model->output_count)
        return EK_ERROR_ARGUMENT;
    describe(model, model->input_count + index, info);
    return EK_OK;
}

static int has_format(const ek_model *model, const ek_tensor_record *tensor, ek_format format)
{
    switch (format) {
    case EK_FORMAT_FLOAT: return tensor->dtype == EK_DTYPE_F32;
    case EK_FORMAT_INT8: return tensor->dtype == EK_DTYPE_I8;
    case EK_FORMAT_RAW: {
        const ek_op op = find_conversion(model, tensor);
        return raw_input(&op) != NULL;
    }
    }
    return 0;
}

static ek_status bind(ek_instance *instance, uint32_t port, const void *data, size_t bytes,
                      ek_format format)
{
    const ek_model *model = &instance->model;
    const ek_tensor_record *tensor = ek_tensor_at(model, ek_io_at(model, port)->tensor);
    if (data == NULL || !has_format(model, tensor, format))
        return EK_ERROR_ARGUMENT;
    if (bytes != (format == EK_FORMAT_RAW ? ek_elements(model, tensor) : tensor->bytes))
        return EK_ERROR_SIZE;
    if (format == EK_FORMAT_FLOAT && (uintptr_t)data % sizeof(float) != 0)
        return EK_ERROR_ALIGNMENT;
    /* The steps of a checked file write outputs only. */
    instance->bound[port] = (uint8_t *)(uintptr_t)data;
    instance->formats[port] = (uint8_t)format;
    instance->linked = 0;
    return EK_OK;
}

ek_status ek_bind_input(ek_instance *instance, uint32_t index, const void *data, size_t bytes,
                        ek_format format)
{
    if (instance == NULL || index >= instance->model.input_count)
        return EK_ERROR_ARGUMENT;
    return bind(instance, index, data, bytes, format);
}

ek_status ek_bind_output(ek_instance *instance, uint32_t index, void *data, size_t bytes,
                         ek_format format)
{
    if (instance == NULL || index >= instance->model.output_count)
        return EK_ERROR_ARGUMENT;
    return bind(instance, instance->model.input_count + index, data, bytes, format);
}

static uintptr_t bound_begin(const ek_instance *instance, uint32_t port)
{
    return (uintptr_t)instance->bound[port];
}

static uintptr_t bound_end(const ek_instance *instance, uint32_t port)
{
    const ek_model *model = &instance->model;
    const ek_tensor_record *tensor = ek_tensor_at(model, ek_io_at(model, port)->tensor);
    const size_t bytes =
        instance->formats[port] == EK_FORMAT_RAW ? ek_elements(model, tensor) : tensor->bytes;
    return bound_begin(instance, port) + bytes;
}

/* Everything is bound, and no output shares memory with another buffer: kernels that read what
 * they have overwritten could be led out of their tables. */
static ek_status check_bindings(const ek_instance *instance)
{
    for (uint32_t i = 0; i < instance->port_count; i++)
        if (bound_begin(instance, i) == 0)
            return EK_ERROR_UNBOUND;
    for (uint32_t out = instance->model.input_count; out < instance->port_count; out++)
        for (uint32_t i = 0; i < out; i++)
            if (bound_begin(instance, i) < bound_end(instance, out) &&
                bound_begin(instance, out) < bound_end(instance, i))
                return EK_ERROR_ARGUMENT;
    return EK_OK;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

/* Constants in builds without decoding and threads. */
static int is_tiled(const ek_step *step)
{
    return EK_BUILD_DECODING && step->tiled;
}

static int is_cut(const ek_step *step)
{
    return EK_BUILD_THREADS && step->cut;
}

static int is_whole(const ek_step *step)
{
    return !is_cut(step) && !is_tiled(step);
}

static ek_step_mode mode_of(const ek_instance *instance, const ek_step *step)
{
    if (step->kernel == NULL ||
        (step->format != EK_ANY_FORMAT && instance->formats[step->in_port[0]] != step->format))
        return EK_STEP_NOTHING;
    return is_whole(step) ? EK_STEP_CALL : EK_STEP_PARTS;
}

/* Gives every step the buffers that are bound now. */
static void link_steps(ek_instance *instance)
{
    ek_step *step = instance->steps;
    for (; step != instance->steps_end; step = (ek_step *)ek_step_next(step)) {
        for (int i = 0; i < 2; i++)
            if (step->in_port[i] != EK_NO_PORT)
                step->in[i] = instance->bound[step->in_port[i]];
        if (step->out_port != EK_NO_PORT)
            step->out = instance->bound[step->out_port];
        step->mode = (uint8_t)mode_of(instance, step);
    }
}

static ek_range part_range(const ek_step *step, uint32_t part)
{
    const ek_range *whole = &step->whole;
    const ek_cut *cut = ek_step_cut(step);
    const uint32_t chs = (uint32_t)ek_ceil_div32(whole->ch_end, cut->ch_size);
    const uint32_t cols = (uint32_t)ek_ceil_div32(whole->col_end, cut->col_size);
    ek_range range;
    range.ch = (int32_t)(part % chs) * cut->ch_size;
    range.col = (int32_t)(part / chs % cols) * cut->col_size;
    range.row = (int32_t)(part / chs / cols) * cut->row_size;
    range.ch_end = range.ch + ek_min32(cut->ch_size, whole->ch_end - range.ch);
    range.col_end = range.col + ek_min32(cut->col_size, whole->col_end - range.col);
    range.row_end = range.row + ek_min32(cut->row_size, whole->row_end - range.row);
    return range;
}

/* Decodes the tile's weights into scratch and computes it. */
static void run_tile(const ek_step *step, int32_t index, ek_range range, uint8_t *scratch)
{
    const ek_conv_params *params = ek_step_params(step);
    const ek_tiles *tiles = ek_step_tiles(step);
    ek_tile_call call = ek_tile(params, tiles, index);
    const int32_t count = call.params.out.c;
    if (tiles->multiplier != 0)
        ek_unpack_depthwise(&tiles->stored, params->out.c, call.out_channel, count,
                            (int8_t *)scratch);
    else
        ek_unpack_rows(&tiles->stored, call.out_channel, count, params->weights.tile_n,
                       params->weights.tile_k, (int8_t *)scratch);
    call.params.weights.data = (const int8_t *)scratch;
    range.ch = 0;
    range.ch_end = count;
    const void *in[] = {(const int8_t *)step->in[0] + call.in_channel};
    step->kernel->run(&call.params, in, (int8_t *)step->out + call.out_channel,
                      scratch + tiles->decoded_bytes, &range);
}

static void run_range(const ek_step *step, const ek_range *range, uint8_t *scratch)
{
    if (!is_tiled(step)) {
        step->kernel->run(ek_step_params(step), step->in, step->out, scratch, range);
        return;
    }
    for (int32_t tile = range->ch; tile < range->ch_end; tile++)
        run_tile(step, tile, *range, scratch);
}

typedef struct parallel_step {
    const ek_instance *instance;
    const ek_step *step;
} parallel_step;

static void run_part(void *argument, uint32_t part, uint32_t thread)
{
    const parallel_step *parallel = argument;
    const ek_instance *instance = parallel->instance;
    const ek_range range = part_range(parallel->step, part);
    run_range(parallel->step, &range, instance->scratch + thread * instance->scratch_bytes);
}

static void run_parts(const ek_instance *instance, const ek_step *step)
{
    if (!is_cut(step)) {
        run_range(step, &step->whole, instance->scratch);
        return;
    }
    parallel_step parallel = {instance, step};
    instance->config.parallel_for(instance->config.parallel_context, run_part, &parallel,
                                  ek_step_cut(step)->parts);
}

static inline void run_step(const ek_instance *instance, const ek_step *step)
{
    if (step->mode == EK_STEP_CALL)
        step->kernel->run(ek_step_params(step), step->in, step->out, instance->scratch,
                          &step->whole);
    else if (step->mode == EK_STEP_PARTS)
        run_parts(instance, step);
}

static void run_steps(const ek_instance *instance, const ek_step *step, const ek_step *end)
{
    for (; step != end; step = ek_step_next(step))
        run_step(instance, step);
}

/* ---- Steps, reported to on_op ---------------------------------------------------------------- */

/* `shown` is the step whose kernel is named; null: none. */
static void tell(const ek_instance *instance, const ek_step *step, const ek_step *shown,
                 uint8_t done)
{
    const ek_op_event event = {
        .op = step->op,
        .tensor = step->tensor,
        .opcode = step->opcode,
        .done = done,
        .chosen = EK_BUILD_CHOICES && shown != NULL && shown->chosen,
        .kernel = shown == NULL ? "none" : shown->kernel->name,
        .data = step->out,
        .bytes = ek_tensor_at(&instance->model, step->tensor)->bytes,
    };
    instance->config.on_op(instance->config.on_op_context, &event);
}

/* The steps of one operator; returns the step behind them. */
static const ek_step *run_reported_op(const ek_instance *instance, const ek_step *step)
{
    const ek_step *shown = NULL; /* the last active one so far */
    int told = 0;
    for (;; step = ek_step_next(step)) {
        const int active = step->mode != EK_STEP_NOTHING;
        if (active)
            shown = step;
        if (!told && (active || step->last)) {
            tell(instance, step, shown, 0);
            told = 1;
        }
        run_step(instance, step);
        if (step->last)
            break;
    }
    tell(instance, step, shown, 1);
    return ek_step_next(step);
}

/* `step` and `end` are each the first of an operator, or behind the last. */
static void run_reported_steps(const ek_instance *instance, const ek_step *step, const ek_step *end)
{
    while (step != end)
        step = run_reported_op(instance, step);
}

/* ---- ek_run and ek_run_ops ------------------------------------------------------------------- */

static ek_status link(ek_instance *instance)
{
    const ek_status status = check_bindings(instance);
    if (status != EK_OK)
        return status;
    link_steps(instance);
    instance->linked = 1;
    return EK_OK;
}

static ek_status run_between(ek_instance *instance, const ek_step *step, const ek_step *end)
{
    if (!instance->linked) {
        const ek_status status = link(instance);
        if (status != EK_OK)
            return status;
    }
    if (instance->config.on_op == NULL)
        run_steps(instance, step, end);
    else
        run_reported_steps(instance, step, end);
    return EK_OK;
}

ek_status ek_run(ek_instance *instance)
{
    if (instance == NULL)
        return EK_ERROR_ARGUMENT;
    return run_between(instance, instance->steps, instance->steps_end);
}

/* From `step` on, the first one of operator `op` or of one behind it. */
static const ek_step *skip_to(const ek_instance *instance, const ek_step *step, uint32_t op)
{
    while (step != instance->steps_end && step->op < op)
        step = ek_step_next(step);
    return step;
}

ek_status ek_run_ops(ek_instance *instance, uint32_t first, uint32_t end)
{
    if (instance == NULL || first > end)
        return EK_ERROR_ARGUMENT;
    const ek_step *step = skip_to(instance, instance->steps, first);
    return run_between(instance, step, skip_to(instance, step, end));
}

size_t ek_state_bytes(const ek_model *model)
{
    return model == NULL || model->op_count == 0 ? 0 : (size_t)ek_header(model)->state_bytes;
}

void ek_reset(ek_instance *instance)
{
    if (instance == NULL)
        return;
    const ek_section state = ek_section_at(&instance->model, EK_SECTION_STATE);
    if (state.size != 0)
        memcpy(instance->state, state.data, state.size);
}
