/* SPDX-License-Identifier: Apache-2.0
 *
 * What the checks of several operators share.
 */
#include "check.h"

int ek_is_activation(const ek_model *model, const ek_tensor_record *tensor)
{
    return tensor->dtype == EK_DTYPE_I8 && tensor->encoding == EK_ENCODING_DENSE &&
           tensor->quant != EK_NO_QUANT &&
           ek_quant(model, tensor)->granularity == EK_GRANULARITY_TENSOR;
}

static int all_zero(const int32_t *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (values[i] != 0)
            return 0;
    return 1;
}

/* The record of the tensor has passed: an axis below the rank, arrays inside WEIGHTS. */
static int is_symmetric(const ek_model *model, const ek_tensor_record *tensor)
{
    const ek_quant_record *quant = ek_quant(model, tensor);
    if (quant->granularity == EK_GRANULARITY_TENSOR)
        return quant->zero_point == 0;
    const uint32_t count = ek_dims(model, tensor)[quant->axis];
    const float *scales = ek_weights_at(model, quant->scales);
    return all_zero((const int32_t *)(const void *)(scales + count), count);
}

int ek_is_weight(const ek_model *model, const ek_tensor_record *tensor)
{
    return tensor->dtype == EK_DTYPE_I8 && tensor->region == EK_REGION_READONLY &&
           (tensor->quant == EK_NO_QUANT || is_symmetric(model, tensor));
}

int ek_same_shape(const ek_model *model, const ek_tensor_record *a, const ek_tensor_record *b)
{
    const uint32_t *a_dims = ek_dims(model, a), *b_dims = ek_dims(model, b);
    if (a->rank != b->rank)
        return 0;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a_dims[i] != b_dims[i])
            return 0;
    return 1;
}

int ek_same_quant(const ek_model *model, const ek_tensor_record *a, const ek_tensor_record *b)
{
    const ek_quant_record *qa = ek_quant(model, a), *qb = ek_quant(model, b);
    return qa->scale == qb->scale && qa->zero_point == qb->zero_point;
}

int ek_is_scale(float value)
{
    return value >= EK_SCALE_MIN && value <= EK_SCALE_MAX;
}

ek_status ek_check_multiplier(float stored, float expected)
{
    if (!ek_is_scale(stored))
        return EK_ERROR_SCALE;
    return stored == expected ? EK_OK : EK_ERROR_OPERATOR;
}

int ek_is_array(const ek_model *model, uint32_t offset, uint64_t count, uint32_t size)
{
    const uint64_t available = ek_section_at(model, EK_SECTION_WEIGHTS).size;
    /* count is below 2^33 and size at most 256 wherever this is called. */
    return offset % 4 == 0 && offset <= available && count * size <= available - offset;
}

int ek_is_clamp(int32_t lo, int32_t hi)
{
    return INT8_MIN <= lo && lo <= hi && hi <= INT8_MAX;
}

int ek_is_permutation(const uint8_t perm[EK_FORMAT_MAX_RANK], uint32_t rank)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < EK_FORMAT_MAX_RANK; i++) {
        if (i >= rank && perm[i] != 0)
            return 0;
        if (i < rank) {
            if (perm[i] >= rank)
                return 0;
            seen |= 1u << perm[i];
        }
    }
    return seen == (1u << rank) - 1;
}

ek_status ek_check_requantization(const ek_model *model, uint32_t start, uint32_t multiplier,
                                  uint32_t channels)
{
    if (!ek_is_array(model, start, channels, sizeof(int32_t)) ||
        !ek_is_array(model, multiplier, channels, sizeof(float)))
        return EK_ERROR_OPERATOR;
    const float *multipliers = ek_weights_at(model, multiplier);
    for (uint32_t i = 0; i < channels; i++)
        if (!ek_is_scale(multipliers[i]))
            return EK_ERROR_SCALE;
    return EK_OK;
}

/* One axis of a window. */
typedef struct axis {
    uint32_t in, out, kernel, stride, dilation, before, after;
} axis;

static axis vertical(const ek_window *w, const uint32_t *x, const uint32_t *y)
{
    return (axis){x[1], y[1], w->kernel_h, w->stride_h, w->dilation_h, w->pad_top, w->pad_bottom};
}

static axis horizontal(const ek_window *w, const uint32_t *x, const uint32_t *y)
{
    return (axis){x[2], y[2], w->kernel_w, w->stride_w, w->dilation_w, w->pad_left, w->pad_right};
}

static uint64_t padded_length(const axis *a)
{
    return (uint64_t)a->in + a->before + a->after;
}

/* In 32 bits once the padded input is known to fit them: on small processors a division of 64 bits
 * would be a function of its own. */
static int axis_fits(const axis *a, int ceil_mode)
{
    if (a->kernel == 0 || a->stride == 0 || a->dilation == 0)
        return 0;
    const uint64_t extent = (uint64_t)(a->kernel - 1) * a->dilation + 1;
    const uint64_t padded = padded_length(a);
    if (padded > EK_FORMAT_MAX_PADDED_ELEMENTS || extent > padded)
        return 0;
    const uint32_t room = (uint32_t)(padded - extent);
    const uint32_t whole = room / a->stride + 1, rest = room % a->stride;
    return a->out == whole || (ceil_mode && rest != 0 && a->out == whole + 1);
}

int ek_window_fits(const ek_window *window, const uint32_t *x, const uint32_t *y, int ceil_mode)
{
    const axis v = vertical(window, x, y), h = horizontal(window, x, y);
    if (x[0] != y[0] || !axis_fits(&v, ceil_mode) || !axis_fits(&h, ceil_mode))
        return 0;
    return padded_length(&v) * padded_length(&h) <= EK_FORMAT_MAX_PADDED_ELEMENTS / x[3];
}

/* Whether window `o`, which begins in front of the input, has a tap inside. */
static int reaches_in(const axis *a, uint32_t o)
{
    const uint32_t missing = a->before - o * a->stride;
    const uint32_t tap = missing / a->dilation + (missing % a->dilation != 0);
    return tap < a->kernel && (uint64_t)tap * a->dilation - missing < a->in;
}

/* The axis fits: its padded input, and with it `last` of a window inside, is below 2^31. */
static int axis_never_empty(const axis *a)
{
    /* A window that begins inside has its first tap there. */
    const uint64_t last = (uint64_t)(a->out - 1) * a->stride;
    if (last >= a->before + a->in)
        return 0;
    for (uint32_t o = 0; o < a->out && o * a->stride < a->before; o++)
        if (!reaches_in(a, o))
            return 0;
    return 1;
}

int ek_window_never_empty(const ek_window *window, const uint32_t *x, const uint32_t *y)
{
    const axis v = vertical(window, x, y), h = horizontal(window, x, y);
    return axis_never_empty(&v) && axis_never_empty(&h);
}
