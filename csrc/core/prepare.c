/* SPDX-License-Identifier: Apache-2.0
 *
 * ek_memory_needed, ek_scratch_needed and ek_create: choice of kernels, their parameters, and the
 * layout of an instance's memory.
 */
#include "prepare.h"
#include "arithmetic.h"
#include "build.h"
#include "instance.h"
#include "operator.h"
#include "split.h"

#include <string.h>

/* Scratch for a tile of decoded weights, unless one tile of the kernel's packing needs more. */
#define SMALL_TILE_BYTES 6144u
#define VECTOR_TILE_BYTES 32768u
#define SETS_WITH_LITTLE_MEMORY \
    (EK_KERNELS_SCALAR | EK_KERNELS_CORTEXM_V6M | EK_KERNELS_CORTEXM_DSP | EK_KERNELS_CORTEXM_MVE)

/* ---- Shapes ---------------------------------------------------------------------------------- */

ek_shape ek_shape_of(const ek_model *model, const ek_tensor_record *tensor)
{
    const uint32_t *dims = ek_dims(model, tensor);
    ek_shape shape = {.rank = tensor->rank == 0 ? 1 : tensor->rank};
    int32_t stride = 1;
    for (int32_t i = shape.rank; i-- > 0;) {
        shape.dims[i] = tensor->rank == 0 ? 1 : (int32_t)dims[i];
        shape.strides[i] = stride;
        stride *= shape.dims[i];
    }
    return shape;
}

int32_t ek_shape_size(const ek_shape *shape)
{
    return shape->dims[0] * shape->strides[0];
}

int32_t ek_shape_rows(const ek_shape *shape)
{
    return ek_shape_size(shape) / shape->dims[shape->rank - 1];
}

ek_image ek_image_of(const ek_shape *s)
{
    return (ek_image){s->dims[0],    s->dims[1],    s->dims[2],   s->dims[3],
                      s->strides[0], s->strides[1], s->strides[2]};
}

ek_image ek_image_of_tensor(const ek_model *model, const ek_tensor_record *tensor)
{
    const ek_shape shape = ek_shape_of(model, tensor);
    return ek_image_of(&shape);
}

int32_t ek_zero_point(const ek_model *model, const ek_tensor_record *tensor)
{
    return ek_quant(model, tensor)->zero_point;
}

float ek_scale(const ek_model *model, const ek_tensor_record *tensor)
{
    return ek_quant(model, tensor)->scale;
}

ek_clamp ek_clamp_of(const ek_model *model, const ek_tensor_record *y, int32_t lo, int32_t hi)
{
    return (ek_clamp){ek_zero_point(model, y), lo, hi};
}

static int merges(int32_t outer, int32_t inner, const int32_t *dims, int32_t *const strides[],
                  int32_t count)
{
    for (int32_t s = 0; s < count; s++)
        if ((int64_t)strides[s][inner] * dims[inner] != strides[s][outer])
            return 0;
    return 1;
}

