/* SPDX-License-Identifier: Apache-2.0
 *
 * What this processor can do at most: multiply-accumulates per second of its int8 instructions.
 *
 *     cc -O2 -std=gnu11 benchmarks/peaks.c -o peaks && ./peaks
 *
 * prints a line of JSON, instruction -> GMAC/s on one core, the best of short rounds. Each loop has
 * twelve independent chains, which hides the latency of these instructions on every x86 processor,
 * and no loads.
 */
#include <stdio.h>
#include <time.h>

#define REPEATS 4000
#define ROUNDS 12

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifdef __x86_64__
#include <cpuid.h>

#define CHAINS 12
#define CLOBBERS                                                                                   \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm13"
#define TWELVE(body) ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11\n" body ".endr"

/* Each returns multiply-accumulates per second of one round. */
#define PEAK(name, isa, body, macs_per_chain)                                                      \
    __attribute__((target(isa))) static double name(void)                                          \
    {                                                                                              \
        const double start = now();                                                                \
        for (int i = 0; i < REPEATS; i++)                                                          \
            __asm__ volatile(TWELVE(body)::: CLOBBERS);                                            \
        return (double)REPEATS * CHAINS * (macs_per_chain) / (now() - start);                      \
    }

PEAK(vpdpbusd_zmm, "avx512f,avx512vnni", "vpdpbusd %%zmm14, %%zmm15, %%zmm\\n\n", 64)
PEAK(vpdpbusd_ymm, "avx512f,avx512vl,avx512vnni", "vpdpbusd %%ymm14, %%ymm15, %%ymm\\n\n", 32)
PEAK(vpdpbusd_vex, "avxvnni", "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm\\n\n", 32)
PEAK(pmaddwd_ymm, "avx2",
     "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n"
     "vpaddd %%ymm13, %%ymm\\n, %%ymm\\n\n",
     16)
/* The first operand is overwritten, so a copy of it comes before, as in any SSE kernel. */
PEAK(pmaddwd_xmm, "sse2",
     "movdqa %%xmm14, %%xmm13\n"
     "pmaddwd %%xmm15, %%xmm13\n"
     "paddd %%xmm13, %%xmm\\n\n",
     8)

/* Compilers that know the instructions do not all know how to ask for them. */
static int has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d)
           && (a & 1 << 4);
}

/* GMAC/s */
static double best(double (*round)(void))
{
    double most = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const double speed = round();
        most = speed > most ? speed : most;
    }
    return most * 1e-9;
}

static void print(const char *name, double (*round)(void))
{
    static const char *separator = "";
    printf("%s\"%s\": %.2f", separator, name, best(round));
    separator = ", ";
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroupper"); /* SSE instructions would drag the upper halves along */
}

static void print_all(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni"))
        print("vpdpbusd zmm", vpdpbusd_zmm);
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl"))
        print("vpdpbusd ymm", vpdpbusd_ymm);
    else if (has_avxvnni())
        print("vpdpbusd ymm", vpdpbusd_vex);
    if (__builtin_cpu_supports("avx2"))
        print("pmaddwd+paddd ymm", pmaddwd_ymm);
    print("pmaddwd+paddd xmm", pmaddwd_xmm);
}

#else

/* The chains are written for x86 only: no peak, and so no shares. */
static void print_all(void)
{
}

#endif

int main(void)
{
    printf("{");
    print_all();
    printf("}\n");
    return 0;
}
