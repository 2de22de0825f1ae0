/* SPDX-License-Identifier: Apache-2.0
 *
 * A mutator that knows the format: it changes fields, dimensions, weights and sections, then
 * usually makes the file consistent again (shapes, sizes, lifetimes, places in the arena,
 * multipliers that repeat scales) and nearly always repairs its checksums, so that a good share of
 * what it makes passes the loader and reaches the kernels.
 */
#include "core/crc32.h"
#include "core/format.h"
#include "core/operator.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#define SECTIONS 11
#define MAX_BYTES (1u << 17)

/* ---- A file in parts ------------------------------------------------------------------------- */

typedef struct part {
    uint8_t *data; /* aligned as malloc does */
    uint32_t size;
} part;

typedef struct parts {
    ek_file_header header;
    part section[SECTIONS];
} parts;

/* 0 if the section table leads outside. */
static int take_apart(const uint8_t *data, size_t size, parts *p)
{
    if (size < sizeof p->header)
        return 0;
    memcpy(&p->header, data, sizeof p->header);
    for (uint32_t i = 0; i < SECTIONS; i++) {
        const uint32_t *entry = &p->header.section[2 * i];
        if (entry[0] > size || entry[1] > size - entry[0])
            return 0;
    }
    for (uint32_t i = 0; i < SECTIONS; i++) {
        const uint32_t *entry = &p->header.section[2 * i];
        p->section[i].size = entry[1];
        p->section[i].data = calloc(1, entry[1] + 8);
        memcpy(p->section[i].data, data + entry[0], entry[1]);
    }
    return 1;
}

static void release(parts *p)
{
    for (uint32_t i = 0; i < SECTIONS; i++)
        free(p->section[i].data);
}

static uint32_t align64(uint32_t value)
{
    return (value + 63) / 64 * 64;
}

/* The file again, which ends with its last section so that nothing hides a read behind it; 0 if it
 * does not fit. */
static size_t put_together(parts *p, uint8_t *data, size_t max_size)
{
    uint32_t at = align64(sizeof p->header), end = at;
    for (uint32_t i = 0; i < SECTIONS; i++) {
        uint32_t *entry = &p->header.section[2 * i];
        if (i == EK_SECTION_WEIGHTS)
            p->header.program_bytes = at;
        entry[0] = p->section[i].size == 0 ? 0 : at;
        entry[1] = p->section[i].size;
        end = i < EK_SECTION_WEIGHTS || p->section[i].size != 0 ? at + p->section[i].size : end;
        at = align64(at + p->section[i].size);
    }
    if (end < p->header.program_bytes)
        end = p->header.program_bytes;
    if (end > max_size || end > MAX_BYTES)
        return 0;
    p->header.file_bytes = end;
    memset(data, 0, end);
    memcpy(data, &p->header, sizeof p->header);
    for (uint32_t i = 0; i < SECTIONS; i++)
        if (p->section[i].size != 0)
            memcpy(data + p->header.section[2 * i], p->section[i].data, p->section[i].size);
    return end;
}

static void repair_checksums(uint8_t *data, size_t size)
{
    ek_file_header h;
    if (size < sizeof h)
        return;
    memcpy(&h, data, sizeof h);
    if (h.program_bytes > size)
        return;
    if (h.file_bytes > size)
        h.file_bytes = (uint32_t)size;
    h.program_checksum = 0;
    h.weights_checksum = h.file_bytes < h.program_bytes
                             ? 0
                             : ek_crc32(0, data + h.program_bytes, h.file_bytes - h.program_bytes);
    memcpy(data, &h, sizeof h);
    h.program_checksum = ek_crc32(0, data, h.program_bytes);
    memcpy(data, &h, sizeof h);
}

/* ---- Records --------------------------------------------------------------------------------- */

typedef struct model {
    parts *p;
    ek_tensor_record *tensors;
    ek_quant_record *quants;
    ek_io_record *ios;
    uint32_t *dims;
    uint32_t tensor_count, quant_count, io_count, dim_count;
} model;

static model model_of(parts *p)
{
    const part *s = p->section;
    return (model){
        .p = p,
        .tensors = (void *)s[EK_SECTION_TENSORS].data,
        .quants = (void *)s[EK_SECTION_QUANTS].data,
        .ios = (void *)s[EK_SECTION_IOS].data,
        .dims = (void *)s[EK_SECTION_DIMS].data,
        .tensor_count = s[EK_SECTION_TENSORS].size / sizeof(ek_tensor_record),
        .quant_count = s[EK_SECTION_QUANTS].size / sizeof(ek_quant_record),
        .io_count = s[EK_SECTION_IOS].size / sizeof(ek_io_record),
        .dim_count = s[EK_SECTION_DIMS].size / sizeof(uint32_t),
    };
}

typedef struct op {
    ek_op_record *record;
    uint16_t *tensors;
    void *params;
    uint32_t params_bytes;
    uint32_t index;
} op;

/* Bytes of the parameters, 0 for an operator that the runtime does not know. */
static uint32_t params_size(uint8_t opcode)
{
    const ek_operator *known = ek_operator_find(opcode);
    return known == NULL ? 0 : known->param_bytes;
}

/* The operator at byte `at` of OPS; 0 behind the last one that makes sense. */
static int op_at(const model *m, uint32_t at, uint32_t index, op *out)
{
    const part *s = &m->p->section[EK_SECTION_OPS];
    if (at > s->size || s->size - at < sizeof(ek_op_record))
        return 0;
    ek_op_record *r = (void *)(s->data + at);
    const uint32_t count = (uint32_t)r->n_inputs + r->n_outputs;
    const uint32_t head = (uint32_t)sizeof *r + (2 * count + 3) / 4 * 4;
    if (r->bytes % 4 != 0 || r->bytes > s->size - at || r->n_outputs != 1 || r->n_inputs == 0 ||
        r->bytes < head || r->bytes - head < params_size(r->opcode))
        return 0;
    *out = (op){r, (void *)(r + 1), (uint8_t *)r + head, r->bytes - head, index};
    for (uint32_t i = 0; i < count; i++)
        if (out->tensors[i] >= m->tensor_count)
            return 0;
    return 1;
}

#define FOR_EACH_OP(m, o)                                                                \
    for (uint32_t at_ = 0, index_ = 0; op_at(m, at_, index_, &(o));                     \
         at_ += (o).record->bytes, index_++)

static uint32_t count_ops(const model *m)
{
    uint32_t count = 0;
    op o;
    FOR_EACH_OP(m, o)
        count++;
    return count;
}

static int pick_op(const model *m, fuzz_random *r, op *out)
{
    const uint32_t wanted = fuzz_below(r, count_ops(m));
    FOR_EACH_OP(m, *out)
        if (out->index == wanted)
            return 1;
    return 0;
}

