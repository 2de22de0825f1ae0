/* SPDX-License-Identifier: Apache-2.0
 *
 * A walk over an array of up to EK_MAX_RANK dimensions with three strided positions.
 *
 *     ek_walk walk = ek_walk_begin(rank, dims, range);
 *     ... strides of the positions in use ...
 *     ek_walk_order(&walk);
 *     do {
 *         ... a loop over the innermost dimension from walk.at[] ...
 *     } while (ek_walk_next(&walk));
 */
#ifndef EK_WALK_H
#define EK_WALK_H

#include "kernel.h"

enum { EK_WALK_IN, EK_WALK_OUT, EK_WALK_TABLE, EK_WALK_POSITIONS };

typedef struct ek_walk {
    int32_t rank; /* at least 1 */
    int32_t dims[EK_MAX_RANK];
    int32_t index[EK_MAX_RANK];
    int32_t first; /* of the range over dimension 0 */
    ptrdiff_t stride[EK_WALK_POSITIONS][EK_MAX_RANK];
    ptrdiff_t at[EK_WALK_POSITIONS];
} ek_walk;

/* The part of the array that `range` names: rows of dimension 0. Strides are zero. */
static inline ek_walk ek_walk_begin(int32_t rank, const int32_t *dims, const ek_range *range)
{
    ek_walk walk = {0};
    walk.rank = rank > 0 ? rank : 1;
    walk.dims[0] = range->row_end - range->row;
    walk.first = range->row;
    for (int32_t d = 1; d < rank; d++)
        walk.dims[d] = dims[d];
    return walk;
}

/* Gives one position its strides and its start at the range's first row. */
static inline void ek_walk_position(ek_walk *walk, int position, const int32_t *strides,
                                    ptrdiff_t offset)
{
    for (int32_t d = 0; d < walk->rank; d++)
        walk->stride[position][d] = strides[d];
    walk->at[position] = offset + walk->first * walk->stride[position][0];
}

/* From an input of any strides to a contiguous output of `dims`. */
static inline void ek_walk_to_contiguous(ek_walk *walk, const int32_t *in_stride,
                                         const int32_t *dims)
{
    int32_t out_stride[EK_MAX_RANK];
    int32_t stride = 1;
    ek_walk_position(walk, EK_WALK_IN, in_stride, 0);
    for (int32_t d = walk->rank; d-- > 0;) {
        out_stride[d] = stride;
        stride *= d > 0 ? dims[d] : 1;
    }
    ek_walk_position(walk, EK_WALK_OUT, out_stride, 0);
}

/* Makes the longest dimension the innermost, unless the innermost is long already: no order
 * changes what is written where, but a loop over three channels is a poor one. */
static inline void ek_walk_order(ek_walk *walk)
{
    const int32_t last = walk->rank - 1;
    int32_t longest = last;
    if (walk->dims[last] >= 16)
        return;
    for (int32_t d = 0; d < last; d++)
        longest = walk->dims[d] > walk->dims[longest] ? d : longest;
    const int32_t dim = walk->dims[longest];
    walk->dims[longest] = walk->dims[last];
    walk->dims[last] = dim;
    for (int position = 0; position < EK_WALK_POSITIONS; position++) {
        const ptrdiff_t stride = walk->stride[position][longest];
        walk->stride[position][longest] = walk->stride[position][last];
        walk->stride[position][last] = stride;
    }
}

/* Steps to the next start of the innermost dimension; 0 after the last. */
static inline int ek_walk_next(ek_walk *walk)
{
    for (int32_t d = walk->rank - 1; d-- > 0;) {
        const int wraps = ++walk->index[d] == walk->dims[d];
        const ptrdiff_t steps = wraps ? 1 - walk->dims[d] : 1;
        for (int position = 0; position < EK_WALK_POSITIONS; position++)
            walk->at[position] += steps * walk->stride[position][d];
        if (!wraps)
            return 1;
        walk->index[d] = 0;
    }
    return 0;
}

#endif /* EK_WALK_H */
