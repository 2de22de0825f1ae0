/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of kernels.
 */
#include "../include/edgekit/edgekit.h"
#include "kernels.h"

#define EK_SUPPORTS_NO(stem) NULL
#define EK_SUPPORTS_YES(stem) ek_##stem##_supports
#define EK_SCRATCH_NO(stem) NULL
#define EK_SCRATCH_YES(stem) ek_##stem##_scratch

/* vpdpbusd multiplies unsigned bytes by signed ones. */
#define EK_UNSIGNED_SETS (EK_KERNELS_AVXVNNI | EK_KERNELS_AVX512VNNI)
#define EK_X_OFFSET(kind, set) \
    (EK_KIND_##kind == EK_KIND_CONV2D && (EK_KERNELS_##set & EK_UNSIGNED_SETS) != 0 ? 128 : 0)

const ek_kernel *ek_kernel_list(size_t *count)
{
    static const ek_kernel list[] = {
#define EK_KERNEL(kind, set, stem, supports, scratch, tile_n, tile_k)                      \
    {EK_KIND_##kind,           EK_KERNELS_##set,       #stem, ek_##stem,                   \
     EK_SUPPORTS_##supports(stem), EK_SCRATCH_##scratch(stem), tile_n, tile_k,              \
     EK_X_OFFSET(kind, set)},
#include "kernels.def"
#undef EK_KERNEL
    };
    *count = sizeof list / sizeof list[0];
    return list;
}