/* The window of an operator that has one: strides, dilations and pads, as in ek_conv2d_record. */
static uint16_t *window_of(const op *o)
{
    uint8_t *params = o->params;
    switch (o->record->opcode) {
    case EK_OPCODE_CONV2D: return (void *)(params + offsetof(ek_conv2d_record, stride_h));
    case EK_OPCODE_DEPTHWISE_CONV2D:
        return (void *)(params + offsetof(ek_depthwise_conv2d_record, stride_h));
    case EK_OPCODE_MAX_POOL: return (void *)(params + offsetof(ek_max_pool_record, stride_h));
    case EK_OPCODE_AVERAGE_POOL:
        return (void *)(params + offsetof(ek_average_pool_record, stride_h));
    default: return NULL;
    }
}

static ek_tensor_record *input_of(const model *m, const op *o, uint32_t i)
{
    return &m->tensors[o->tensors[i]];
}

static ek_tensor_record *output_of(const model *m, const op *o)
{
    return &m->tensors[o->tensors[o->record->n_inputs]];
}

/* The dimensions of `t`, or null. */
static uint32_t *dims_of(const model *m, const ek_tensor_record *t)
{
    if (t->rank > EK_FORMAT_MAX_RANK || t->dims > m->dim_count ||
        t->rank > m->dim_count - t->dims)
        return NULL;
    return m->dims + t->dims;
}

static uint64_t elements_of(const model *m, const ek_tensor_record *t)
{
    const uint32_t *d = dims_of(m, t);
    uint64_t product = 1;
    for (uint32_t i = 0; d != NULL && i < t->rank && product < UINT32_MAX; i++)
        product *= d[i];
    return product;
}

