/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers of one row: a walk over weights, each of which is used once. What bounds them is how
 * fast weights arrive, and, as tiny networks consist of such layers, what a call costs before its
 * first and behind its last product.
 */
#ifndef EK_DENSE_H
#define EK_DENSE_H

#include "../kernels.h"
#include "../window.h"

#define TILE_N 16
#define TILE_K 4

/* Whether the convolution is a dense layer of one row. */
static inline int ek_is_one_row(const ek_conv_params *p)
{
    return p->out.w == 1 && p->out.h == 1 && p->out.n == 1 && p->in.w == 1 && p->in.h == 1
        && p->kernel_h == 1 && p->kernel_w == 1 && p->pad_top == 0 && p->pad_left == 0
        && p->groups == 1;
}

static inline int ek_dense_supports(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K && ek_is_one_row(p);
}

#endif /* EK_DENSE_H */
