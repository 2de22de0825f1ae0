/* SPDX-License-Identifier: Apache-2.0
 *
 * ek_open: every check of a file, once. What passes here cannot make prepare.c or a kernel read or
 * write out of bounds, whatever the checksums are worth. Each record is first held to its own
 * ranges, then to the other records; sizes are compared in 64 bits.
 */
#include "build.h"
#include "check.h"
#include "crc32.h"
#include "float_state.h"
#include "operator.h"

#define IMPLEMENTED_FEATURES                                                 \
    ((uint64_t)((EK_BUILD_INTERLEAVED ? EK_FEATURE_INTERLEAVED_WEIGHTS : 0) | \
                (EK_BUILD_SPARSE ? EK_FEATURE_SPARSE_WEIGHTS : 0) |           \
                (EK_BUILD_PAIRED ? EK_FEATURE_PAIRED_WEIGHTS : 0) | EK_FEATURE_STATE))

static ek_status refuse_at(ek_model *model, const void *record, ek_status status)
{
    model->error_offset = (uint32_t)((const uint8_t *)record - model->bytes);
    return status;
}

static int is_zero(const uint8_t *data, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        if (data[i] != 0)
            return 0;
    return 1;
}

static int has_feature(const ek_model *model, uint32_t feature)
{
    return (ek_header(model)->required_features & feature) != 0;
}

/* ---- Header and sections ------------------------------------------------------------------- */

static int has_magic(const ek_file_header *header)
{
    static const uint8_t magic[sizeof header->magic] = EK_FORMAT_MAGIC;
    for (size_t i = 0; i < sizeof magic; i++)
        if (header->magic[i] != magic[i])
            return 0;
    return 1;
}

static ek_status check_identity(const ek_file_header *header, size_t size)
{
    if (size < sizeof header->magic || !has_magic(header))
        return EK_ERROR_MAGIC;
    if (size < sizeof *header)
        return EK_ERROR_TRUNCATED;
    if (header->version_major != EK_FORMAT_VERSION_MAJOR)
        return EK_ERROR_VERSION;
    if (header->file_bytes > size)
        return EK_ERROR_TRUNCATED;
    if (header->file_bytes > EK_FORMAT_MAX_FILE_BYTES || header->program_bytes < sizeof *header ||
        header->program_bytes > header->file_bytes || header->program_bytes % EK_SECTION_ALIGN)
        return EK_ERROR_HEADER;
    return EK_OK;
}

static uint32_t program_checksum(const ek_file_header *header)
{
    static const uint8_t zero[sizeof header->program_checksum];
    const uint8_t *bytes = (const uint8_t *)header;
    const uint32_t field = offsetof(ek_file_header, program_checksum);
    const uint32_t behind = field + (uint32_t)sizeof zero;
    uint32_t crc = ek_crc32(0, bytes, field);
    crc = ek_crc32(crc, zero, sizeof zero);
    return ek_crc32(crc, bytes + behind, header->program_bytes - behind);
}

static ek_status check_checksums(const ek_file_header *header, uint32_t flags)
{
    if (program_checksum(header) != header->program_checksum)
        return EK_ERROR_CHECKSUM;
    if (flags & EK_OPEN_SKIP_WEIGHTS_CHECKSUM)
        return EK_OK;
    const uint8_t *rest = (const uint8_t *)header + header->program_bytes;
    const uint32_t crc = ek_crc32(0, rest, header->file_bytes - header->program_bytes);
    return crc == header->weights_checksum ? EK_OK : EK_ERROR_CHECKSUM;
}

