/* SPDX-License-Identifier: Apache-2.0
 *
 * What this processor can do at most: multiply-accumulates per second of its int8 instructions.
 *
 *     cc -O2 -std=gnu11 benchmarks/peaks.c -o peaks && ./peaks
 *
 * prints a line of JSON, instruction -> GMAC/s on one core (peaks.h); nothing in it where no loop is
 * written for the processor.
 */
#include <stdio.h>

#include "peaks.h"

#ifdef __x86_64__
#include <cpuid.h>

PEAK(peak_vpdpbusd_ymm, "avx512f,avx512vl,avx512vnni",
     "vpdpbusd %%ymm14, %%ymm15, %%ymm\\n\n", 32)

/* Compilers that know the instructions do not all know how to ask for them. */
static int has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d)
           && (a & 1 << 4);
}

static void print(const char *name, double (*round)(void))
{
    static const char *separator = "";
    printf("%s\"%s\": %.2f", separator, name, best_peak(round) * 1e-9);
    separator = ", ";
}

static void print_all(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni"))
        print("vpdpbusd zmm", peak_vpdpbusd_zmm);
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl"))
        print("vpdpbusd ymm", peak_vpdpbusd_ymm);
    else if (has_avxvnni())
        print("vpdpbusd ymm", peak_vpdpbusd_vex);
    if (__builtin_cpu_supports("avx2"))
        print("pmaddwd+paddd ymm", peak_pmaddwd_ymm);
    print("pmaddwd+paddd xmm", peak_pmaddwd_xmm);
}
#endif

int main(void)
{
    printf("{");
#ifdef __x86_64__
    print_all();
#endif
    printf("}\n");
    return 0;
}
