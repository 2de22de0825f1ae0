/* SPDX-License-Identifier: Apache-2.0
 *
 * Prototypes of every kernel, from the list.
 */
#ifndef EK_KERNELS_H
#define EK_KERNELS_H

#include "kernel.h"

#define EK_DECLARE_NO(prototype)
#define EK_DECLARE_YES(prototype) prototype;

#define EK_KERNEL(kind, set, stem, supports, scratch, tile_n, tile_k)                           \
    void ek_##stem(const void *params, const void *const in[], void *out, void *scratch_memory, \
                   const ek_range *range);                                                      \
    EK_DECLARE_##supports(int ek_##stem##_supports(const void *params))                         \
    EK_DECLARE_##scratch(size_t ek_##stem##_scratch(const void *params))
#include "kernels.def"
#undef EK_KERNEL

/* Of the kernels that are not always faster: ek_kernel.pays. */
int ek_conv2d_first_avx512vnni_pays(const void *params);
int ek_winograd_avx512vnni_pays(const void *params);
int ek_winograd_avx2_pays(const void *params);
int ek_winograd_sse41_pays(const void *params);

#endif /* EK_KERNELS_H */