/* Sections follow each other at multiples of 64, with zeros between them. */
static ek_status check_sections(ek_model *model)
{
    const ek_file_header *header = ek_header(model);
    uint64_t end = sizeof *header;
    for (uint32_t id = 0; id < EK_SECTION_SLOTS; id++) {
        const uint32_t *entry = &header->section[2 * id];
        const uint64_t offset = entry[0], size = entry[1];
        if (offset == 0 && size == 0)
            continue;
        const uint64_t limit =
            id < EK_SECTION_WEIGHTS ? header->program_bytes : header->file_bytes;
        const int in_part = id < EK_SECTION_WEIGHTS || offset >= header->program_bytes;
        if (id > EK_SECTION_CHOICES || offset % EK_SECTION_ALIGN || offset < end || !in_part ||
            offset + size > limit || !is_zero(model->bytes + end, offset - end))
            return refuse_at(model, entry, EK_ERROR_HEADER);
        end = offset + size;
    }
    if (!is_zero(model->bytes + end, header->file_bytes - end))
        return refuse_at(model, model->bytes + end, EK_ERROR_HEADER);
    return EK_OK;
}

static int divides(const ek_model *model, uint32_t section, size_t record_bytes)
{
    return ek_section_at(model, section).size % record_bytes == 0;
}

static uint32_t count_of(const ek_model *model, uint32_t section, size_t record_bytes)
{
    return ek_section_at(model, section).size / (uint32_t)record_bytes;
}

static ek_status check_header(ek_model *model)
{
    const ek_file_header *header = ek_header(model);
    const uint32_t state = ek_section_at(model, EK_SECTION_STATE).size;
    const uint32_t tensors = count_of(model, EK_SECTION_TENSORS, sizeof(ek_tensor_record));
    if (!is_zero((const uint8_t *)header->reserved, sizeof header->reserved) ||
        header->arena_bytes > EK_FORMAT_MAX_ARENA_BYTES || header->state_bytes != state ||
        (state != 0 && !has_feature(model, EK_FEATURE_STATE)) ||
        !divides(model, EK_SECTION_TENSORS, sizeof(ek_tensor_record)) ||
        !divides(model, EK_SECTION_DIMS, sizeof(uint32_t)) ||
        !divides(model, EK_SECTION_QUANTS, sizeof(ek_quant_record)) ||
        !divides(model, EK_SECTION_IOS, sizeof(ek_io_record)) ||
        !divides(model, EK_SECTION_CHOICES, sizeof(ek_choice_record)) ||
        ek_section_at(model, EK_SECTION_SUBPROGRAMS).size != 0 ||
        tensors > EK_FORMAT_MAX_RECORDS)
        return refuse_at(model, header, EK_ERROR_HEADER);
    model->tensor_count = tensors;
    return EK_OK;
}

/* ---- Quantization and tensor records --------------------------------------------------------- */

static int is_quant_record(const ek_quant_record *q)
{
    switch (q->granularity) {
    case EK_GRANULARITY_TENSOR:
        return q->axis == 0 && q->group == 0 && q->scales == EK_NO_INDEX;
    case EK_GRANULARITY_AXIS:
        return q->axis < EK_FORMAT_MAX_RANK && q->group == 0 && q->scale == 0 &&
               q->zero_point == 0;
    default:
        return 0;
    }
}

static ek_status check_quants(ek_model *model)
{
    const ek_quant_record *quants = (const void *)ek_section_at(model, EK_SECTION_QUANTS).data;
    const uint32_t count = count_of(model, EK_SECTION_QUANTS, sizeof *quants);
    for (uint32_t i = 0; i < count; i++) {
        if (!is_quant_record(&quants[i]))
            return refuse_at(model, &quants[i], EK_ERROR_TENSOR);
        if (quants[i].granularity == EK_GRANULARITY_TENSOR && !ek_is_scale(quants[i].scale))
            return refuse_at(model, &quants[i], EK_ERROR_SCALE);
    }
    return EK_OK;
}

/* 0 for types that need a feature which is not implemented. */
static uint32_t element_bytes(uint8_t dtype)
{
    switch (dtype) {
    case EK_DTYPE_I8:
    case EK_DTYPE_U8:
        return 1;
    case EK_DTYPE_I32:
    case EK_DTYPE_F32:
        return 4;
    default:
        return 0;
    }
}

