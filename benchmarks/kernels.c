/* SPDX-License-Identifier: Apache-2.0
 *
 * Speed of single kernels on layers of real networks, against this processor's peak.
 *
 *     scons && gcc -O2 -std=gnu11 benchmarks/kernels.c build/host/libedgekit.a -o kernels
 *     ./kernels [LAYER [KERNEL]]
 *
 * LAYER and KERNEL are parts of names.
 *
 * Each figure is the best of many short rounds, so that other work on the machine disturbs little. Its
 * share is that of the peak of the multiply-add instructions that the kernel's set has (peaks.h):
 * vpdpbusd in 512-bit or 256-bit registers, or pmaddwd and paddd in 256-bit or 128-bit ones, measured in
 * the same run. Kernels that only pass over their input are measured in bytes of output.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../csrc/include/edgekit/edgekit_cpu.h"
#include "../csrc/kernels/kernel.h"
#include "peaks.h"

#define ROUND_SECONDS 0.0005
#define ROUNDS 300

typedef struct layer {
    const char *name;
    ek_kernel_kind kind;
    int32_t size_h, size_w, in_c, kernel_h, kernel_w, stride, out_c;
    int32_t pad; /* all round; SAME: as much as makes size / stride outputs, rounded up */
} layer;

#define SAME -1

#define CONV EK_KIND_CONV2D
#define DW EK_KIND_DEPTHWISE
static const layer layers[] = {
    {"resnet8 3x3 first", CONV, 32, 32, 3, 3, 3, 1, 16, 1},
    {"resnet8 3x3 16-16", CONV, 32, 32, 16, 3, 3, 1, 16, 1},
    {"resnet8 3x3 32-32", CONV, 16, 16, 32, 3, 3, 1, 32, 1},
    {"resnet8 3x3 64-64", CONV, 8, 8, 64, 3, 3, 1, 64, 1},
    {"resnet8 1x1/2 32-64", CONV, 16, 16, 32, 1, 1, 2, 64, 0},
    {"dscnn 10x4/2 first", CONV, 49, 10, 1, 10, 4, 2, 64, SAME},
    {"dscnn 1x1 64-64", CONV, 25, 5, 64, 1, 1, 1, 64, 0},
    {"mobilenet 3x3/2 first", CONV, 96, 96, 3, 3, 3, 2, 8, 1},
    {"mobilenet 1x1 8-16", CONV, 48, 48, 8, 1, 1, 1, 16, 0},
    {"mobilenet 1x1 16-32", CONV, 24, 24, 16, 1, 1, 1, 32, 0},
    {"mobilenet 1x1 32-32", CONV, 24, 24, 32, 1, 1, 1, 32, 0},
    {"mobilenet 1x1 64-64", CONV, 12, 12, 64, 1, 1, 1, 64, 0},
    {"mobilenet 1x1 128-128", CONV, 6, 6, 128, 1, 1, 1, 128, 0},
    {"mobilenet 1x1 256-256", CONV, 3, 3, 256, 1, 1, 1, 256, 0},
    {"resnet50 7x7/2 first", CONV, 224, 224, 3, 7, 7, 2, 64, 3},
    {"mobilenetv2 3x3/2 first", CONV, 224, 224, 3, 3, 3, 2, 32, 1},
    {"squeezenet 3x3/2 first", CONV, 224, 224, 3, 3, 3, 2, 64, 0},
    {"resnet50 3x3 64-64", CONV, 56, 56, 64, 3, 3, 1, 64, 1},
    {"resnet50 3x3 128-128", CONV, 28, 28, 128, 3, 3, 1, 128, 1},
    {"resnet50 3x3 256-256", CONV, 14, 14, 256, 3, 3, 1, 256, 1},
    {"resnet50 3x3 512-512", CONV, 7, 7, 512, 3, 3, 1, 512, 1},
    {"squeezenet 3x3 16-64", CONV, 55, 55, 16, 3, 3, 1, 64, 1},
    {"squeezenet 3x3 32-128", CONV, 27, 27, 32, 3, 3, 1, 128, 1},
    {"squeezenet 3x3 64-256", CONV, 13, 13, 64, 3, 3, 1, 256, 1},
    {"resnet50 1x1 64-64", CONV, 56, 56, 64, 1, 1, 1, 64, 0},
    {"resnet50 1x1 64-256", CONV, 56, 56, 64, 1, 1, 1, 256, 0},
    {"resnet50 1x1 256-64", CONV, 56, 56, 256, 1, 1, 1, 64, 0},
    {"resnet50 1x1 1024-256", CONV, 14, 14, 1024, 1, 1, 1, 256, 0},
    {"resnet50 1x1 512-2048", CONV, 7, 7, 512, 1, 1, 1, 2048, 0},
    {"mobilenetv2 1x1 24-144", CONV, 56, 56, 24, 1, 1, 1, 144, 0},
    {"mobilenetv2 1x1 144-24", CONV, 56, 56, 144, 1, 1, 1, 24, 0},
    {"autoencoder 640-128", CONV, 1, 1, 640, 1, 1, 1, 128, 0},
    {"autoencoder 128-640", CONV, 1, 1, 128, 1, 1, 1, 640, 0},
    {"dscnn dw 3x3 64", DW, 25, 5, 64, 3, 3, 1, 64, 1},
    {"mobilenet dw 3x3 8", DW, 48, 48, 8, 3, 3, 1, 8, 1},
    {"mobilenet dw 3x3/2 16", DW, 48, 48, 16, 3, 3, 2, 16, 1},
    {"mobilenet dw 3x3 32", DW, 24, 24, 32, 3, 3, 1, 32, 1},
    {"mobilenet dw 3x3 128", DW, 6, 6, 128, 3, 3, 1, 128, 1},
    {"mobilenetv2 dw 3x3 144", DW, 56, 56, 144, 3, 3, 1, 144, 1},
    {"mobilenetv2 dw 3x3/2 96", DW, 112, 112, 96, 3, 3, 2, 96, 1},
    {"efficientnet dw 5x5 64", DW, 28, 28, 64, 5, 5, 1, 64, 2},
};

