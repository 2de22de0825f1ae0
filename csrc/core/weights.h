/* SPDX-License-Identifier: Apache-2.0
 *
 * Stored weights and how they become what a kernel wants.
 */
#ifndef EK_WEIGHTS_H
#define EK_WEIGHTS_H

#include "model.h"

/* A weight tensor as a matrix of `rows` = dims[0] by `depth` = the product of the others. For
 * CONV2D and dense layers a row is an output channel; for DEPTHWISE ones, [kh][kw][o], channels are
 * the innermost dimension. */
typedef struct ek_stored_weights {
    const uint8_t *data;
    uint32_t bytes;
    int32_t rows, depth;
    uint8_t encoding, tile_n, tile_k;
} ek_stored_weights;

ek_stored_weights ek_stored(const ek_model *model, const ek_tensor_record *tensor);

/* Bytes of `channels` rows in a packing; tile_n = tile_k = 0 is DENSE. */
uint64_t ek_packed_bytes(uint64_t channels, uint64_t depth, int32_t tile_n, int32_t tile_k);

/* Rows [row, row + count) of weights that are no depthwise ones into `out`, in another packing,
 * zero-filled. tile_k is a power of two. */
void ek_unpack_rows(const ek_stored_weights *stored, int32_t row, int32_t count, int32_t tile_n,
                    int32_t tile_k, int8_t *out);

/* Of SPARSE depthwise weights, channels [channel, channel + count) of all taps, dense:
 * [kh * kw][count]. */
void ek_unpack_depthwise(const ek_stored_weights *stored, int32_t channels, int32_t channel,
                         int32_t count, int8_t *out);

/* Whether no weight is -128. Reads all of them. */
int ek_weights_pairs_fit(const ek_stored_weights *stored);

/* out[row] = start[row] - offset * the sum of the row's weights, for all rows; wraps. */
void ek_offset_start(const ek_stored_weights *stored, const int32_t *start, int32_t offset,
                     int32_t *out);

#endif /* EK_WEIGHTS_H */