static int zero_point_fits(int32_t zero_point, uint8_t dtype)
{
    switch (dtype) {
    case EK_DTYPE_I8:
        return INT8_MIN <= zero_point && zero_point <= INT8_MAX;
    case EK_DTYPE_U8:
        return 0 <= zero_point && zero_point <= UINT8_MAX;
    case EK_DTYPE_I32:
        return zero_point == 0;
    default:
        return 0;
    }
}

/* All dimensions are at least 1 and their product is below 2^31. */
static int dims_are_sound(const ek_model *model, const ek_tensor_record *t)
{
    const uint64_t available = count_of(model, EK_SECTION_DIMS, sizeof(uint32_t));
    if (t->rank > EK_FORMAT_MAX_RANK || (t->rank == 0 && t->dims != 0) ||
        (uint64_t)t->dims + t->rank > available)
        return 0;
    const uint32_t *dims = ek_dims(model, t);
    uint64_t product = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        product *= dims[i]; /* below 2^31 times below 2^32 */
        if (product == 0 || product > INT32_MAX)
            return 0;
    }
    return 1;
}

static int is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static int is_encoding(const ek_model *model, const ek_tensor_record *t)
{
    if (t->encoding == EK_ENCODING_DENSE)
        return t->tile_n == 0 && t->tile_k == 0;
    if (t->region != EK_REGION_READONLY || t->dtype != EK_DTYPE_I8 || t->rank < 2)
        return 0;
    switch (t->encoding) {
    case EK_ENCODING_INTERLEAVED:
        return has_feature(model, EK_FEATURE_INTERLEAVED_WEIGHTS) &&
               t->tile_n <= EK_FORMAT_MAX_TILE_N && is_power_of_two(t->tile_n) &&
               t->tile_k <= EK_FORMAT_MAX_TILE_K && is_power_of_two(t->tile_k);
    case EK_ENCODING_SPARSE:
        return has_feature(model, EK_FEATURE_SPARSE_WEIGHTS) &&
               t->tile_n <= EK_FORMAT_MAX_TILE_N &&
               (t->tile_n == 0 || is_power_of_two(t->tile_n)) && 1 <= t->tile_k &&
               t->tile_k <= EK_FORMAT_MAX_GAP_BITS;
    case EK_ENCODING_PAIRED:
        return has_feature(model, EK_FEATURE_PAIRED_WEIGHTS) && t->tile_n == EK_PAIRED_TILE &&
               t->tile_k == EK_PAIRED_TILE;
    default:
        return 0;
    }
}

static uint32_t readonly_align(uint8_t encoding)
{
    switch (encoding) {
    case EK_ENCODING_INTERLEAVED: return EK_WEIGHTS_ALIGN_INTERLEAVED;
    case EK_ENCODING_SPARSE: return EK_WEIGHTS_ALIGN_SPARSE;
    case EK_ENCODING_PAIRED: return EK_WEIGHTS_ALIGN_PAIRED;
    default: return EK_WEIGHTS_ALIGN_DENSE;
    }
}

static int lies_in_region(const ek_model *model, const ek_tensor_record *t)
{
    const ek_file_header *header = ek_header(model);
    const uint64_t end = (uint64_t)t->offset + t->bytes;
    switch (t->region) {
    case EK_REGION_IO: {
        const uint32_t count = count_of(model, EK_SECTION_IOS, sizeof(ek_io_record));
        return t->offset < count &&
               ek_io_at(model, t->offset)->tensor == ek_tensor_index(model, t);
    }
    case EK_REGION_ARENA:
        return end <= header->arena_bytes && t->offset % EK_ARENA_ALIGN == 0;
    case EK_REGION_STATE:
        return end <= header->state_bytes && t->offset % element_bytes(t->dtype) == 0;
    case EK_REGION_READONLY:
        return end <= ek_section_at(model, EK_SECTION_WEIGHTS).size &&
               t->offset % readonly_align(t->encoding) == 0;
    default:
        return 0;
    }
}

