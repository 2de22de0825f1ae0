/* SPDX-License-Identifier: Apache-2.0
 *
 * Read access to the records of a file. Nothing here checks: check.c has, or is about to.
 */
#ifndef EK_MODEL_H
#define EK_MODEL_H

#include "edgekit/edgekit.h"
#include "format.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "edgekit reads little-endian files in place: big-endian processors are not supported"
#endif

typedef struct ek_section {
    const uint8_t *data;
    uint32_t offset; /* in the file */
    uint32_t size;
} ek_section;

/* One operator record and its place in the program. */
typedef struct ek_op {
    const ek_model *model;
    const ek_op_record *record;
    uint32_t index;
} ek_op;

static inline const ek_file_header *ek_header(const ek_model *model)
{
    return (const ek_file_header *)(const void *)model->bytes;
}

static inline ek_section ek_section_at(const ek_model *model, uint32_t id)
{
    const uint32_t *entry = &ek_header(model)->section[2 * id];
    return (ek_section){model->bytes + entry[0], entry[0], entry[1]};
}

static inline const ek_tensor_record *ek_tensor_at(const ek_model *model, uint32_t index)
{
    const void *data = ek_section_at(model, EK_SECTION_TENSORS).data;
    return (const ek_tensor_record *)data + index;
}

static inline uint32_t ek_tensor_index(const ek_model *model, const ek_tensor_record *tensor)
{
    return (uint32_t)(tensor - ek_tensor_at(model, 0));
}

static inline const uint32_t *ek_dims(const ek_model *model, const ek_tensor_record *tensor)
{
    const void *data = ek_section_at(model, EK_SECTION_DIMS).data;
    return (const uint32_t *)data + tensor->dims;
}

/* The tensor must have one. */
static inline const ek_quant_record *ek_quant(const ek_model *model,
                                              const ek_tensor_record *tensor)
{
    const void *data = ek_section_at(model, EK_SECTION_QUANTS).data;
    return (const ek_quant_record *)data + tensor->quant;
}

static inline const ek_io_record *ek_io_at(const ek_model *model, uint32_t index)
{
    const void *data = ek_section_at(model, EK_SECTION_IOS).data;
    return (const ek_io_record *)data + index;
}

/* Number of elements; below 2^31 in a checked file. */
static inline uint32_t ek_elements(const ek_model *model, const ek_tensor_record *tensor)
{
    const uint32_t *dims = ek_dims(model, tensor);
    uint32_t product = 1;
    for (uint32_t i = 0; i < tensor->rank; i++)
        product *= dims[i];
    return product;
}

static inline const void *ek_weights_at(const ek_model *model, uint32_t offset)
{
    return ek_section_at(model, EK_SECTION_WEIGHTS).data + offset;
}

static inline ek_op ek_op_first(const ek_model *model)
{
    const void *data = ek_section_at(model, EK_SECTION_OPS).data;
    return (ek_op){model, data, 0};
}

static inline ek_op ek_op_next(ek_op op)
{
    const void *next = (const uint8_t *)op.record + op.record->bytes;
    return (ek_op){op.model, next, op.index + 1};
}

/* Inputs, then outputs. */
static inline const uint16_t *ek_op_tensors(const ek_op *op)
{
    return (const uint16_t *)(const void *)(op->record + 1);
}

static inline const ek_tensor_record *ek_op_input(const ek_op *op, uint32_t i)
{
    return ek_tensor_at(op->model, ek_op_tensors(op)[i]);
}

/* The one output that every operator has. */
static inline const ek_tensor_record *ek_op_output(const ek_op *op)
{
    return ek_tensor_at(op->model, ek_op_tensors(op)[op->record->n_inputs]);
}

/* Bytes of the tensor indexes with their padding. */
static inline uint32_t ek_op_tensors_bytes(const ek_op_record *record)
{
    const uint32_t count = (uint32_t)record->n_inputs + record->n_outputs;
    return (2 * count + 3) / 4 * 4;
}

static inline const void *ek_op_params(const ek_op *op)
{
    return (const uint8_t *)(op->record + 1) + ek_op_tensors_bytes(op->record);
}

#endif /* EK_MODEL_H */