int32_t ek_collapse(int32_t rank, int32_t *dims, int32_t *const strides[], int32_t count)
{
    int32_t kept = 0;
    for (int32_t d = 0; d < rank; d++) {
        if (dims[d] == 1)
            continue;
        /* Dimension d becomes number `kept`, or the inner part of the one before. */
        const int merge = kept > 0 && merges(kept - 1, d, dims, strides, count);
        const int32_t to = merge ? kept - 1 : kept;
        dims[to] = merge ? dims[to] * dims[d] : dims[d];
        for (int32_t s = 0; s < count; s++)
            strides[s][to] = strides[s][d];
        kept = to + 1;
    }
    if (kept > 0)
        return kept;
    dims[0] = 1;
    for (int32_t s = 0; s < count; s++)
        strides[s][0] = 1;
    return 1;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

/* The tensor's first element; null for inputs and outputs, which ek_run takes from what is bound. */
static uint8_t *address_of(const ek_builder *builder, const ek_tensor_record *tensor)
{
    switch (tensor->region) {
    case EK_REGION_IO: return NULL;
    case EK_REGION_STATE: return builder->state + tensor->offset;
    /* Never written: no output is READONLY. */
    case EK_REGION_READONLY: return (uint8_t *)ek_weights_at(builder->model, tensor->offset);
    default: return builder->arena + tensor->offset;
    }
}

static uint16_t port_of(const ek_tensor_record *tensor)
{
    return tensor->region == EK_REGION_IO ? (uint16_t)tensor->offset : EK_NO_PORT;
}

static void count_scratch(ek_builder *builder, uint64_t bytes)
{
    if (bytes > builder->scratch_bytes)
        builder->scratch_bytes = bytes;
}

/* Parameters, with tiles and a cut, take a few hundred bytes. */
_Static_assert(sizeof(ek_step) + sizeof(ek_conv_params) + sizeof(ek_tiles) + sizeof(ek_cut) < 1024,
               "ek_step.bytes holds the size of a step");

/* Room for a step, its parameters and what stands behind them; null while measuring. */
static ek_step *append(ek_builder *builder, const ek_op *op, size_t params_bytes, size_t more_bytes)
{
    const size_t params_room = (size_t)ek_align_up(params_bytes, _Alignof(ek_step));
    const size_t bytes =
        (size_t)ek_align_up(sizeof(ek_step) + params_room + more_bytes, _Alignof(ek_step));
    const uint64_t at = builder->steps_bytes;
    builder->steps_bytes += bytes;
    builder->step_count++;
    if (builder->steps == NULL)
        return NULL;
    ek_step *step = (void *)(builder->steps + at);
    memset(step, 0, bytes);
    step->bytes = (uint16_t)bytes;
    step->params_bytes = (uint16_t)params_room;
    step->op = (uint16_t)op->index;
    step->tensor = (uint16_t)ek_tensor_index(op->model, ek_op_output(op));
    step->opcode = op->record->opcode;
    step->in_port[0] = step->in_port[1] = EK_NO_PORT;
    step->out = address_of(builder, ek_op_output(op));
    step->out_port = port_of(ek_op_output(op));
    builder->last_step = step;
    return step;
}

static void set_input(const ek_builder *builder, ek_step *step, int i,
                      const ek_tensor_record *tensor)
{
    step->in[i] = address_of(builder, tensor);
    step->in_port[i] = port_of(tensor);
}

static void append_call(ek_builder *builder, const ek_op *op, const ek_kernel *kernel,
                        const ek_call *call, const ek_tiles *tiles)
{
    const int threads = EK_BUILD_THREADS && builder->threads > 1;
    ek_step *step = append(builder, op, call->params_bytes,
                           (tiles == NULL ? 0 : sizeof *tiles) + (threads ? sizeof(ek_cut) : 0));
    if (step == NULL)
        return;
    step->kernel = kernel;
    memcpy(step + 1, call->params, call->params_bytes);
    set_input(builder, step, 0, call->in[0]);
    set_input(builder, step, 1, call->in[1] == NULL ? call->in[0] : call->in[1]);
    step->format = (uint8_t)(call->only_if_bound ? call->format : EK_ANY_FORMAT);
    step->whole = (ek_range){0, call->rows, 0, call->cols, 0, call->chs};
    if (tiles != NULL) {
        step->tiled = 1;
        memcpy((uint8_t *)(step + 1) + step->params_bytes, tiles, sizeof *tiles);
        step->whole.ch_end = call->chs / tiles->group_channels * tiles->per_group;
    }
    if (threads) {
        const ek_cut cut =
            ek_split(step, builder->threads, call->work, tiles == NULL ? call->ch_step : 1);
        step->cut = cut.parts > 1;
        memcpy((uint8_t *)step + step->bytes - sizeof cut, &cut, sizeof cut);
    }
}

static uint64_t kernel_scratch(const ek_kernel *kernel, const void *params)
{
    return kernel->scratch == NULL ? 0 : ek_align_up(kernel->scratch(params), EK_ALIGN);
}

static int supports(const ek_kernel *kernel, const void *params)
{
    return kernel->supports == NULL || kernel->supports(params);
}

/* Who asks for a kernel: the runtime goes by the kernels' own estimates, a file has measured. */
typedef enum asking { BY_ESTIMATE, BY_FILE } asking;

static int takes(const ek_kernel *kernel, const void *params, asking by)
{
    return supports(kernel, params) &&
           (by == BY_FILE || kernel->pays == NULL || kernel->pays(params));
}

/* Kernels of a kind that may be used, best first: the first one behind `previous` (null: of all), or
 * null. */
static const ek_kernel *next_kernel(const ek_builder *builder, ek_kernel_kind kind,
                                    const ek_kernel *previous)
{
    size_t count;
    const ek_kernel *list = ek_kernel_list(&count);
    for (const ek_kernel *k = previous == NULL ? list : previous + 1; k < list + count; k++)
        if (k->kind == kind && (k->set & builder->kernels) != 0)
            return k;
    return NULL;
}

/* ---- Kernels that the file wants ------------------------------------------------------------- */

/* As memcmp, of a name in a choice_record and a kernel's; both end where zeros begin. */
static int compare_name(const uint8_t stored[EK_FORMAT_KERNEL_NAME_BYTES], const char *name)
{
    for (uint32_t i = 0; i < EK_FORMAT_KERNEL_NAME_BYTES; i++) {
        const uint8_t c = (uint8_t)*name;
        if (stored[i] != c)
            return stored[i] < c ? -1 : 1;
        name += c != 0;
    }
    return *name == 0 ? 0 : -1;
}

/* What the file says of this kernel for this operator, or null. check.c has checked the order. */
static const ek_choice_record *find_choice(const ek_op *op, const ek_kernel *kernel)
{
    const ek_section section = ek_section_at(op->model, EK_SECTION_CHOICES);
    const ek_choice_record *choices = (const void *)section.data;
    uint32_t first = 0, end = section.size / (uint32_t)sizeof *choices;
    while (first < end) {
        const uint32_t middle = first + (end - first) / 2;
        const ek_choice_record *choice = &choices[middle];
        const int order = choice->op != op->index ? (choice->op < op->index ? -1 : 1)
                                                  : compare_name(choice->instead_of, kernel->name);
        if (order == 0)
            return choice;
        if (order < 0)
            first = middle + 1;
        else
            end = middle;
    }
    return NULL;
}

/* The kernel that the file wants in place of this one, which computes the operator, if it may be
 * used; else null. Whether it computes the operator, too, is still to be asked. */
static const ek_kernel *wanted_instead(const ek_builder *builder, const ek_op *op,
                                       const ek_kernel *kernel)
{
    const ek_choice_record *choice = EK_BUILD_CHOICES ? find_choice(op, kernel) : NULL;
    if (choice == NULL)
        return NULL;
    const ek_kernel *k = next_kernel(builder, kernel->kind, NULL);
    while (k != NULL && compare_name(choice->kernel, k->name) != 0)
        k = next_kernel(builder, kernel->kind, k);
    return k;
}

static void mark_chosen(ek_builder *builder, int chosen)
{
    if (EK_BUILD_CHOICES && builder->steps != NULL)
        builder->last_step->chosen = (uint8_t)chosen;
}

void ek_emit(ek_builder *builder, const ek_op *op, const ek_call *call)
{
    const ek_kernel *kernel = next_kernel(builder, call->kind, NULL);
    while (kernel != NULL && !takes(kernel, call->params, BY_ESTIMATE))
        kernel = next_kernel(builder, call->kind, kernel);
    if (kernel == NULL) {
        builder->failed = 1;
        return;
    }
    const ek_kernel *wanted = wanted_instead(builder, op, kernel);
    const int chosen = wanted != NULL && takes(wanted, call->params, BY_FILE);
    if (chosen)
        kernel = wanted;
    count_scratch(builder, kernel_scratch(kernel, call->params));
    append_call(builder, op, kernel, call, NULL);
    mark_chosen(builder, chosen);
}

void ek_emit_nothing(ek_builder *builder, const ek_op *op)
{
    append(builder, op, 0, 0);
}

/* ---- Convolutions and their weights ---------------------------------------------------------- */

/* A kernel may read another packing than its own; with fewer positions than this to compute, that is
 * faster than decoding the weights into its own first. */
#define FEW_POSITIONS 4

/* The stored bytes as kernels see weights; 0 if they cannot. */
static int as_stored(const ek_stored_weights *stored, const ek_conv_params *p, ek_weights *weights)
{
    *weights = (ek_weights){(const int8_t *)stored->data, stored->tile_n, stored->tile_k, 0};
    if (stored->encoding == EK_ENCODING_PAIRED) {
        weights->tile_k = -stored->tile_k;
        return p->groups == 1;
    }
    if (stored->encoding == EK_ENCODING_INTERLEAVED)
        /* The file interleaves all channels at once, kernels each group on its own. */
        return p->groups == 1 || p->out.c / p->groups % stored->tile_n == 0;
    return stored->encoding == EK_ENCODING_DENSE;
}

/* Whether the kernel should work on the stored bytes themselves, which p->weights then are. */
static int reads_stored(const ek_kernel *kernel, const ek_stored_weights *stored,
                        ek_conv_params *p)
{
    if (!as_stored(stored, p, &p->weights))
        return 0;
    if (p->weights.tile_n == kernel->tile_n && p->weights.tile_k == kernel->tile_k)
        return 1;
    const int64_t positions = (int64_t)p->out.n * p->out.h * p->out.w;
    return positions < FEW_POSITIONS && p->weights.tile_k >= 0 && supports(kernel, p);
}

static ek_call conv_call(ek_kernel_kind kind, const ek_conv_params *p, const ek_tensor_record *x,
                         uint64_t depth)
{
    return (ek_call){
        .kind = kind,
        .params = p,
        .params_bytes = sizeof *p,
        .in = {x},
        .rows = p->out.n * p->out.h,
        .cols = p->out.w,
        .chs = p->out.c,
        .ch_step = 64,
        .work = (uint64_t)p->out.n * (uint64_t)p->out.h * (uint64_t)p->out.w *
                (uint64_t)p->out.c * depth,
    };
}

static int32_t greatest_multiple(int32_t limit, int32_t step)
{
    return limit < step ? step : limit / step * step;
}

/* `channels`, a multiple of `unit`, less what would cut through a stored tile of SPARSE weights, which
 * would then be decoded more than once. */
static int32_t whole_tiles(int32_t channels, int32_t unit, const ek_stored_weights *stored)
{
    const int32_t rows = stored->encoding == EK_ENCODING_SPARSE ? stored->tile_n : 0;
    const int32_t both = rows > unit ? rows : unit;
    if (rows == 0 || both % unit != 0 || both % rows != 0 || channels < both)
        return channels;
    return channels / both * both;
}

/* How to cut the weights so that a tile of them, decoded, fits the budget for scratch. */
static ek_tiles plan_tiles(const ek_conv_params *p, const ek_kernel *kernel,
                           const ek_stored_weights *stored)
{
    const uint32_t budget =
        kernel->set & SETS_WITH_LITTLE_MEMORY ? SMALL_TILE_BYTES : VECTOR_TILE_BYTES;
    const int depthwise = kernel->kind == EK_KIND_DEPTHWISE;
    const int32_t depth = depthwise ? p->kernel_h * p->kernel_w : stored->depth;
    /* A depthwise tile begins at the first output channel of an input channel. */
    const int32_t unit = depthwise           ? p->out.c / p->in.c
                         : kernel->tile_n == 0 ? 1
                                               : kernel->tile_n;
    const uint64_t padded = ek_packed_bytes(1, (uint64_t)depth, kernel->tile_n ? 1 : 0,
                                            kernel->tile_k);
    const int32_t fitting = (int32_t)(budget / padded);
    ek_tiles tiles = {.stored = *stored, .group_channels = p->out.c / p->groups};
    tiles.multiplier = depthwise ? unit : 0;
    tiles.channels = ek_min32(whole_tiles(greatest_multiple(fitting, unit), unit, stored),
                              tiles.group_channels);
    tiles.per_group = ek_ceil_div32(tiles.group_channels, tiles.channels);
    tiles.decoded_bytes = (size_t)ek_align_up(
        ek_packed_bytes((uint64_t)tiles.channels, (uint64_t)depth, kernel->tile_n, kernel->tile_k),
        EK_ALIGN);
    return tiles;
}

ek_tile_call ek_tile(const ek_conv_params *params, const ek_tiles *tiles, int32_t index)
{
    const int32_t group = index / tiles->per_group;
    const int32_t first = index % tiles->per_group * tiles->channels;
    const int32_t count = ek_min32(tiles->channels, tiles->group_channels - first);
    ek_tile_call call = {.params = *params};
    call.out_channel = group * tiles->group_channels + first;
    if (tiles->multiplier != 0) {
        call.in_channel = call.out_channel / tiles->multiplier;
        call.params.in.c = count / tiles->multiplier;
    } else {
        call.params.in.c = params->in.c / params->groups;
        call.in_channel = group * call.params.in.c;
    }
    call.params.out.c = count;
    call.params.groups = 1;
    call.params.start += call.out_channel;
    call.params.multiplier += call.out_channel;
    return call;
}

/* Whether the kernel takes every tile: there are two sizes, the full and the last one. */
static int takes_tiles(const ek_kernel *kernel, const ek_conv_params *p, const ek_tiles *tiles,
                       asking by)
{
    const ek_tile_call first = ek_tile(p, tiles, 0);
    const ek_tile_call last = ek_tile(p, tiles, tiles->per_group - 1);
    return takes(kernel, &first.params, by) && takes(kernel, &last.params, by);
}

static uint64_t tiles_scratch(const ek_kernel *kernel, const ek_conv_params *p,
                              const ek_tiles *tiles)
{
    const ek_tile_call first = ek_tile(p, tiles, 0);
    const ek_tile_call last = ek_tile(p, tiles, tiles->per_group - 1);
    const uint64_t a = kernel_scratch(kernel, &first.params);
    const uint64_t b = kernel_scratch(kernel, &last.params);
    return tiles->decoded_bytes + (a > b ? a : b);
}

/* The next `bytes` of the instance behind the scratch; null while measuring. */
static void *reserve(ek_builder *builder, uint64_t bytes)
{
    const uint64_t at = builder->repacked_bytes;
    builder->repacked_bytes += ek_align_up(bytes, EK_ALIGN);
    return builder->repacked == NULL ? NULL : builder->repacked + at;
}

/* Starts a kernel that adds `x_offset` to its input from sums that make up for it. */
static void offset_start(ek_builder *builder, ek_conv_params *p, const ek_kernel *kernel,
                         const ek_stored_weights *stored)
{
    if (!EK_BUILD_OFFSETS || kernel->x_offset == 0)
        return;
    int32_t *start = reserve(builder, (uint64_t)p->out.c * sizeof *start);
    if (start == NULL)
        return;
    ek_offset_start(stored, p->start, kernel->x_offset, start);
    p->start = start;
}

/* Copies the weights into the instance in the kernel's packing. */
static const void *repack(ek_builder *builder, const ek_conv_params *p, const ek_kernel *kernel,
                          const ek_stored_weights *stored)
{
    const int32_t channels = p->out.c / p->groups;
    const uint64_t group_bytes = ek_packed_bytes((uint64_t)channels, (uint64_t)stored->depth,
                                                 kernel->tile_n, kernel->tile_k);
    const int depthwise = kernel->kind == EK_KIND_DEPTHWISE;
    const uint64_t bytes = depthwise ? (uint64_t)stored->rows * (uint64_t)stored->depth
                                     : group_bytes * (uint64_t)p->groups;
    int8_t *data = reserve(builder, bytes);
    if (data == NULL)
        return NULL;
    if (depthwise)
        ek_unpack_depthwise(stored, p->out.c, 0, p->out.c, data);
    else
        for (int32_t g = 0; g < p->groups; g++)
            ek_unpack_rows(stored, g * channels, channels, kernel->tile_n, kernel->tile_k,
                           data + (size_t)g * group_bytes);
    return data;
}

/* In which form a kernel gets the weights. */
typedef enum weights_form {
    FORM_NONE,     /* it does not take the layer */
    FORM_STORED,   /* the file's bytes */
    FORM_REPACKED, /* a copy in the instance */
    FORM_TILES     /* decoded in each run, tile by tile */
} weights_form;

/* Sets p->weights to what the kernel would get, the copied or decoded bytes aside. */
static weights_form plan_weights(const ek_builder *builder, const ek_kernel *kernel, asking by,
                                 ek_conv_params *p, const ek_stored_weights *stored)
{
    if (reads_stored(kernel, stored, p))
        return takes(kernel, p, by) ? FORM_STORED : FORM_NONE;
    if (!EK_BUILD_DECODING || kernel->tile_k < 0)
        return FORM_NONE; /* weights become PAIRED when a file is written or never */
    p->weights = (ek_weights){(const int8_t *)stored->data, kernel->tile_n, kernel->tile_k, 0};
    if (builder->kernels & EK_REPACK)
        return takes(kernel, p, by) ? FORM_REPACKED : FORM_NONE;
    const ek_tiles tiles = plan_tiles(p, kernel, stored);
    return takes_tiles(kernel, p, &tiles, by) ? FORM_TILES : FORM_NONE;
}

/* Changes p->weights and p->start; neither copied, as this is the deepest path of the stack. */
static void emit_conv_with(ek_builder *builder, const ek_op *op, const ek_kernel *kernel,
                           ek_conv_params *p, const ek_tensor_record *x,
                           const ek_stored_weights *stored, weights_form form)
{
    const uint64_t depth =
        (uint64_t)p->kernel_h * (uint64_t)p->kernel_w *
        (kernel->kind == EK_KIND_DEPTHWISE ? 1 : (uint64_t)(p->in.c / p->groups));
    if (builder->steps != NULL && kernel->set != EK_KERNELS_SCALAR)
        p->weights.pairs_fit = ek_weights_pairs_fit(stored);
    if (EK_BUILD_DECODING && form == FORM_REPACKED)
        p->weights.data = repack(builder, p, kernel, stored);
    offset_start(builder, p, kernel, stored);
    const ek_call call = conv_call(kernel->kind, p, x, depth);
    if (!EK_BUILD_DECODING || form != FORM_TILES) {
        count_scratch(builder, kernel_scratch(kernel, p));
        append_call(builder, op, kernel, &call, NULL);
        return;
    }
    const ek_tiles tiles = plan_tiles(p, kernel, stored);
    count_scratch(builder, tiles_scratch(kernel, p, &tiles));
    append_call(builder, op, kernel, &call, &tiles);
}

void ek_emit_conv(ek_builder *builder, const ek_op *op, ek_kernel_kind kind,
                  ek_conv_params *params, const ek_tensor_record *x,
                  const ek_tensor_record *weights)
{
    const ek_stored_weights stored = ek_stored(builder->model, weights);
    const ek_kernel *kernel = next_kernel(builder, kind, NULL);
    weights_form form = FORM_NONE;
    for (; kernel != NULL; kernel = next_kernel(builder, kind, kernel)) {
        form = plan_weights(builder, kernel, BY_ESTIMATE, params, &stored);
        if (form != FORM_NONE)
            break;
    }
    if (kernel == NULL) {
        builder->failed = 1;
        return;
    }
    const ek_kernel *wanted = wanted_instead(builder, op, kernel);
    int chosen = 0;
    if (wanted != NULL) {
        const weights_form other = plan_weights(builder, wanted, BY_FILE, params, &stored);
        /* What was measured had its weights at hand: not worth decoding them in each run. */
        chosen = other != FORM_NONE && (other != FORM_TILES || form == FORM_TILES);
        if (chosen) {
            kernel = wanted;
            form = other;
        } else { /* params->weights are this kernel's again */
            plan_weights(builder, kernel, BY_ESTIMATE, params, &stored);
        }
    }
    emit_conv_with(builder, op, kernel, params, x, &stored, form);
    mark_chosen(builder, chosen);
}

/* ---- Layout ---------------------------------------------------------------------------------- */

typedef struct layout {
    uint64_t bound, formats, steps, arena, state, scratch, repacked, total;
    uint64_t scratch_bytes;
    ek_status status;
} layout;

/* Bits that name kernel sets: those asked for that are built, and scalar. */
static ek_kernels usable(ek_kernels kernels)
{
    return ((kernels | EK_KERNELS_SCALAR) & ek_kernels_built()) | (kernels & EK_REPACK);
}

static int are_built(ek_kernels kernels)
{
    const ek_kernels sets = kernels & ~EK_REPACK;
    return sets == 0 || (sets & ek_kernels_built()) != 0;
}

/* Runs all prepares; 0 if a step has no kernel. */
static int prepare_all(ek_builder *builder)
{
    ek_op op = ek_op_first(builder->model);
    for (; op.index < builder->model->op_count; op = ek_op_next(op)) {
        ek_operator_find(op.record->opcode)->prepare(builder, &op);
        if (builder->failed)
            return 0;
        if (builder->last_step != NULL)
            builder->last_step->last = 1;
    }
    return 1;
}

static uint64_t port_count(const ek_model *model)
{
    return (uint64_t)model->input_count + model->output_count;
}

/* Where everything stands; total is 0 unless `status` is EK_OK. Each part is below 2^48 bytes, and
 * the threads' scratch is checked before it is added, so that no sum overflows. */
static layout plan_layout(const ek_model *model, ek_kernels kernels, uint32_t threads)
{
    const ek_file_header *header = ek_header(model);
    ek_builder measure = {.model = model, .kernels = usable(kernels), .threads = threads};
    layout l = {.status = EK_ERROR_KERNELS};
    if (!are_built(kernels) || !prepare_all(&measure))
        return l;
    l.status = EK_ERROR_MEMORY;
    const uint64_t ports = port_count(model);
    l.scratch_bytes = ek_align_up(measure.scratch_bytes, EK_ALIGN);
    l.bound = ek_align_up(sizeof(ek_instance), _Alignof(uint8_t *));
    l.formats = l.bound + ports * sizeof(uint8_t *);
    l.steps = ek_align_up(l.formats + ports, EK_ALIGN);
    l.arena = l.steps + ek_align_up(measure.steps_bytes, EK_ALIGN);
    l.state = l.arena + ek_align_up(header->arena_bytes, EK_ALIGN);
    l.scratch = l.state + ek_align_up(header->state_bytes, EK_ALIGN);
    if (l.scratch_bytes > SIZE_MAX / 4 / threads)
        return l;
    l.repacked = l.scratch + threads * l.scratch_bytes;
    const uint64_t total = l.repacked + measure.repacked_bytes;
    if (total > SIZE_MAX / 2)
        return l;
    l.total = total;
    l.status = EK_OK;
    return l;
}

size_t ek_memory_needed(const ek_model *model, ek_kernels kernels, uint32_t threads)
{
    if (model == NULL || model->op_count == 0 || threads > EK_MAX_THREADS)
        return 0;
    return (size_t)plan_layout(model, kernels, threads == 0 ? 1 : threads).total;
}

size_t ek_scratch_needed(const ek_model *model, ek_kernels kernels)
{
    if (model == NULL || model->op_count == 0)
        return 0;
    return (size_t)plan_layout(model, kernels, 1).scratch_bytes;
}

static void place(ek_instance *instance, uint8_t *memory, const layout *l)
{
    instance->formats = memory + l->formats;
    instance->bound = (void *)(memory + l->bound);
    instance->steps = (void *)(memory + l->steps);
    instance->state = memory + l->state;
    instance->scratch = memory + l->scratch;
    instance->scratch_bytes = (size_t)l->scratch_bytes;
}

ek_status ek_create(ek_instance **instance, const ek_model *model, const ek_config *config,
                    void *memory, size_t bytes)
{
    if (instance == NULL)
        return EK_ERROR_ARGUMENT;
    *instance = NULL;
    if (model == NULL || model->op_count == 0 || config == NULL || memory == NULL)
        return EK_ERROR_ARGUMENT;
    const uint32_t threads = config->threads == 0 ? 1 : config->threads;
    if (threads > 1 &&
        (!EK_BUILD_THREADS || threads > EK_MAX_THREADS || config->parallel_for == NULL))
        return EK_ERROR_ARGUMENT;
    if ((uintptr_t)memory % EK_ALIGN != 0)
        return EK_ERROR_ALIGNMENT;
    const layout l = plan_layout(model, config->kernels, threads);
    if (l.status != EK_OK)
        return l.status;
    if (bytes < l.total)
        return EK_ERROR_MEMORY;

    memset(memory, 0, (size_t)l.steps);
    ek_instance *made = memory;
    made->model = *model;
    made->config = *config;
    made->config.threads = threads;
    made->port_count = (uint32_t)port_count(model);
    place(made, memory, &l);
    ek_builder build = {
        .model = &made->model,
        .kernels = usable(config->kernels),
        .threads = threads,
        .steps = (uint8_t *)memory + l.steps,
        .repacked = (uint8_t *)memory + l.repacked,
        .arena = (uint8_t *)memory + l.arena,
        .state = (uint8_t *)memory + l.state,
    };
    prepare_all(&build);
    made->step_count = build.step_count;
    made->steps_end = (void *)(build.steps + build.steps_bytes);
    ek_reset(made);
    *instance = made;
    return EK_OK;
}