static int has_stored_size(const ek_model *model, const ek_tensor_record *t)
{
    const uint64_t bytes = (uint64_t)ek_elements(model, t) * element_bytes(t->dtype);
    if (t->encoding != EK_ENCODING_DENSE)
        return ek_weights_are_sound(model, t);
    return bytes <= INT32_MAX && t->bytes == bytes;
}

static ek_status check_tensor_quant(const ek_model *model, const ek_tensor_record *t)
{
    if (t->quant == EK_NO_QUANT)
        return EK_OK;
    if (t->quant >= count_of(model, EK_SECTION_QUANTS, sizeof(ek_quant_record)))
        return EK_ERROR_TENSOR;
    const ek_quant_record *q = ek_quant(model, t);
    if (q->granularity == EK_GRANULARITY_TENSOR)
        return zero_point_fits(q->zero_point, t->dtype) ? EK_OK : EK_ERROR_TENSOR;
    if (q->axis >= t->rank)
        return EK_ERROR_TENSOR;
    const uint32_t count = ek_dims(model, t)[q->axis];
    if (!ek_is_array(model, q->scales, 2 * (uint64_t)count, sizeof(float)))
        return EK_ERROR_TENSOR;
    const float *scales = ek_weights_at(model, q->scales);
    const int32_t *zero_points = (const void *)(scales + count);
    for (uint32_t i = 0; i < count; i++) {
        if (!ek_is_scale(scales[i]))
            return EK_ERROR_SCALE;
        if (!zero_point_fits(zero_points[i], t->dtype))
            return EK_ERROR_TENSOR;
    }
    return EK_OK;
}

static ek_status check_tensors(ek_model *model)
{
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const ek_tensor_record *t = ek_tensor_at(model, i);
        ek_status status = EK_ERROR_TENSOR;
        if (element_bytes(t->dtype) != 0 && dims_are_sound(model, t) && is_encoding(model, t) &&
            lies_in_region(model, t) && has_stored_size(model, t))
            status = check_tensor_quant(model, t);
        if (status != EK_OK)
            return refuse_at(model, t, status);
    }
    return EK_OK;
}

/* ---- Inputs and outputs ---------------------------------------------------------------------- */

/* Length of the well-formed UTF-8 character at `s`, 0 if there is none (RFC 3629, chapter 4). A
 * zero byte ends the name and with it every comparison here. */
static uint32_t utf8_length(const uint8_t *s)
{
    if (s[0] < 0x80)
        return 1;
    const uint32_t length = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    const uint8_t lowest = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    const uint8_t highest = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[0] < 0xC2 || s[0] > 0xF4 || s[1] < lowest || s[1] > highest)
        return 0;
    for (uint32_t i = 2; i < length; i++)
        if (s[i] < 0x80 || s[i] > 0xBF)
            return 0;
    return length;
}

/* The section ends with a zero byte, so that any offset inside begins a terminated string. A name is
 * not empty. */
static int is_name(const ek_section *strings, uint32_t offset)
{
    if (offset >= strings->size || strings->data[strings->size - 1] != 0 ||
        strings->data[offset] == 0)
        return 0;
    for (const uint8_t *s = strings->data + offset; *s != 0;) {
        const uint32_t length = utf8_length(s);
        if (length == 0)
            return 0;
        s += length;
    }
    return 1;
}

static int same_name(const uint8_t *a, const uint8_t *b)
{
    while (*a != 0 && *a == *b)
        a++, b++;
    return *a == *b;
}

/* Whether an earlier port has the name of port `index`. */
static int repeats_name(const ek_model *model, uint32_t index)
{
    const uint8_t *strings = ek_section_at(model, EK_SECTION_STRINGS).data;
    const uint8_t *name = strings + ek_io_at(model, index)->name;
    for (uint32_t i = 0; i < index; i++)
        if (same_name(strings + ek_io_at(model, i)->name, name))
            return 1;
    return 0;
}

