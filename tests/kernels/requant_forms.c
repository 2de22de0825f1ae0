/* SPDX-License-Identifier: Apache-2.0
 *
 * Both forms of requant.h, and requant_fixed.h, on the same cases, most of them aimed at ties:
 *
 *     requant_forms SEED CASES
 *
 * prints how many cases of each function it compared; the first that differs ends it with 1.
 */
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernel.h"

int8_t integer_requantize(int32_t acc, float multiplier, const ek_clamp *clamp);
int8_t integer_fixed(int32_t acc, float multiplier, const ek_clamp *clamp);
int8_t integer_round(float v, const ek_clamp *clamp);
int8_t integer_sum(int32_t a, float ma, int32_t b, float mb, const ek_clamp *clamp);
int8_t float_requantize(int32_t acc, float multiplier, const ek_clamp *clamp);
int8_t float_round(float v, const ek_clamp *clamp);
int8_t float_sum(int32_t a, float ma, int32_t b, float mb, const ek_clamp *clamp);

static uint64_t state;
static uint64_t cases[3];

static uint32_t any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static float from_bits(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t to_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* Zero points at their ends as often as between; mostly the whole type. */
static ek_clamp any_clamp(void)
{
    const int32_t zero = any() % 4 ? (int32_t)(any() % 256) - 128 : any() % 2 ? 127 : -128;
    ek_clamp clamp = {zero, -128, 127};
    if (any() % 4 == 0) {
        const int32_t a = (int32_t)(any() % 256) - 128, b = (int32_t)(any() % 256) - 128;
        clamp.lo = a < b ? a : b;
        clamp.hi = a < b ? b : a;
    }
    return clamp;
}

static void fail(const char *what, int32_t a, float ma, int32_t b, float mb, const ek_clamp *clamp)
{
    printf("%s(%" PRId32 ", %a, %" PRId32 ", %a) zero %d in [%d, %d] differs\n", what, a, (double)ma, b,
           (double)mb, (int)clamp->zero, (int)clamp->lo, (int)clamp->hi);
    exit(1);
}

static void requantize(int32_t acc, float multiplier)
{
    const ek_clamp clamp = any_clamp();
    cases[0]++;
    if (integer_requantize(acc, multiplier, &clamp) != float_requantize(acc, multiplier, &clamp))
        fail("requantize", acc, multiplier, 0, 0, &clamp);
    if (integer_fixed(acc, multiplier, &clamp) != float_requantize(acc, multiplier, &clamp))
        fail("fixed", acc, multiplier, 0, 0, &clamp);
}

static void round_one(float v)
{
    const ek_clamp clamp = any_clamp();
    cases[1]++;
    if (integer_round(v, &clamp) != float_round(v, &clamp))
        fail("round", 0, v, 0, 0, &clamp);
}

static void sum(int32_t a, float ma, int32_t b, float mb)
{
    const ek_clamp clamp = any_clamp();
    cases[2]++;
    if (integer_sum(a, ma, b, mb, &clamp) != float_sum(a, ma, b, mb, &clamp))
        fail("sum", a, ma, b, mb, &clamp);
}

/* 2^low to 2^(high + 1), or a power of two. */
static float any_multiplier(int32_t low, int32_t high)
{
    const uint32_t exponent = (uint32_t)(127 + low + (int32_t)(any() % (uint32_t)(high - low + 1)));
    return from_bits(exponent << 23 | (any() % 8 ? any() & 0x7FFFFF : 0));
}

static int32_t any_accumulator(void)
{
    switch (any() % 16) {
    case 0: return INT32_MAX - (int32_t)(any() % 3);
    case 1: return INT32_MIN + (int32_t)(any() % 3);
    case 2: return (int32_t)(any() % 5) - 2;
    case 3: return (int32_t)((1u << 24) + any() % 65) - 32; /* where f32(acc) begins to round */
    default: return (int32_t)any() >> any() % 31;
    }
}

/* What stands on a tie, and next to it: a multiplier for this sum, a sum for this multiplier. */
static void near_ties(int32_t acc, float multiplier)
{
    const double tie = (double)(any() % 1024) - 512 + 0.5;
    const float exact = acc == 0 ? 1 : (float)fabs(tie / (double)acc);
    if (exact >= 0x1p-96f && exact <= 0x1p64f)
        for (int32_t step = -3; step <= 3; step++) {
            requantize(acc, from_bits(to_bits(exact) + (uint32_t)step));
            requantize(acc == INT32_MIN ? INT32_MAX : -acc, from_bits(to_bits(exact) + (uint32_t)step));
        }
    const double at = tie / (double)multiplier;
    if (fabs(at) < 2147483000.0)
        for (int32_t step = -2; step <= 2; step++)
            requantize((int32_t)at + step, multiplier);
}

/* Beside ties by few units of the last place, and any bits at all. */
static void rounding(void)
{
    const float tie = (float)((int32_t)(any() % 1024) - 512) + 0.5f;
    for (int32_t step = -2; step <= 2; step++)
        round_one(from_bits(to_bits(tie) + (uint32_t)step));
    round_one(from_bits(any()));
}

static void sums(void)
{
    const int32_t a = (int32_t)(any() % 511) - 255, b = (int32_t)(any() % 511) - 255;
    const float ma = any_multiplier(any() % 4 ? -10 : -96, any() % 4 ? 5 : 63);
    const float mb = any_multiplier(-10, 4) * (any() % 2 ? 1.0f : -1.0f);
    sum(a, ma, b, mb);
    sum(a, ma, b, any() % 2 ? ma : -ma);
    if (b != 0) { /* the second multiplier puts the sum on a tie */
        const float exact = (float)(((double)(any() % 512) - 256 + 0.5 - (double)a * (double)ma) / b);
        if (fabsf(exact) >= 0x1p-96f && fabsf(exact) <= 0x1p64f)
            for (int32_t step = -2; step <= 2; step++)
                sum(a, ma, b, from_bits(to_bits(exact) + (uint32_t)step));
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    state = strtoull(argv[1], NULL, 10) * 0x9E3779B97F4A7C15u + 1;
    const uint64_t wanted = strtoull(argv[2], NULL, 10);
    while (cases[0] + cases[1] + cases[2] < wanted) {
        const int32_t acc = any_accumulator();
        const float multiplier = any() % 8 ? any_multiplier(-34, 0) : any_multiplier(-96, 63);
        requantize(acc, multiplier);
        near_ties(acc, multiplier);
        rounding();
        sums();
    }
    printf("requantize %" PRIu64 " round %" PRIu64 " sum %" PRIu64 "\n", cases[0], cases[1], cases[2]);
    return 0;
}