static float scale_of(const model *m, const ek_tensor_record *t)
{
    return t->quant < m->quant_count ? m->quants[t->quant].scale : 1.0f;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static uint32_t interesting(fuzz_random *r)
{
    static const uint32_t values[] = {
        0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 63, 64, 65, 127, 128, 255, 256, 32767, 32768,
        65535, 65536, 0xFFFFFF, 0x1000000, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000,
        0x80000001, 0xFFFFFFFE, 0xFFFFFFFF,
        0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x0F800000, 0x5F800000, 0x00000001,
    };
    if (fuzz_below(r, 4) == 0)
        return (uint32_t)fuzz_next(r);
    return values[fuzz_below(r, sizeof values / sizeof values[0])];
}

static uint32_t changed(fuzz_random *r, uint32_t value)
{
    switch (fuzz_below(r, 6)) {
    case 0: return value + 1;
    case 1: return value - 1;
    case 2: return value ^ 1u << fuzz_below(r, 32);
    case 3: return value * 2;
    case 4: return fuzz_below(r, 9);
    default: return interesting(r);
    }
}

/* One field of 1, 2 or 4 bytes of a record. */
static void change_field(fuzz_random *r, void *record, uint32_t bytes)
{
    static const uint32_t widths[] = {1, 2, 4, 4};
    const uint32_t width = widths[fuzz_below(r, 4)];
    if (bytes < width)
        return;
    uint8_t *at = (uint8_t *)record + fuzz_below(r, bytes / width) * width;
    uint32_t value = 0;
    memcpy(&value, at, width);
    value = changed(r, value);
    memcpy(at, &value, width);
}

static float ordinary_scale(fuzz_random *r)
{
    static const float values[] = {1, 0.5f, 0x1p-7f, 0x1p-8f, 0.1f, 0.0123f, 3.7f, 0x1p-96f, 0x1p64f};
    return values[fuzz_below(r, sizeof values / sizeof values[0])];
}

/* ---- Mutations that mostly keep a file valid ------------------------------------------------- */

static void change_bytes(uint8_t *data, uint32_t size, fuzz_random *r)
{
    if (size == 0)
        return;
    const uint32_t at = fuzz_below(r, size);
    const uint32_t length = 1 + fuzz_below(r, size - at < 64 ? size - at : 64);
    fuzz_fill(r, data + at, length);
}

/* More room at the end of WEIGHTS, filled with noise; its offset. Pointers into it change. */
static uint32_t grow_weights(parts *p, uint32_t bytes, fuzz_random *r)
{
    part *s = &p->section[EK_SECTION_WEIGHTS];
    const uint32_t at = align64(s->size);
    if (bytes > MAX_BYTES || at > MAX_BYTES)
        return 0;
    s->data = realloc(s->data, at + bytes + 8);
    memset(s->data + s->size, 0, at - s->size);
    fuzz_fill(r, s->data + at, bytes + 8);
    s->size = at + bytes;
    return at;
}

/* Room for `bytes` new bytes of a tensor: in its place if they fit there, else at the end. */
static uint8_t *place_weights(model *m, ek_tensor_record *t, uint32_t bytes, fuzz_random *r)
{
    const part *s = &m->p->section[EK_SECTION_WEIGHTS];
    if (bytes > t->bytes || t->offset % 4 != 0 || t->offset > s->size ||
        bytes > s->size - t->offset)
        t->offset = grow_weights(m->p, bytes, r);
    t->bytes = bytes;
    return s->data + t->offset;
}

/* Appends a gap to a stream of bits, lowest first: symbols of all ones, then the rest. */
static void put_gap(uint8_t *stream, uint32_t *bits, uint32_t gap, uint32_t gap_bits)
{
    const uint32_t skip = (1u << gap_bits) - 1;
    uint32_t symbol;
    do {
        symbol = gap < skip ? gap : skip;
        for (uint32_t b = 0; b < gap_bits; b++, ++*bits)
            stream[*bits / 8] |= (uint8_t)((symbol >> b & 1) << *bits % 8);
        gap -= symbol;
    } while (symbol == skip);
}

/* SPARSE weights of the tensor's shape and tiles, one of `spread` of them not zero. */
static void store_sparse(model *m, ek_tensor_record *t, fuzz_random *r)
{
    const uint32_t *d = dims_of(m, t);
    const uint64_t elements = elements_of(m, t);
    if (d == NULL || t->rank < 2 || elements == 0 || elements > MAX_BYTES / 16 ||
        t->tile_k < 1 || t->tile_k > EK_FORMAT_MAX_GAP_BITS)
        return;
    const uint32_t depth = (uint32_t)elements / d[0], rows = t->tile_n == 0 ? d[0] : t->tile_n;
    const uint32_t tiles = (d[0] + rows - 1) / rows, spread = 1 + fuzz_below(r, 20);
    const uint32_t table_bytes = tiles * (uint32_t)sizeof(ek_sparse_tile);
    ek_sparse_tile *table = calloc(tiles, sizeof *table);
    uint8_t *gaps = calloc(1, elements + tiles), *values = malloc(elements);
    uint32_t bits = 0, count = 0;
    for (uint32_t i = 0, gap = 0; i < elements; i++, gap++) {
        if (i % (rows * depth) == 0) {
            bits = (bits + 7) / 8 * 8;
            table[i / (rows * depth)] = (ek_sparse_tile){table_bytes + bits / 8, count};
            gap = 0;
        }
        if (fuzz_below(r, spread) != 0)
            continue;
        put_gap(gaps, &bits, gap, t->tile_k);
        values[count++] = (uint8_t)fuzz_next(r);
        gap = UINT32_MAX; /* 0 at the next element */
    }
    const uint32_t gap_bytes = (bits + 7) / 8;
    for (uint32_t i = 0; i < tiles; i++)
        table[i].values += table_bytes + gap_bytes;
    uint8_t *to = place_weights(m, t, table_bytes + gap_bytes + count, r);
    memcpy(to, table, table_bytes);
    memcpy(to + table_bytes, gaps, gap_bytes);
    memcpy(to + table_bytes + gap_bytes, values, count);
    free(table);
    free(gaps);
    free(values);
}

/* Stores weights in another way or in other tiles, as new values; fit_sizes gives them room. */
static void change_encoding(model *m, fuzz_random *r)
{
    ek_tensor_record *t = m->tensors + fuzz_below(r, m->tensor_count);
    if (m->tensor_count == 0 || t->region != EK_REGION_READONLY || t->rank < 2)
        return;
    static const uint8_t encodings[] = {EK_ENCODING_DENSE, EK_ENCODING_INTERLEAVED,
                                        EK_ENCODING_SPARSE, EK_ENCODING_PAIRED};
    t->encoding = encodings[fuzz_below(r, 4)];
    t->tile_n = t->tile_k = 0;
    switch (t->encoding) {
    case EK_ENCODING_INTERLEAVED:
        m->p->header.required_features |= EK_FEATURE_INTERLEAVED_WEIGHTS;
        t->tile_n = (uint8_t)(fuzz_below(r, 16) == 0 ? fuzz_below(r, 70) : 1u << fuzz_below(r, 7));
        t->tile_k = (uint8_t)(fuzz_below(r, 16) == 0 ? fuzz_below(r, 20) : 1u << fuzz_below(r, 5));
        break;
    case EK_ENCODING_SPARSE:
        m->p->header.required_features |= EK_FEATURE_SPARSE_WEIGHTS;
        t->tile_n = (uint8_t)(fuzz_below(r, 4) == 0 ? 0 : 1u << fuzz_below(r, 7));
        t->tile_k = (uint8_t)(1 + fuzz_below(r, EK_FORMAT_MAX_GAP_BITS));
        store_sparse(m, t, r);
        return;
    case EK_ENCODING_PAIRED:
        m->p->header.required_features |= EK_FEATURE_PAIRED_WEIGHTS;
        t->tile_n = t->tile_k = EK_PAIRED_TILE;
        break;
    default: break;
    }
    t->offset = UINT32_MAX;
}

/* Gives a tensor of WEIGHTS a scale for each index of one dimension. */
static void add_axis_quant(model *m, fuzz_random *r)
{
    ek_tensor_record *t = m->tensors + fuzz_below(r, m->tensor_count);
    const uint32_t *d = m->tensor_count == 0 ? NULL : dims_of(m, t);
    if (d == NULL || t->region != EK_REGION_READONLY || t->rank == 0)
        return;
    const uint32_t axis = fuzz_below(r, t->rank), count = d[axis];
    if (count > 1024 || m->quant_count >= EK_NO_QUANT)
        return;
    const uint32_t at = grow_weights(m->p, 8 * count, r);
    uint8_t *arrays = m->p->section[EK_SECTION_WEIGHTS].data + at;
    for (uint32_t i = 0; i < count; i++) {
        const float scale = ordinary_scale(r);
        memcpy(arrays + 4 * i, &scale, sizeof scale);
    }
    if (fuzz_below(r, 8) != 0)
        memset(arrays + 4 * count, 0, 4 * count);
    t->quant = (uint16_t)m->quant_count;
    part *s = &m->p->section[EK_SECTION_QUANTS];
    const ek_quant_record record = {
        .granularity = EK_GRANULARITY_AXIS, .axis = (uint8_t)axis, .scales = at};
    s->size = m->quant_count * (uint32_t)sizeof record;
    s->data = realloc(s->data, s->size + sizeof record + 8);
    memcpy(s->data + s->size, &record, sizeof record);
    memset(s->data + s->size + sizeof record, 0, 8);
    s->size += (uint32_t)sizeof record;
    *m = model_of(m->p);
}

/* Characters of every length in a name, and bytes that are none. */
static void change_name(model *m, fuzz_random *r)
{
    static const char *const texts[] = {
        "\xC3\xA9",     "\xE2\x82\xAC",     "\xF0\x9F\x98\x80", "\xE0\xA0\x80",
        "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\x80",         "\xE2\x28\xA1",
    };
    part *s = &m->p->section[EK_SECTION_STRINGS];
    const char *text = texts[fuzz_below(r, sizeof texts / sizeof texts[0])];
    const uint32_t length = (uint32_t)strlen(text), at = fuzz_below(r, s->size);
    if (length < s->size - at)
        memcpy(s->data + at, text, length);
}

/* A record that wants a kernel in place of another of its kind, which the runtime may well take by
 * itself; at its place in CHOICES, so that the section stays in order. */
static void add_choice(model *m, fuzz_random *r)
{
    size_t kernels;
    const ek_kernel *list = ek_kernel_list(&kernels);
    const ek_kernel *from = &list[fuzz_below(r, (uint32_t)kernels)], *to;
    do
        to = &list[fuzz_below(r, (uint32_t)kernels)];
    while (to->kind != from->kind);
    op o;
    if (!pick_op(m, r, &o))
        return;
    ek_choice_record record = {.op = (uint16_t)o.index};
    memcpy(record.instead_of, from->name, strlen(from->name));
    memcpy(record.kernel, to->name, strlen(to->name));
    part *s = &m->p->section[EK_SECTION_CHOICES];
    s->data = realloc(s->data, s->size + sizeof record + 8);
    uint32_t at = 0;
    for (; at + sizeof record <= s->size; at += (uint32_t)sizeof record) {
        const ek_choice_record *other = (const void *)(s->data + at);
        const int names = memcmp(other->instead_of, record.instead_of, sizeof record.instead_of);
        if (other->op == record.op && names == 0)
            return;
        if (other->op > record.op || (other->op == record.op && names > 0))
            break;
    }
    memmove(s->data + at + sizeof record, s->data + at, s->size - at);
    memcpy(s->data + at, &record, sizeof record);
    s->size += (uint32_t)sizeof record;
    memset(s->data + s->size, 0, 8);
}

/* Mostly inside one tensor, of SPARSE ones mostly the values; else anywhere, tables included. */
static void change_weights(model *m, fuzz_random *r)
{
    part *s = &m->p->section[EK_SECTION_WEIGHTS];
    const ek_tensor_record *t = m->tensors + fuzz_below(r, m->tensor_count);
    if (m->tensor_count == 0 || t->region != EK_REGION_READONLY || t->offset > s->size ||
        t->bytes > s->size - t->offset || fuzz_below(r, 16) == 0) {
        if (fuzz_below(r, 4) == 0)
            change_bytes(s->data, s->size, r);
        return;
    }
    uint32_t values = 0;
    if (t->encoding == EK_ENCODING_SPARSE && t->bytes >= 8 && fuzz_below(r, 8) != 0)
        memcpy(&values, s->data + t->offset + 4, sizeof values);
    if (values < t->bytes)
        change_bytes(s->data + t->offset + values, t->bytes - values, r);
}

static void change_quant(model *m, fuzz_random *r)
{
    if (m->quant_count == 0)
        return;
    ek_quant_record *q = &m->quants[fuzz_below(r, m->quant_count)];
    if (fuzz_below(r, 2))
        q->zero_point = (int32_t)fuzz_below(r, 256) - 128;
    else
        q->scale = ordinary_scale(r);
}

static void change_window(uint16_t *window, fuzz_random *r)
{
    const uint32_t i = fuzz_below(r, 8);
    window[i] = (uint16_t)(i < 4 ? 1 + fuzz_below(r, 4) : fuzz_below(r, 6));
}

static void change_clamp(int32_t *lo, int32_t *hi, fuzz_random *r)
{
    const int32_t a = (int32_t)fuzz_below(r, 256) - 128, b = (int32_t)fuzz_below(r, 256) - 128;
    *lo = a < b ? a : b;
    *hi = a < b ? b : a;
}

static void shuffle(uint8_t *perm, uint32_t rank, fuzz_random *r)
{
    for (uint32_t i = 1; i < rank && i < EK_FORMAT_MAX_RANK; i++) {
        const uint32_t k = fuzz_below(r, i + 1);
        const uint8_t held = perm[i];
        perm[i] = perm[k];
        perm[k] = held;
    }
}

static void change_quantize(ek_quantize_record *p, uint32_t rank, fuzz_random *r)
{
    switch (fuzz_below(r, 6)) {
    case 0:
    case 1: shuffle(p->perm, rank, r); break;
    case 2: shuffle(p->raw_perm, rank, r); break;
    case 3: p->raw_layout = (uint8_t)fuzz_below(r, 3); break;
    case 4:
        p->table_axis = (uint8_t)fuzz_below(r, rank);
        p->table_count = 1 + fuzz_below(r, 2); /* fit_raw_tables makes 2 the right number */
        break;
    default:
        if (p->raw_dtype == 0)
            memcpy(p->raw_perm, p->perm, sizeof p->raw_perm);
        p->raw_dtype = fuzz_below(r, 2) ? EK_DTYPE_I8 : EK_DTYPE_U8;
    }
}

static void change_params(model *m, fuzz_random *r)
{
    op o;
    if (!pick_op(m, r, &o))
        return;
    const uint32_t rank = output_of(m, &o)->rank;
    switch (o.record->opcode) {
    case EK_OPCODE_CONV2D: {
        ek_conv2d_record *p = o.params;
        if (fuzz_below(r, 4))
            change_window(window_of(&o), r);
        else
            change_clamp(&p->lo, &p->hi, r);
        break;
    }
    case EK_OPCODE_DEPTHWISE_CONV2D:
        change_window(window_of(&o), r);
        break;
    case EK_OPCODE_MAX_POOL:
    case EK_OPCODE_AVERAGE_POOL: {
        ek_max_pool_record *p = o.params; /* both begin the same */
        if (fuzz_below(r, 2))
            change_window(window_of(&o), r);
        else
            *(fuzz_below(r, 2) ? &p->kernel_h : &p->kernel_w) = (uint16_t)(1 + fuzz_below(r, 5));
        break;
    }
    case EK_OPCODE_SLICE: {
        ek_slice_record *p = o.params;
        const uint32_t i = fuzz_below(r, rank);
        if (i < EK_FORMAT_MAX_RANK) {
            p->start[i] = (int32_t)fuzz_below(r, 8);
            p->step[i] = (int32_t)fuzz_below(r, 7) - 3;
        }
        break;
    }
    case EK_OPCODE_PAD: {
        ek_pad_record *p = o.params;
        const uint32_t i = fuzz_below(r, rank);
        if (i < EK_FORMAT_MAX_RANK)
            p->before[i] = fuzz_below(r, 5);
        break;
    }
    case EK_OPCODE_CONCAT: {
        ek_concat_record *p = o.params;
        p->axis = fuzz_below(r, rank);
        break;
    }
    case EK_OPCODE_QUANTIZE: change_quantize(o.params, rank, r); break;
    case EK_OPCODE_TRANSPOSE:
    case EK_OPCODE_DEQUANTIZE:
        shuffle(o.params, rank, r);
        break;
    default:
        if (fuzz_below(r, 8) == 0)
            change_field(r, o.params, o.params_bytes);
    }
}

static void change_dim(model *m, fuzz_random *r)
{
    static const uint32_t limits[] = {9, 9, 9, 9, 9, 9, 70, 70, 3000};
    const uint32_t i = fuzz_below(r, 64) == 0 ? 8 : fuzz_below(r, 8);
    if (m->dim_count != 0)
        m->dims[fuzz_below(r, m->dim_count)] = 1 + fuzz_below(r, limits[i]);
}

/* Lets an operator read another tensor, or write one: mostly one of the same shape and type. */
static void change_edge(model *m, fuzz_random *r)
{
    op o;
    if (!pick_op(m, r, &o))
        return;
    uint16_t *edge = &o.tensors[fuzz_below(r, (uint32_t)o.record->n_inputs + 1)];
    const uint16_t other = (uint16_t)fuzz_below(r, m->tensor_count);
    const ek_tensor_record *a = &m->tensors[*edge], *b = &m->tensors[other];
    if (fuzz_below(r, 16) == 0 ||
        (a->dtype == b->dtype && a->rank == b->rank && elements_of(m, a) == elements_of(m, b)))
        *edge = other;
}

/* Turns an ARENA tensor into STATE and back. */
static void change_region(model *m, fuzz_random *r)
{
    if (m->tensor_count == 0)
        return;
    ek_tensor_record *t = &m->tensors[fuzz_below(r, m->tensor_count)];
    if (t->region != EK_REGION_ARENA && t->region != EK_REGION_STATE)
        return;
    t->region = t->region == EK_REGION_ARENA ? EK_REGION_STATE : EK_REGION_ARENA;
}

static void swap_ops(model *m, fuzz_random *r)
{
    part *s = &m->p->section[EK_SECTION_OPS];
    op a, b;
    if (!pick_op(m, r, &a))
        return;
    const uint32_t at = (uint32_t)((uint8_t *)a.record - s->data);
    if (!op_at(m, at + a.record->bytes, a.index + 1, &b))
        return;
    const uint32_t a_bytes = a.record->bytes, b_bytes = b.record->bytes;
    uint8_t *copy = malloc(a_bytes);
    memcpy(copy, a.record, a_bytes);
    memmove(s->data + at, b.record, b_bytes);
    memcpy(s->data + at + b_bytes, copy, a_bytes);
    free(copy);
}

/* ---- Mutations that mostly break it ---------------------------------------------------------- */

static void change_any_record(model *m, fuzz_random *r)
{
    static const struct {
        uint8_t section;
        uint8_t bytes;
    } tables[] = {
        {EK_SECTION_TENSORS, sizeof(ek_tensor_record)}, {EK_SECTION_QUANTS, sizeof(ek_quant_record)},
        {EK_SECTION_IOS, sizeof(ek_io_record)},         {EK_SECTION_DIMS, sizeof(uint32_t)},
        {EK_SECTION_OPS, 4},                            {EK_SECTION_CHOICES, sizeof(ek_choice_record)},
    };
    const uint32_t i = fuzz_below(r, sizeof tables / sizeof tables[0]);
    part *s = &m->p->section[tables[i].section];
    const uint32_t count = s->size / tables[i].bytes;
    if (count != 0)
        change_field(r, s->data + fuzz_below(r, count) * tables[i].bytes, tables[i].bytes);
}

static void change_header(parts *p, fuzz_random *r)
{
    change_field(r, &p->header, sizeof p->header);
}

/* Lets libFuzzer change, grow or shrink one section. */
static void change_section(parts *p, fuzz_random *r)
{
    part *s = &p->section[fuzz_below(r, SECTIONS)];
    const uint32_t room = s->size + 256;
    s->data = realloc(s->data, room + 8);
    memset(s->data + s->size, 0, room + 8 - s->size);
    s->size = (uint32_t)LLVMFuzzerMutate(s->data, s->size, room);
    memset(s->data + s->size, 0, room + 8 - s->size);
}

/* ---- Consistency ----------------------------------------------------------------------------- */

static int window_out(uint32_t in, uint32_t k, uint32_t stride, uint32_t dilation, uint32_t pads,
                      uint32_t *out)
{
    const uint64_t extent = ((uint64_t)k - 1) * dilation + 1, padded = (uint64_t)in + pads;
    if (k == 0 || stride == 0 || extent > padded)
        return 0;
    *out = (uint32_t)((padded - extent) / stride + 1);
    return 1;
}

static void fit_window(const uint32_t *x, uint32_t *y, uint32_t kh, uint32_t kw, const uint16_t *w)
{
    window_out(x[1], kh, w[0], w[2], (uint32_t)w[4] + w[6], &y[1]);
    window_out(x[2], kw, w[1], w[3], (uint32_t)w[5] + w[7], &y[2]);
    y[0] = x[0];
}

static void fit_conv(const model *m, const op *o, const uint32_t *x, uint32_t *w, uint32_t *y)
{
    const ek_tensor_record *wt = input_of(m, o, 1);
    if (o->record->opcode == EK_OPCODE_CONV2D && wt->rank == 4) {
        ek_conv2d_record *p = o->params;
        if (p->groups == 0 || x[3] % p->groups != 0 || y[3] % p->groups != 0)
            p->groups = 1;
        w[0] = y[3];
        w[3] = x[3] / p->groups;
        fit_window(x, y, w[1], w[2], window_of(o));
    }
    if (o->record->opcode == EK_OPCODE_DEPTHWISE_CONV2D && wt->rank == 3) {
        y[3] = x[3] == 0 ? 1 : (y[3] + x[3] - 1) / x[3] * x[3];
        w[2] = y[3];
        fit_window(x, y, w[0], w[1], window_of(o));
    }
}

static void fit_moved(const model *m, const op *o, const uint32_t *x, uint32_t *y, uint32_t rank)
{
    if (o->record->opcode == EK_OPCODE_TRANSPOSE || o->record->opcode == EK_OPCODE_DEQUANTIZE ||
        o->record->opcode == EK_OPCODE_QUANTIZE) {
        const uint8_t *perm = o->params;
        for (uint32_t i = 0; i < rank; i++)
            if (perm[i] < rank)
                y[i] = x[perm[i]];
    } else if (o->record->opcode == EK_OPCODE_PAD) {
        const ek_pad_record *p = o->params;
        for (uint32_t i = 0; i < rank; i++)
            if (y[i] < x[i] + p->before[i])
                y[i] = x[i] + p->before[i];
    } else if (o->record->opcode == EK_OPCODE_CONCAT) {
        const uint32_t axis = ((const ek_concat_record *)o->params)->axis;
        uint32_t sum = 0;
        for (uint32_t k = 0; k < o->record->n_inputs; k++) {
            const uint32_t *d = dims_of(m, input_of(m, o, k));
            if (d != NULL && axis < input_of(m, o, k)->rank)
                sum += d[axis];
        }
        for (uint32_t i = 0; i < rank; i++)
            y[i] = i == axis ? sum : x[i];
    } else if (o->record->opcode == EK_OPCODE_SLICE) {
        ek_slice_record *p = o->params;
        for (uint32_t i = 0; i < rank; i++) {
            p->start[i] = x[i] == 0 ? 0 : (int32_t)((uint32_t)p->start[i] % x[i]);
            if (p->step[i] == 0)
                p->step[i] = 1;
            const int64_t room = p->step[i] > 0 ? (int64_t)x[i] - 1 - p->start[i] : p->start[i];
            const int64_t most = room / (p->step[i] > 0 ? p->step[i] : -(int64_t)p->step[i]) + 1;
            if (y[i] > most)
                y[i] = (uint32_t)most;
        }
    }
}

/* Output shapes, and shapes of weights, that follow from the inputs' and the parameters. */
static void fit_shapes(const model *m)
{
    op o;
    FOR_EACH_OP(m, o) {
        const ek_tensor_record *xt = input_of(m, &o, 0), *yt = output_of(m, &o);
        uint32_t *x = dims_of(m, xt), *y = dims_of(m, yt);
        if (x == NULL || y == NULL || xt->rank != yt->rank || x == y)
            continue;
        uint32_t *w = o.record->n_inputs == 2 ? dims_of(m, input_of(m, &o, 1)) : NULL;
        switch (o.record->opcode) {
        case EK_OPCODE_CONV2D:
        case EK_OPCODE_DEPTHWISE_CONV2D:
            if (w != NULL && xt->rank == 4)
                fit_conv(m, &o, x, w, y);
            break;
        case EK_OPCODE_DENSE:
            if (w != NULL && xt->rank > 0 && input_of(m, &o, 1)->rank == 2) {
                memmove(y, x, (xt->rank - 1u) * sizeof *y);
                w[1] = x[xt->rank - 1];
                w[0] = y[yt->rank - 1];
            }
            break;
        case EK_OPCODE_MATMUL:
            if (w != NULL && xt->rank >= 2 && input_of(m, &o, 1)->rank == xt->rank) {
                memmove(y, x, (xt->rank - 1u) * sizeof *y);
                w[xt->rank - 2] = x[xt->rank - 1];
                y[yt->rank - 1] = w[xt->rank - 1];
            }
            break;
        case EK_OPCODE_MATMUL_TRANSPOSED:
            if (w != NULL && xt->rank >= 2 && input_of(m, &o, 1)->rank == xt->rank) {
                memmove(y, x, (xt->rank - 1u) * sizeof *y);
                w[xt->rank - 1] = x[xt->rank - 1];
                y[yt->rank - 1] = w[xt->rank - 2];
            }
            break;
        case EK_OPCODE_MAX_POOL:
        case EK_OPCODE_AVERAGE_POOL:
            if (xt->rank == 4) {
                const ek_max_pool_record *p = o.params;
                fit_window(x, y, p->kernel_h, p->kernel_w, window_of(&o));
                y[3] = x[3];
            }
            break;
        case EK_OPCODE_LUT:
        case EK_OPCODE_PRELU:
        case EK_OPCODE_SOFTMAX:
        case EK_OPCODE_LAYER_NORM:
            memmove(y, x, xt->rank * sizeof *y);
            break;
        case EK_OPCODE_ADD:
        case EK_OPCODE_MUL:
            for (uint32_t i = 0; w != NULL && input_of(m, &o, 1)->rank == xt->rank && i < xt->rank;
                 i++)
                y[i] = x[i] > w[i] ? x[i] : w[i];
            break;
        default:
            fit_moved(m, &o, x, y, xt->rank);
        }
    }
}

/* RESHAPE to another rank: everything in the last dimension that may change. */
static void fit_reshapes(const model *m)
{
    op o;
    FOR_EACH_OP(m, o) {
        ek_tensor_record *yt = output_of(m, &o);
        uint32_t *y = dims_of(m, yt);
        if (o.record->opcode != EK_OPCODE_RESHAPE || y == NULL || yt->rank == 0)
            continue;
        const uint64_t wanted = elements_of(m, input_of(m, &o, 0));
        if (wanted == elements_of(m, yt) || wanted > INT32_MAX)
            continue;
        for (uint32_t i = 0; i + 1 < yt->rank; i++)
            y[i] = 1;
        y[yt->rank - 1] = (uint32_t)wanted;
    }
}

/* Arrays of the output channels that do not fit any more are made anew. */
static void fit_arrays(model *m, uint32_t *start, uint32_t *multiplier, uint32_t channels,
                       fuzz_random *r)
{
    const uint64_t size = m->p->section[EK_SECTION_WEIGHTS].size, bytes = 4 * (uint64_t)channels;
    if (channels > 4096 || (*start + bytes <= size && *multiplier + bytes <= size))
        return;
    *start = grow_weights(m->p, 4 * channels, r);
    *multiplier = grow_weights(m->p, 4 * channels, r);
    for (uint32_t i = 0; i < channels; i++) {
        const float value = ordinary_scale(r) / 64;
        memcpy(m->p->section[EK_SECTION_WEIGHTS].data + *multiplier + 4 * i, &value, 4);
    }
}

static void fit_all_arrays(model *m, fuzz_random *r)
{
    op o;
    FOR_EACH_OP(m, o) {
        const ek_tensor_record *yt = output_of(m, &o);
        const uint32_t *y = dims_of(m, yt);
        const uint8_t c = o.record->opcode;
        /* All three begin with the offsets of start and multiplier. */
        uint32_t *offsets = o.params;
        if ((c == EK_OPCODE_CONV2D || c == EK_OPCODE_DEPTHWISE_CONV2D || c == EK_OPCODE_DENSE) &&
            y != NULL && yt->rank > 0)
            fit_arrays(m, &offsets[0], &offsets[1], y[yt->rank - 1], r);
    }
}

/* Tables, means and deviations for a raw input: as many as there are channels, or one. */
static void make_raw_tables(model *m, ek_quantize_record *p, uint32_t count, fuzz_random *r)
{
    p->table_count = count;
    p->table = grow_weights(m->p, 256 * count, r);
    p->mean = grow_weights(m->p, 4 * count, r);
    p->std = grow_weights(m->p, 4 * count, r);
    uint8_t *weights = m->p->section[EK_SECTION_WEIGHTS].data;
    for (uint32_t i = 0; i < count; i++) {
        const float mean = (float)fuzz_below(r, 256), deviation = ordinary_scale(r);
        memcpy(weights + p->mean + 4 * i, &mean, 4);
        memcpy(weights + p->std + 4 * i, &deviation, 4);
    }
}

static void fit_raw_tables(model *m, fuzz_random *r)
{
    op o;
    FOR_EACH_OP(m, o) {
        ek_quantize_record *p = o.params;
        const uint32_t rank = output_of(m, &o)->rank, *y = dims_of(m, output_of(m, &o));
        const uint64_t size = m->p->section[EK_SECTION_WEIGHTS].size;
        if (o.record->opcode != EK_OPCODE_QUANTIZE || p->raw_dtype == 0 || y == NULL)
            continue;
        const uint32_t channels = p->table_axis < rank ? y[p->table_axis] : 1;
        const uint32_t count = p->table_count == 1 || channels > 12 ? 1 : channels;
        if (count != p->table_count || p->table + 256 * (uint64_t)count > size ||
            p->mean + 4 * (uint64_t)count > size || p->std + 4 * (uint64_t)count > size)
            make_raw_tables(m, p, count, r);
        const uint8_t axis = p->raw_layout == EK_RAW_LAYOUT_NCHW ? 1 : 3;
        if (rank != 4 || (count != 1 && p->raw_perm[p->table_axis] != axis))
            p->raw_layout = EK_RAW_LAYOUT_NONE;
    }
}

/* Whether the tiles of INTERLEAVED or PAIRED weights can be counted. */
static int has_tiles(const model *m, const ek_tensor_record *t)
{
    return (t->encoding == EK_ENCODING_INTERLEAVED || t->encoding == EK_ENCODING_PAIRED) &&
           dims_of(m, t) != NULL && t->rank >= 2 && elements_of(m, t) != 0 && t->tile_n != 0 &&
           t->tile_k != 0;
}

/* Zeros behind the last channel and the last depth of INTERLEAVED weights. */
static void clear_filling(const model *m, const ek_tensor_record *t)
{
    const uint32_t *d = dims_of(m, t);
    const uint64_t tn = t->tile_n, tk = t->tile_k, n = d[0], k = elements_of(m, t) / n;
    const uint64_t tiles_k = (k + tk - 1) / tk;
    uint8_t *data = m->p->section[EK_SECTION_WEIGHTS].data + t->offset;
    for (uint64_t i = 0; i < t->bytes; i++) {
        const uint64_t tile = i / (tn * tk), row = tile / tiles_k * tn + i / tk % tn;
        if (row >= n || tile % tiles_k * tk + i % tk >= k)
            data[i] = 0;
    }
}

/* Small numbers, so that no sum is too large, and zeros as above. */
static void pair_weights(const model *m, const ek_tensor_record *t)
{
    const uint32_t *d = dims_of(m, t);
    const uint64_t n = d[0], k = elements_of(m, t) / n, tiles_k = (k + 3) / 4;
    uint8_t *data = m->p->section[EK_SECTION_WEIGHTS].data + t->offset;
    for (uint32_t i = 0; i < t->bytes / 2; i++) {
        const uint64_t tile = i / 8, row = tile / tiles_k * 4 + (i & 2);
        const uint64_t column = tile % tiles_k * 4 + (i >> 2 & 1) + (i & 1) * 2;
        int8_t odd = (int8_t)data[2 * i + 1] % 100, even = (int8_t)data[2 * i];
        if (row + 1 >= n || column >= k)
            odd = 0;
        if (row >= n || column >= k)
            even = 0;
        data[2 * i] = (uint8_t)even;
        data[2 * i + 1] = (uint8_t)(odd - (even < 0));
    }
}

static void fit_sizes(model *m, fuzz_random *r)
{
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        ek_tensor_record *t = &m->tensors[i];
        uint64_t bytes = elements_of(m, t) * (t->dtype == EK_DTYPE_F32 ? 4u : 1u);
        const int tiled = has_tiles(m, t);
        if (tiled) {
            const uint32_t *d = dims_of(m, t);
            const uint64_t rows = ((uint64_t)d[0] + t->tile_n - 1) / t->tile_n * t->tile_n;
            bytes = rows * ((elements_of(m, t) / d[0] + t->tile_k - 1) / t->tile_k * t->tile_k);
        }
        if (t->encoding != EK_ENCODING_SPARSE && bytes <= INT32_MAX)
            t->bytes = (uint32_t)bytes;
        const part *s = &m->p->section[EK_SECTION_WEIGHTS];
        if (t->region != EK_REGION_READONLY)
            continue;
        if (t->encoding == EK_ENCODING_SPARSE) {
            if (fuzz_below(r, 4) == 0)
                store_sparse(m, t, r);
            continue;
        }
        if ((uint64_t)t->offset + bytes > s->size && bytes < MAX_BYTES / 8)
            t->offset = grow_weights(m->p, (uint32_t)bytes, r);
        if (!tiled || t->offset > s->size || t->bytes > s->size - t->offset)
            continue;
        if (t->encoding == EK_ENCODING_INTERLEAVED)
            clear_filling(m, t);
        else if (fuzz_below(r, 8) != 0)
            pair_weights(m, t);
    }
}