/* Multiply-accumulates per second that the set's instructions allow; 0: not known. */
static double peak_of(uint32_t set)
{
#ifdef __x86_64__
    static double few_pairs, pairs, vnni256, vnni512;
    if (set == EK_KERNELS_AVX512VNNI)
        return vnni512 = vnni512 > 0 ? vnni512 : best_peak(peak_vpdpbusd_zmm);
    if (set == EK_KERNELS_AVXVNNI)
        return vnni256 = vnni256 > 0 ? vnni256 : best_peak(peak_vpdpbusd_vex);
    if (set == EK_KERNELS_SSE41)
        return few_pairs = few_pairs > 0 ? few_pairs : best_peak(peak_pmaddwd_xmm);
    if (ek_cpu_kernels() & EK_KERNELS_AVX2)
        return pairs = pairs > 0 ? pairs : best_peak(peak_pmaddwd_ymm);
#endif
    (void)set;
    return 0;
}

static ek_image image(int32_t h, int32_t w, int32_t c)
{
    return (ek_image){1, h, w, c, h * w * c, w * c, c};
}

static void *filled(size_t bytes)
{
    uint8_t *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(rand() >> 7);
    return p;
}

/* Seconds of one call, and the best of many rounds. */
static double best_seconds(const ek_kernel *kernel, const void *p, const void *const in[], void *y,
                           void *scratch, const ek_range *range)
{
    double best = 1e9;
    int calls = 1;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = now();
        for (int i = 0; i < calls; i++)
            kernel->run(p, in, y, scratch, range);
        const double seconds = now() - start;
        best = seconds / calls < best ? seconds / calls : best;
        if (seconds < ROUND_SECONDS / 2)
            calls *= 2;
    }
    return best;
}

/* Of one dimension. */
static int32_t outputs(int32_t size, int32_t kernel, const layer *l)
{
    if (l->pad == SAME)
        return (size + l->stride - 1) / l->stride;
    return (size + 2 * l->pad - kernel) / l->stride + 1;
}

/* Padding in front of one dimension. */
static int32_t before(int32_t size, int32_t kernel, const layer *l)
{
    if (l->pad != SAME)
        return l->pad;
    const int32_t padding = (outputs(size, kernel, l) - 1) * l->stride + kernel - size;
    return padding > 0 ? padding / 2 : 0;
}

static void bench(const ek_kernel *kernel, const layer *l)
{
    ek_conv_params p = {0};
    p.in = image(l->size_h, l->size_w, l->in_c);
    p.out = image(outputs(l->size_h, l->kernel_h, l), outputs(l->size_w, l->kernel_w, l), l->out_c);
    if (l->kind == CONV && l->kernel_h == 1 && l->kernel_w == 1 && l->stride == 1) {
        /* as ek_create does */
        p.in = image(1, l->size_h * l->size_w, l->in_c);
        p.out = image(1, l->size_h * l->size_w, l->out_c);
    }
    p.kernel_h = l->kernel_h, p.kernel_w = l->kernel_w;
    p.stride_h = p.stride_w = l->stride, p.dilation_h = p.dilation_w = 1;
    p.pad_top = before(l->size_h, l->kernel_h, l), p.pad_left = before(l->size_w, l->kernel_w, l);
    p.groups = l->kind == DW ? l->in_c : 1;
    p.clamp = (ek_clamp){3, -128, 127};
    p.weights.tile_n = kernel->tile_n, p.weights.tile_k = kernel->tile_k;
    const int32_t depth = l->kernel_h * l->kernel_w * (l->kind == DW ? 1 : l->in_c);
    p.weights.data = filled((size_t)(depth + 16) * (size_t)(l->out_c + 64));
    p.start = filled((size_t)l->out_c * 4);
    float *m = filled((size_t)l->out_c * 4);
    for (int32_t i = 0; i < l->out_c; i++)
        m[i] = 1e-3f;
    p.multiplier = m;
    if (kernel->supports && !kernel->supports(&p))
        return;

    void *x = filled((size_t)p.in.n_stride), *y = filled((size_t)p.out.n_stride);
    void *scratch = filled(kernel->scratch ? kernel->scratch(&p) : 0);
    const void *in[] = {x};
    const ek_range range = {0, p.out.h, 0, p.out.w, 0, p.out.c};
    const double macs = (double)p.out.h * p.out.w * p.out.c * depth;
    const double best = best_seconds(kernel, &p, in, y, scratch, &range);
    const double peak = peak_of(kernel->set);
    printf("%-24s %-20s %9.2f us %7.1f GMAC/s", l->name, kernel->name, best * 1e6,
           macs / best * 1e-9);
    if (peak > 0)
        printf(" %5.1f %%", 100 * macs / best / peak);
    printf("\n");
    free((void *)p.weights.data), free((void *)p.start), free(m), free(x), free(y), free(scratch);
}

