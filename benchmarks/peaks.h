/* SPDX-License-Identifier: Apache-2.0
 *
 * What one core can do at most: multiply-accumulates per second of the int8 instructions of x86. Each
 * loop has twelve independent chains, which hides the latency of these instructions on every x86
 * processor, and no loads. For other processors no loop is written.
 */
#ifndef PEAKS_H
#define PEAKS_H

#include <time.h>

/* Seconds since any moment. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifdef __x86_64__

#define PEAK_REPEATS 4000
#define PEAK_ROUNDS 400
#define PEAK_CHAINS 12
#define PEAK_CLOBBERS                                                                              \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm13"
#define PEAK_BODY(body) ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11\n" body ".endr"

/* Each returns multiply-accumulates per second of one round. */
#define PEAK(name, isa, body, macs_per_chain)                                                      \
    __attribute__((target(isa))) static double name(void)                                          \
    {                                                                                              \
        const double start = now();                                                                \
        for (int i = 0; i < PEAK_REPEATS; i++)                                                     \
            __asm__ volatile(PEAK_BODY(body)::: PEAK_CLOBBERS);                                    \
        return (double)PEAK_REPEATS * PEAK_CHAINS * (macs_per_chain) / (now() - start);            \
    }

PEAK(peak_vpdpbusd_zmm, "avx512f,avx512vnni", "vpdpbusd %%zmm14, %%zmm15, %%zmm\\n\n", 64)
/* AVX-VNNI's encoding. */
PEAK(peak_vpdpbusd_vex, "avxvnni", "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm\\n\n", 32)
PEAK(peak_pmaddwd_ymm, "avx2",
     "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n"
     "vpaddd %%ymm13, %%ymm\\n, %%ymm\\n\n",
     16)
/* The first operand is overwritten, so a copy of it comes before, as in any SSE kernel. */
PEAK(peak_pmaddwd_xmm, "sse2",
     "movdqa %%xmm14, %%xmm13\n"
     "pmaddwd %%xmm15, %%xmm13\n"
     "paddd %%xmm13, %%xmm\\n\n",
     8)

/* The best of short rounds. */
static double best_peak(double (*round)(void))
{
    double most = 0;
    for (int i = 0; i < PEAK_ROUNDS; i++) {
        const double speed = round();
        most = speed > most ? speed : most;
    }
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroupper"); /* SSE instructions would drag the upper halves along */
    return most;
}

#endif

#endif /* PEAKS_H */