static void fit_lifetimes(model *m)
{
    const uint32_t ops = count_ops(m);
    for (uint32_t i = 0; i < m->tensor_count; i++)
        m->tensors[i].first_op = m->tensors[i].last_op = 0;
    op o;
    FOR_EACH_OP(m, o) {
        ek_tensor_record *y = output_of(m, &o);
        for (uint32_t i = 0; i < o.record->n_inputs; i++)
            input_of(m, &o, i)->last_op = (uint16_t)o.index;
        if (y->region == EK_REGION_ARENA || y->region == EK_REGION_IO)
            y->first_op = (uint16_t)o.index;
        if (y->region != EK_REGION_STATE && y->last_op < o.index)
            y->last_op = (uint16_t)o.index;
    }
    for (uint32_t i = 0; i < m->io_count; i++)
        if (m->ios[i].output && m->ios[i].tensor < m->tensor_count && ops != 0)
            m->tensors[m->ios[i].tensor].last_op = (uint16_t)(ops - 1);
}

/* Every tensor of the region in a place of its own. */
static uint32_t spread(model *m, uint8_t region)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        ek_tensor_record *t = &m->tensors[i];
        if (t->region != region || t->bytes > MAX_BYTES || at > (MAX_BYTES << 4))
            continue;
        t->offset = at;
        at += (t->bytes + 15) / 16 * 16;
    }
    return at;
}

