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

/* The stems of kernels of other sets that take unsigned bytes, too; others have no such name. */
#define EK_OFFSET_dense_avx2 ~, 128
#define EK_OFFSET_dense_sse41 ~, 128

/* And those of kernels with a `block`. */
#define EK_BLOCK_winograd_avx512vnni ~, 4
#define EK_BLOCK_winograd_avx2 ~, 4
#define EK_BLOCK_winograd_sse41 ~, 4
#define EK_BLOCK_winograd_neon ~, 4

/* And those of kernels with an estimate. */
#define EK_PAYS_conv2d_first_avx512vnni ~, ek_conv2d_first_avx512vnni_pays
#define EK_PAYS_winograd_avx512vnni ~, ek_winograd_avx512vnni_pays
#define EK_PAYS_winograd_avx2 ~, ek_winograd_avx2_pays
#define EK_PAYS_winograd_sse41 ~, ek_winograd_sse41_pays

/* What follows the comma of a name that is defined, or else 0. */
#define EK_SECOND(first, second, ...) second
#define EK_SECOND_OF(...) EK_SECOND(__VA_ARGS__, 0, 0)
#define EK_BLOCK(stem) EK_SECOND_OF(EK_BLOCK_##stem)
#define EK_OFFSET(stem) EK_SECOND_OF(EK_OFFSET_##stem)
#define EK_PAYS(stem) EK_SECOND_OF(EK_PAYS_##stem)

const ek_kernel *ek_kernel_list(size_t *count)
{
    static const ek_kernel list[] = {
#define EK_KERNEL(kind, set, stem, supports, scratch, tile_n, tile_k)                      \
    {EK_KIND_##kind,           EK_KERNELS_##set,       #stem, ek_##stem,                   \
     EK_SUPPORTS_##supports(stem), EK_SCRATCH_##scratch(stem), tile_n, tile_k,              \
     EK_X_OFFSET(kind, set) + EK_OFFSET(stem), EK_BLOCK(stem), EK_PAYS(stem)},
#include "kernels.def"
#undef EK_KERNEL
    };
    *count = sizeof list / sizeof list[0];
    return list;
}