static int is_io(const ek_model *model, const ek_io_record *io, uint32_t index)
{
    const ek_section strings = ek_section_at(model, EK_SECTION_STRINGS);
    if (io->reserved != 0 || io->output > 1 || io->tensor >= model->tensor_count ||
        !is_name(&strings, io->name) || repeats_name(model, index))
        return 0;
    const ek_tensor_record *t = ek_tensor_at(model, io->tensor);
    return t->region == EK_REGION_IO && t->offset == index &&
           (ek_is_activation(model, t) || (t->dtype == EK_DTYPE_F32 && t->quant == EK_NO_QUANT));
}

static ek_status check_ios(ek_model *model)
{
    const uint32_t count = count_of(model, EK_SECTION_IOS, sizeof(ek_io_record));
    uint32_t inputs = 0;
    for (uint32_t i = 0; i < count; i++) {
        const ek_io_record *io = ek_io_at(model, i);
        if (!is_io(model, io, i) || (io->output == 0 && inputs != i))
            return refuse_at(model, io, EK_ERROR_TENSOR);
        inputs += io->output == 0;
    }
    if (count > EK_FORMAT_MAX_RECORDS || inputs == 0 || inputs == count)
        return refuse_at(model, ek_header(model), EK_ERROR_HEADER);
    model->input_count = (uint16_t)inputs;
    model->output_count = (uint16_t)(count - inputs);
    return EK_OK;
}

/* ---- Operator records ------------------------------------------------------------------------ */

static int has_record_shape(const ek_op *op, uint32_t available)
{
    const ek_op_record *r = op->record;
    if (available < sizeof *r || r->version != 1 || r->reserved != 0 || r->n_outputs != 1)
        return 0;
    const ek_operator *operator = ek_operator_find(r->opcode);
    if (operator == NULL || r->n_inputs < operator->min_inputs ||
        r->n_inputs > operator->max_inputs)
        return 0;
    const uint32_t bytes =
        (uint32_t)sizeof *r + ek_op_tensors_bytes(r) + operator->param_bytes;
    return r->bytes == bytes && bytes <= available;
}

static int has_tensors(const ek_op *op)
{
    const uint32_t count = (uint32_t)op->record->n_inputs + op->record->n_outputs;
    const uint16_t *tensors = ek_op_tensors(op);
    for (uint32_t i = 0; i < count; i++)
        if (tensors[i] >= op->model->tensor_count)
            return 0;
    return count % 2 == 0 || tensors[count] == 0;
}

/* Counts the operators and makes walking them safe. */
static ek_status check_op_records(ek_model *model)
{
    const ek_section ops = ek_section_at(model, EK_SECTION_OPS);
    ek_op op = ek_op_first(model);
    uint32_t left = ops.size;
    for (; left > 0; op = ek_op_next(op)) {
        if (!has_record_shape(&op, left) || !has_tensors(&op))
            return refuse_at(model, op.record, EK_ERROR_OPERATOR);
        left -= op.record->bytes;
    }
    if (op.index == 0 || op.index > EK_FORMAT_MAX_RECORDS)
        return refuse_at(model, ek_header(model), EK_ERROR_HEADER);
    model->op_count = op.index;
    return EK_OK;
}

static ek_status check_op_params(ek_model *model)
{
    ek_op op = ek_op_first(model);
    for (; op.index < model->op_count; op = ek_op_next(op)) {
        const ek_status status = ek_operator_find(op.record->opcode)->check(&op);
        if (status != EK_OK)
            return refuse_at(model, op.record, status);
    }
    return EK_OK;
}

/* ---- Lifetimes ------------------------------------------------------------------------------- */

static int is_output(const ek_model *model, const ek_tensor_record *t)
{
    return t->region == EK_REGION_IO && ek_io_at(model, t->offset)->output;
}

/* Whether an operator of this program has to write it before any reads it. */
static int is_computed(const ek_model *model, const ek_tensor_record *t)
{
    return t->region == EK_REGION_ARENA || is_output(model, t);
}