static int memory_fits(const model *m)
{
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const ek_tensor_record *t = &m->tensors[i];
        if (t->region == EK_REGION_ARENA &&
            (uint64_t)t->offset + t->bytes > m->p->header.arena_bytes)
            return 0;
    }
    return 1;
}

static void fit_memory(model *m, fuzz_random *r)
{
    if (!memory_fits(m) || fuzz_below(r, 8) == 0)
        m->p->header.arena_bytes = spread(m, EK_REGION_ARENA);
    const uint32_t state = spread(m, EK_REGION_STATE);
    part *s = &m->p->section[EK_SECTION_STATE];
    if (state > MAX_BYTES || state == s->size)
        return;
    s->data = realloc(s->data, state + 8);
    fuzz_fill(r, s->data, state + 8);
    s->size = m->p->header.state_bytes = state;
    m->p->header.required_features &= ~(uint64_t)EK_FEATURE_STATE;
    if (state != 0)
        m->p->header.required_features |= EK_FEATURE_STATE;
}

/* Operators that move values keep the scale: the output takes the first input's record. */
static void fit_quants(const model *m)
{
    op o;
    FOR_EACH_OP(m, o) {
        const uint8_t c = o.record->opcode;
        if (c == EK_OPCODE_MAX_POOL || (EK_OPCODE_RESHAPE <= c && c <= EK_OPCODE_RESIZE_NEAREST))
            for (uint32_t i = 1; i <= o.record->n_inputs; i++)
                m->tensors[o.tensors[i]].quant = m->tensors[o.tensors[0]].quant;
    }
}

