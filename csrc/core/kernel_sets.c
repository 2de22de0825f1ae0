/* SPDX-License-Identifier: Apache-2.0
 *
 * ek_kernels_built and ek_kernels_name: the kernel sets of csrc/kernels/sets.toml.
 */
#include "../include/edgekit/edgekit.h"
#include "../kernels/kernel.h"

ek_kernels ek_kernels_built(void)
{
    size_t count;
    const ek_kernel *list = ek_kernel_list(&count);
    ek_kernels built = 0;
    for (size_t i = 0; i < count; i++)
        built |= list[i].set;
    return built;
}

const char *ek_kernels_name(ek_kernels single_bit)
{
    switch (single_bit) {
    case EK_KERNELS_SCALAR: return "scalar";
    case EK_KERNELS_SSE41: return "sse41";
    case EK_KERNELS_AVX2: return "avx2";
    case EK_KERNELS_AVXVNNI: return "avxvnni";
    case EK_KERNELS_AVX512VNNI: return "avx512vnni";
    case EK_KERNELS_AVX512VBMI: return "avx512vbmi";
    case EK_KERNELS_NEON: return "neon";
    case EK_KERNELS_NEON_DOTPROD: return "neon_dotprod";
    case EK_KERNELS_NEON_I8MM: return "neon_i8mm";
    case EK_KERNELS_CORTEXM_V6M: return "cortexm_v6m";
    case EK_KERNELS_CORTEXM_DSP: return "cortexm_dsp";
    case EK_KERNELS_CORTEXM_MVE: return "cortexm_mve";
    default: return NULL;
    }
}