static int overlap(const ek_tensor_record *a, const ek_tensor_record *b)
{
    return (uint64_t)a->offset < (uint64_t)b->offset + b->bytes &&
           (uint64_t)b->offset < (uint64_t)a->offset + a->bytes;
}

static int reads(const ek_op *op, const ek_tensor_record *t)
{
    for (uint32_t i = 0; i < op->record->n_inputs; i++)
        if (ek_op_input(op, i) == t)
            return 1;
    return 0;
}

/* Whether the output may take over the memory of `t`: an input that allows it, at every place
 * where it is one. */
static int may_take_over(const ek_op *op, const ek_tensor_record *t)
{
    const ek_tensor_record *out = ek_op_output(op);
    const uint32_t inplace = ek_operator_find(op->record->opcode)->inplace;
    if (inplace == 0 || t->offset != out->offset || t->bytes != out->bytes || !reads(op, t))
        return 0;
    /* An operator that works in place has at most two inputs. */
    for (uint32_t i = 0; i < op->record->n_inputs; i++)
        if (ek_op_input(op, i) == t && !(inplace >> i & 1))
            return 0;
    return 1;
}

/* An input is there when the operator runs, and its record knows of the reading. */
static int input_is_live(const ek_op *op, const ek_tensor_record *t)
{
    return t->last_op >= op->index && (!is_computed(op->model, t) || t->first_op < op->index);
}

/* The output's memory holds nothing that is still needed. */
static int output_is_free(const ek_op *op)
{
    const ek_tensor_record *out = ek_op_output(op);
    if (out->region == EK_REGION_IO)
        return is_output(op->model, out) && out->first_op == op->index;
    if (out->region == EK_REGION_STATE)
        return !reads(op, out) || may_take_over(op, out);
    if (out->region != EK_REGION_ARENA || out->first_op != op->index)
        return 0;
    for (uint32_t i = 0; i < op->model->tensor_count; i++) {
        const ek_tensor_record *t = ek_tensor_at(op->model, i);
        if (t == out || t->region != EK_REGION_ARENA || !overlap(t, out))
            continue;
        const int live = t->first_op < op->index && t->last_op >= op->index;
        if (live && !(t->last_op == op->index && may_take_over(op, t)))
            return 0;
    }
    return 1;
}

/* Inputs whose last reader this is and that were there before; each counted once. */
static uint32_t count_last_reads(const ek_op *op)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < op->record->n_inputs; i++) {
        const ek_tensor_record *t = ek_op_input(op, i);
        int seen = 0;
        for (uint32_t k = 0; k < i; k++)
            seen |= ek_op_input(op, k) == t;
        count += !seen && !is_output(op->model, t) && t->last_op == op->index &&
                 t->last_op > t->first_op;
    }
    return count;
}

static int has_lifetime(const ek_model *model, const ek_tensor_record *t)
{
    if (t->first_op > t->last_op || t->last_op >= model->op_count)
        return 0;
    if (is_output(model, t))
        return t->last_op == model->op_count - 1;
    return is_computed(model, t) || t->first_op == 0;
}

/* Whether another STATE tensor shares memory with this one. */
static int shares_state(const ek_model *model, const ek_tensor_record *t)
{
    if (t->region != EK_REGION_STATE)
        return 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const ek_tensor_record *other = ek_tensor_at(model, i);
        if (other != t && other->region == EK_REGION_STATE && overlap(other, t))
            return 1;
    }
    return 0;
}

/* Every operator has one output, and first_op of a computed tensor names its only writer. So all
 * computed tensors are written if there are as many of them as operators that write one, and
 * every last_op is exact if as many as there are were met. */