static void fit_multipliers(const model *m)
{
    op o;
    FOR_EACH_OP(m, o) {
        const float y = scale_of(m, output_of(m, &o)), a = scale_of(m, input_of(m, &o, 0));
        const float b = scale_of(m, input_of(m, &o, o.record->n_inputs > 1));
        switch (o.record->opcode) {
        case EK_OPCODE_ADD:
            ((ek_add_record *)o.params)->multiplier_a = a / y;
            ((ek_add_record *)o.params)->multiplier_b =
                ((ek_add_record *)o.params)->multiplier_b < 0 ? -(b / y) : b / y;
            break;
        case EK_OPCODE_MUL:
        case EK_OPCODE_MATMUL:
        case EK_OPCODE_MATMUL_TRANSPOSED: {
            const float product = a * b / y; /* the first field of all three */
            memcpy(o.params, &product, sizeof product);
            break;
        }
        case EK_OPCODE_PRELU:
            ((ek_prelu_record *)o.params)->multiplier = a / y;
            break;
        case EK_OPCODE_SOFTMAX:
            ((ek_softmax_record *)o.params)->inverse_scale = 1 / y;
            break;
        default:
            break;
        }
    }
}

static void make_consistent(parts *p, fuzz_random *r)
{
    model m = model_of(p);
    fit_shapes(&m);
    fit_reshapes(&m);
    fit_shapes(&m);
    fit_all_arrays(&m, r);
    fit_raw_tables(&m, r);
    fit_sizes(&m, r);
    fit_lifetimes(&m);
    fit_memory(&m, r);
    fit_quants(&m);
    fit_multipliers(&m);
}