/* Rows of channels, as EfficientNet's 14x14x480; images of float32 come in NCHW. */
typedef struct pass {
    const char *name;
    ek_kernel_kind kind;
    int32_t rows, channels;
} pass;

static const pass passes[] = {
    {"add 32x32x16", EK_KIND_ADD, 1, 32 * 32 * 16},
    {"mul 14x14x480 by 480", EK_KIND_MUL, 14 * 14, 480},
    {"lut 14x14x480", EK_KIND_LUT, 1, 14 * 14 * 480},
    {"quantize 96x96x3 NCHW", EK_KIND_QUANTIZE, 96 * 96, 3},
    {"quantize 32x32x3 NHWC", EK_KIND_QUANTIZE, 1, 32 * 32 * 3},
    {"quantize 7x7x64 NCHW", EK_KIND_QUANTIZE, 7 * 7, 64},
};

static void bench_pass(const ek_kernel *kernel, const pass *l)
{
    const int32_t size = l->rows * l->channels;
    const ek_clamp clamp = {3, -128, 127};
    const ek_broadcast shape = {2, {l->rows, l->channels}, {l->channels, 1}, {0, 1}};
    const ek_add_params add = {shape, 1, 2, 0.5f, 0.25f, clamp};
    const ek_mul_params mul = {shape, 1, 2, 0.01f, clamp};
    const ek_lut_params lut = {size, filled(256)};
    const ek_quantize_params quantize = {2, {l->rows, l->channels}, {1, l->rows}, 0.05f, clamp};
    const void *const params = l->kind == EK_KIND_ADD   ? (const void *)&add
                               : l->kind == EK_KIND_MUL ? (const void *)&mul
                               : l->kind == EK_KIND_LUT ? (const void *)&lut
                                                        : &quantize;
    const int rows_only = l->kind == EK_KIND_QUANTIZE;
    const ek_range range = {0, l->rows, 0, 1, 0, rows_only ? 1 : l->channels};
    const ek_range all = {0, 1, 0, 1, 0, size};
    float *x = filled((size_t)size * sizeof *x);
    void *y = filled((size_t)size);
    const void *in[] = {x, x};
    for (int32_t i = 0; l->kind == EK_KIND_QUANTIZE && i < size; i++)
        x[i] = (float)(rand() % 1000) * 0.01f;
    const double best = best_seconds(kernel, params, in, y, NULL,
                                     l->kind == EK_KIND_LUT ? &all : &range);
    printf("%-24s %-20s %9.2f us %7.1f GB/s\n", l->name, kernel->name, best * 1e6,
           size / best * 1e-9);
    free((void *)lut.table), free(x), free(y);
}

static int is_wanted(const ek_kernel *kernel, ek_kernel_kind kind, const char *layer_name,
                     char **names)
{
    return kernel->kind == kind && (ek_cpu_kernels() & kernel->set)
        && (names[0] == NULL || strstr(layer_name, names[0]))
        && (names[0] == NULL || names[1] == NULL || strstr(kernel->name, names[1]));
}

int main(int argc, char **argv)
{
    (void)argc;
    size_t count;
    const ek_kernel *list = ek_kernel_list(&count);
    const uint32_t sets[] = {EK_KERNELS_SSE41, EK_KERNELS_AVX2, EK_KERNELS_AVXVNNI, EK_KERNELS_AVX512VNNI};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if (ek_cpu_kernels() & sets[i])
            printf("peak of %s: %.1f GMAC/s\n", ek_kernels_name(sets[i]), peak_of(sets[i]) * 1e-9);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        for (size_t k = 0; k < count; k++)
            if (is_wanted(&list[k], layers[i].kind, layers[i].name, argv + 1))
                bench(&list[k], &layers[i]);
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++)
        for (size_t k = 0; k < count; k++)
            if (is_wanted(&list[k], passes[i].kind, passes[i].name, argv + 1))
                bench_pass(&list[k], &passes[i]);
    return 0;
}
