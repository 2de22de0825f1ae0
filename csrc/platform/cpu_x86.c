/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel sets of an x86 processor: CPUID says what it has, XCR0 which registers the operating
 * system saves (Intel SDM volume 1, chapter 14.3; volume 2, CPUID).
 */
#include "edgekit/edgekit_cpu.h"

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

#define BIT(n) (1u << (n))

/* CPUID leaf 1, ECX. */
#define SSSE3 BIT(9)
#define SSE41 BIT(19)
#define OSXSAVE BIT(27)
#define AVX BIT(28)
/* Leaf 7, EBX and ECX; its subleaf 1, EAX. */
#define AVX2 BIT(5)
#define AVX512_F_DQ_BW_VL (BIT(16) | BIT(17) | BIT(30) | BIT(31))
#define AVX512_VBMI BIT(1)
#define AVX512_VNNI BIT(11)
#define AVX_VNNI BIT(4)
/* XCR0: XMM and YMM; with them mask registers and both halves of ZMM. */
#define XCR0_AVX 0x06u
#define XCR0_AVX512 0xE6u

typedef struct registers {
    unsigned eax, ebx, ecx, edx;
} registers;

/* Zeros for a leaf that the processor does not have. */
static registers cpuid(unsigned leaf, unsigned subleaf)
{
    registers r = {0, 0, 0, 0};
    if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx))
        return (registers){0, 0, 0, 0};
    return r;
}

/* Only where OSXSAVE is set. As bytes: the instruction needs no compiler flag then. */
static unsigned xcr0(void)
{
    unsigned low, high;
    __asm__ volatile(".byte 0x0F, 0x01, 0xD0" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has(unsigned word, unsigned bits)
{
    return (word & bits) == bits;
}

ek_kernels ek_cpu_kernels(void)
{
    ek_kernels kernels = EK_KERNELS_SCALAR;
    const registers leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0);
    const unsigned saved = has(leaf1.ecx, OSXSAVE) ? xcr0() : 0;
    if (has(leaf1.ecx, SSSE3 | SSE41))
        kernels |= EK_KERNELS_SSE41;
    if (!has(saved, XCR0_AVX) || !has(leaf1.ecx, AVX) || !has(leaf7.ebx, AVX2))
        return kernels;
    kernels |= EK_KERNELS_AVX2;
    /* EAX of subleaf 0 is the number of the last subleaf. */
    if (leaf7.eax >= 1 && has(cpuid(7, 1).eax, AVX_VNNI))
        kernels |= EK_KERNELS_AVXVNNI;
    if (!has(saved, XCR0_AVX512) || !has(leaf7.ebx, AVX512_F_DQ_BW_VL) ||
        !has(leaf7.ecx, AVX512_VNNI))
        return kernels;
    kernels |= EK_KERNELS_AVX512VNNI;
    if (has(leaf7.ecx, AVX512_VBMI))
        kernels |= EK_KERNELS_AVX512VBMI;
    return kernels;
}

#endif
