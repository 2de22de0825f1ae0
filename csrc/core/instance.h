/* SPDX-License-Identifier: Apache-2.0
 *
 * What ek_create leaves in the caller's memory and ek_run walks:
 *
 *     [instance, bound, formats][steps][arena][state][scratch x threads][repacked]
 *
 * each part aligned to EK_ALIGN. `repacked` are weights and starts of sums that kernels want in
 * another form than the file's.
 */
#ifndef EK_INSTANCE_H
#define EK_INSTANCE_H

#include "../kernels/kernel.h"
#include "build.h"
#include "model.h"
#include "weights.h"

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

/* How the output of a step is cut into parts that may run in parallel, each of at most these sizes. */
typedef struct ek_cut {
    uint32_t parts;
    int32_t row_size, col_size, ch_size;
} ek_cut;

#define EK_NO_PORT 0xFFFFu
#define EK_ANY_FORMAT 0xFFu

/* What ek_run has to do for a step. */
typedef enum ek_step_mode {
    EK_STEP_NOTHING, /* the output is in place, or another format is bound */
    EK_STEP_CALL,    /* one call of the kernel for the whole output */
    EK_STEP_PARTS    /* several calls: parts for threads, tiles of weights */
} ek_step_mode;

/* One call of a kernel. Behind it stand the parameters, ek_tiles if `tiled`, and in an instance of
 * several threads ek_cut, which counts only if `cut`. What depends on the bound buffers (pointers
 * to ports, mode) is set by the first run after a bind. */
typedef struct ek_step {
    const ek_kernel *kernel; /* null: the output holds the result already */
    const void *in[2];
    void *out;
    ek_range whole;          /* the output; channels of a tiled step count tiles */
    uint16_t bytes;          /* to the next step */
    uint16_t params_bytes;   /* rounded up to what follows */
    uint16_t op, tensor;     /* of the operator and its output, in the file */
    uint16_t in_port[2], out_port; /* the model's input or output that it is, or EK_NO_PORT */
    uint8_t opcode;
    uint8_t mode;            /* ek_step_mode */
    uint8_t last;            /* of its operator */
    uint8_t tiled, cut;
    uint8_t chosen;          /* the kernel is the file's choice */
    uint8_t format;          /* runs only if in_port[0] is bound in it, or always: EK_ANY_FORMAT */
} ek_step;

struct ek_instance {
    ek_model model;
    ek_config config;
    ek_step *steps;
    const ek_step *steps_end;
    uint32_t step_count;
    uint8_t *state;
    uint8_t *scratch;
    size_t scratch_bytes; /* of one thread */
    uint32_t port_count;  /* inputs, then outputs */
    uint8_t linked;       /* the steps have the pointers that are bound */
    uint8_t *formats;     /* ek_format of each port */
    uint8_t **bound;      /* the buffer of each port; null: not bound yet */
};

static inline const void *ek_step_params(const ek_step *step)
{
    return step + 1;
}

static inline const ek_tiles *ek_step_tiles(const ek_step *step)
{
    return (const void *)((const uint8_t *)(step + 1) + step->params_bytes);
}

static inline const ek_cut *ek_step_cut(const ek_step *step)
{
    return (const void *)((const uint8_t *)step + step->bytes - sizeof(ek_cut));
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