/* ---- Entry points ---------------------------------------------------------------------------- */

static void mutate_parts(parts *p, fuzz_random *r)
{
    model m = model_of(p);
    switch (fuzz_below(r, 17)) {
    case 0: change_encoding(&m, r); break;
    case 1: case 2: change_weights(&m, r); break;
    case 3: case 4: change_quant(&m, r); break;
    case 5: case 6: case 7: case 8: change_params(&m, r); break;
    case 9: case 10: change_dim(&m, r); break;
    case 11: case 12: change_edge(&m, r); break;
    case 13: change_region(&m, r); break;
    case 14: swap_ops(&m, r); break;
    case 15:
        switch (fuzz_below(r, 4)) {
        case 0: add_axis_quant(&m, r); break;
        case 1: change_name(&m, r); break;
        default: add_choice(&m, r);
        }
        break;
    default:
        switch (fuzz_below(r, 4)) {
        case 0: change_section(p, r); break;
        case 1: change_header(p, r); break;
        default: change_any_record(&m, r);
        }
    }
}

/* One thing wrong in a file that is consistent, often by little: what a missing check lets pass. */
static void break_one(parts *p, fuzz_random *r)
{
    model m = model_of(p);
    part *weights = &p->section[EK_SECTION_WEIGHTS];
    const uint32_t cut = 1 + fuzz_below(r, fuzz_below(r, 2) ? 4 : 64);
    op o;
    switch (fuzz_below(r, 4)) {
    case 0: p->header.arena_bytes -= cut < p->header.arena_bytes ? cut : 0; break;
    case 1: weights->size -= cut < weights->size ? cut : 0; break;
    case 2:
        if (pick_op(&m, r, &o))
            change_field(r, o.params, o.params_bytes);
        break;
    default: change_any_record(&m, r);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_random r = {seed};
    parts p;
    if (fuzz_below(&r, 32) == 0 || !take_apart(data, size, &p)) {
        size = LLVMFuzzerMutate(data, size, max_size);
        if (fuzz_below(&r, 8) != 0)
            repair_checksums(data, size);
        return size;
    }
    for (uint32_t count = 1 + (fuzz_below(&r, 4) == 0); count > 0; count--)
        mutate_parts(&p, &r);
    if (fuzz_below(&r, 16) != 0)
        make_consistent(&p, &r);
    if (fuzz_below(&r, 8) == 0)
        break_one(&p, &r);
    const size_t made = put_together(&p, data, max_size);
    release(&p);
    if (made == 0)
        return size;
    if (fuzz_below(&r, 64) != 0)
        repair_checksums(data, made);
    return made;
}

/* Bytes of the same place in the other file. */
static void take_bytes(part *to, const part *from, fuzz_random *r)
{
    const uint32_t size = to->size < from->size ? to->size : from->size;
    const uint32_t at = fuzz_below(r, size), length = fuzz_below(r, size - at + 1);
    memcpy(to->data + at, from->data + at, length);
}

/* The parameters of an operator of the same kind. */
static void take_params(model *to, const model *from, fuzz_random *r)
{
    op a, b;
    if (!pick_op(to, r, &a))
        return;
    FOR_EACH_OP(from, b)
        if (b.record->opcode == a.record->opcode && b.params_bytes == a.params_bytes)
            memcpy(a.params, b.params, a.params_bytes);
}

/* This file with something of the other one in it. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t max_size, unsigned seed)
{
    static const uint8_t sections[] = {EK_SECTION_WEIGHTS, EK_SECTION_WEIGHTS, EK_SECTION_QUANTS,
                                       EK_SECTION_DIMS, EK_SECTION_STATE};
    fuzz_random r = {seed};
    parts p, q;
    if (!take_apart(a, a_size, &p))
        return 0;
    if (!take_apart(b, b_size, &q)) {
        release(&p);
        return 0;
    }
    model to = model_of(&p);
    const model from = model_of(&q);
    const uint32_t i = fuzz_below(&r, 10);
    if (i < sizeof sections)
        take_bytes(&p.section[sections[i]], &q.section[sections[i]], &r);
    else
        take_params(&to, &from, &r);
    make_consistent(&p, &r);
    const size_t made = put_together(&p, out, max_size);
    release(&p);
    release(&q);
    repair_checksums(out, made);
    return made;
}

uint32_t fuzz_runs(const uint8_t *file)
{
    ek_file_header header;
    memcpy(&header, file, sizeof header);
    return header.state_bytes != 0 ? 2 : 1;
}

uint64_t fuzz_work(const uint8_t *file)
{
    ek_file_header header;
    parts p;
    memcpy(&header, file, sizeof header);
    if (!take_apart(file, header.file_bytes, &p))
        return 0;
    const model m = model_of(&p);
    uint64_t work = 0;
    op o;
    FOR_EACH_OP(&m, o) {
        uint64_t taps = 1;
        const uint8_t c = o.record->opcode;
        if (c == EK_OPCODE_CONV2D || c == EK_OPCODE_DENSE) {
            const ek_tensor_record *w = input_of(&m, &o, 1);
            taps = elements_of(&m, w) / dims_of(&m, w)[0];
            work += elements_of(&m, w);
        } else if (c == EK_OPCODE_DEPTHWISE_CONV2D) {
            const ek_tensor_record *w = input_of(&m, &o, 1);
            taps = (uint64_t)dims_of(&m, w)[0] * dims_of(&m, w)[1];
            work += elements_of(&m, w);
        } else if (c == EK_OPCODE_MATMUL) {
            const ek_tensor_record *t = input_of(&m, &o, 0);
            taps = dims_of(&m, t)[t->rank - 1];
        } else if (c == EK_OPCODE_MAX_POOL || c == EK_OPCODE_AVERAGE_POOL) {
            const ek_max_pool_record *w = o.params;
            taps = (uint64_t)w->kernel_h * w->kernel_w;
        }
        work += (elements_of(&m, output_of(&m, &o)) + 64) * (taps + 1);
    }
    release(&p);
    return work;
}
