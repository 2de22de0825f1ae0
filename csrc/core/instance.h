/* SPDX-License-Identifier: Apache-2.0
 *
 * What ek_create leaves in the caller's memory and ek_run walks:
 *
 *     [instance, bases, formats][steps][arena][state][scratch x threads][repacked]
 *
 * each part aligned to EK_ALIGN. `repacked` are weights and starts of sums that kernels want in another
 * form than the file's.
 */
#ifndef EK_INSTANCE_H
#define EK_INSTANCE_H

#include "../kernels/kernel.h"
#include "model.h"
#include "weights.h"

/* Pointers that operands count from; the inputs' and outputs' follow in the file's order. */
enum { EK_BASE_ARENA, EK_BASE_STATE, EK_BASE_WEIGHTS, EK_BASE_IO };

typedef struct ek_operand {
    uint32_t base;   /* index of a pointer in ek_instance.bases */
    uint32_t offset; /* bytes */
} ek_operand;

/* Weights that are decoded into scratch one tile of output channels at a time. The kernel
 * computes each tile as a smaller convolution without groups. */
typedef struct ek_tiles {
    ek_stored_weights stored;
    int32_t channels;       /* of a tile; the last one of a group may have fewer */
    int32_t per_group;      /* tiles of a group */
    int32_t group_channels; /* output channels of a group */
    int32_t multiplier;     /* depthwise: output channels per input channel; else 0 */
    size_t decoded_bytes;   /* of a tile; the kernel's own scratch is behind them */
} ek_tiles;

#define EK_NO_IO 0xFFFFFFFFu

/* One call of a kernel. The parameters stand behind it, and ek_tiles behind them if `tiled`. */
typedef struct ek_step {
    const ek_kernel *kernel; /* null: the output holds the result already */
    uint32_t bytes;          /* to the next step */
    uint32_t params_bytes;   /* rounded up to what follows */
    uint16_t op, tensor;     /* of the operator and its output, in the file */
    uint8_t opcode;
    uint8_t last;            /* of its operator */
    uint8_t tiled;
    uint8_t format;          /* runs only if input `io` is bound in this ek_format */
    uint32_t io;             /* or EK_NO_IO */
    ek_operand in[2], out;
    /* Parallel parts: the outputs are cut into rows x cols x chs pieces of these sizes. Of a tiled
     * step, chs counts tiles. */
    int32_t rows, cols, chs; /* extents */
    int32_t row_size, col_size, ch_size;
} ek_step;

struct ek_instance {
    ek_model model;
    ek_config config;
    const uint8_t *steps;
    uint32_t step_count;
    uint32_t io_count;
    uint8_t *scratch;
    size_t scratch_bytes; /* of one thread */
    uint8_t bindings_checked; /* since the last bind */
    uint8_t *formats;         /* ek_format of each input and output */
    uint8_t **bases;          /* null: not bound yet */
};

static inline const void *ek_step_params(const ek_step *step)
{
    return step + 1;
}

static inline const ek_tiles *ek_step_tiles(const ek_step *step)
{
    return (const void *)((const uint8_t *)(step + 1) + step->params_bytes);
}

static inline const ek_step *ek_step_next(const ek_step *step)
{
    return (const void *)((const uint8_t *)step + step->bytes);
}

/* The smaller convolution that computes tile `index`, its weights still missing, and the channels
 * at which its input and output begin. */
typedef struct ek_tile_call {
    ek_conv_params params;
    int32_t in_channel, out_channel;
} ek_tile_call;

ek_tile_call ek_tile(const ek_conv_params *params, const ek_tiles *tiles, int32_t index);

#endif /* EK_INSTANCE_H */