static ek_status check_lifetimes(ek_model *model)
{
    uint32_t computed = 0, expected_reads = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const ek_tensor_record *t = ek_tensor_at(model, i);
        if (!has_lifetime(model, t) || shares_state(model, t))
            return refuse_at(model, t, EK_ERROR_LIFETIME);
        computed += is_computed(model, t) != 0;
        expected_reads += !is_output(model, t) && t->last_op > t->first_op;
    }
    ek_op op = ek_op_first(model);
    for (; op.index < model->op_count; op = ek_op_next(op)) {
        for (uint32_t i = 0; i < op.record->n_inputs; i++)
            if (!input_is_live(&op, ek_op_input(&op, i)))
                return refuse_at(model, op.record, EK_ERROR_LIFETIME);
        if (!output_is_free(&op))
            return refuse_at(model, op.record, EK_ERROR_LIFETIME);
        computed -= is_computed(model, ek_op_output(&op)) != 0;
        expected_reads -= count_last_reads(&op);
    }
    if (computed != 0 || expected_reads != 0)
        return refuse_at(model, ek_header(model), EK_ERROR_LIFETIME);
    return EK_OK;
}

/* ---- Choices of kernels ---------------------------------------------------------------------- */

/* Whether `a` stands in front of `b`: by operator, then by the name of the kernel to be replaced. */
static int stands_before(const ek_choice_record *a, const ek_choice_record *b)
{
    if (a->op != b->op)
        return a->op < b->op;
    for (uint32_t i = 0; i < sizeof a->instead_of; i++)
        if (a->instead_of[i] != b->instead_of[i])
            return a->instead_of[i] < b->instead_of[i];
    return 0;
}

/* The order lets prepare.c search. Names need no check: those that no kernel has are passed over. */
static ek_status check_choices(ek_model *model)
{
    const ek_choice_record *choices = (const void *)ek_section_at(model, EK_SECTION_CHOICES).data;
    const uint32_t count = count_of(model, EK_SECTION_CHOICES, sizeof *choices);
    if (!EK_BUILD_CHOICES)
        return EK_OK; /* nobody reads them */
    for (uint32_t i = 0; i < count; i++)
        if (choices[i].op >= model->op_count || choices[i].reserved != 0 ||
            (i > 0 && !stands_before(&choices[i - 1], &choices[i])))
            return refuse_at(model, &choices[i], EK_ERROR_OPERATOR);
    return EK_OK;
}

/* ---- ek_open --------------------------------------------------------------------------------- */

static ek_status check_file(ek_model *model)
{
    static ek_status (*const checks[])(ek_model *) = {
        check_sections,   check_header,    check_quants,   check_tensors,
        check_ios,        check_op_records, check_op_params, check_lifetimes,
        check_choices,
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const ek_status status = checks[i](model);
        if (status != EK_OK)
            return status;
    }
    return EK_OK;
}

ek_status ek_open(ek_model *model, const void *bytes, size_t size, uint32_t flags)
{
    if (model == NULL)
        return EK_ERROR_ARGUMENT;
    *model = (ek_model){0};
    if (bytes == NULL || (flags & ~EK_OPEN_SKIP_WEIGHTS_CHECKSUM) != 0)
        return EK_ERROR_ARGUMENT;
    if ((uintptr_t)bytes % EK_ALIGN != 0)
        return EK_ERROR_ALIGNMENT;
    if (!ek_float_state_is_sound())
        return EK_ERROR_FLOAT_STATE;

    const ek_file_header *header = bytes;
    ek_status status = check_identity(header, size);
    if (status == EK_OK)
        status = check_checksums(header, flags);
    if (status != EK_OK)
        return status;
    model->bytes = bytes;
    model->size = header->file_bytes;
    model->missing_features = header->required_features & ~IMPLEMENTED_FEATURES;
    if (model->missing_features != 0)
        return EK_ERROR_FEATURE;
    status = check_file(model);
    if (status != EK_OK)
        model->op_count = model->tensor_count = model->input_count = model->output_count = 0;
    return status;
}

uint64_t ek_missing_features(const ek_model *model)
{
    return model == NULL ? 0 : model->missing_features;
}

uint32_t ek_error_offset(const ek_model *model)
{
    return model == NULL ? 0 : model->error_offset;
}
