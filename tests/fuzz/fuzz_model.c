/* SPDX-License-Identifier: Apache-2.0
 *
 * The fuzzed path: open a file and, if that succeeds, run one inference with the scalar kernels
 * and one with another choice of kernels, threads and packing. Both must give the same bytes. Every
 * buffer has exactly the size that the library asks for, so that a sanitizer sees one byte beyond.
 */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */

#include "edgekit/edgekit.h"
#include "edgekit/edgekit_cpu.h"
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond these a run would take too long to be worth it. Now and then as much work is allowed as it
 * takes to be cut into parts for threads. */
#define MAX_MEMORY (1u << 18)
#define MAX_WORK (1u << 15)
#define MAX_RARE_WORK (1u << 20)

static uint64_t executions, ran, statuses[64];
static ek_kernels host_kernels; /* asked for once: in a virtual machine that takes microseconds */

static void print_counts(void)
{
    fprintf(stderr, "fuzz: %llu executions, %llu ran\n", (unsigned long long)executions,
            (unsigned long long)ran);
    for (int i = 0; i < 64; i++)
        if (statuses[i] != 0)
            fprintf(stderr, "fuzz: %10llu %s\n", (unsigned long long)statuses[i],
                    ek_status_string((ek_status)i));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    host_kernels = ek_cpu_kernels() & ek_kernels_built();
    atexit(print_counts);
    return 0;
}

/* FNV-1a over words, whose high bits are folded back so that no difference is shifted out. */
static uint64_t hash(const uint8_t *data, size_t size)
{
    uint64_t h = 0xCBF29CE484222325u ^ size;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        memcpy(&word, data + i, size - i < 8 ? size - i : 8);
        h = (h ^ word) * 0x100000001B3u;
        h ^= h >> 32;
    }
    return h;
}

/* Exactly `size` bytes, aligned to EK_ALIGN. */
static uint8_t *allocate(size_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, EK_ALIGN, size == 0 ? 1 : size) != 0)
        abort();
    return memory;
}

/* Runs the parts last to first: any order gives the same result. */
static void backwards(void *context, ek_task task, void *argument, uint32_t count)
{
    const uint32_t threads = *(const uint32_t *)context;
    for (uint32_t i = count; i-- > 0;)
        task(argument, i, i % threads);
}

/* Every operator's output, too, has to be the same with all kernels. */
static void watch(void *context, const ek_op_event *event)
{
    uint64_t *h = context;
    if (event->done)
        *h = *h * 31 + hash(event->data, event->bytes);
}

typedef struct buffers {
    uint8_t **data;
    size_t *bytes;
    ek_format *formats;
    uint32_t inputs, count;
} buffers;

static void describe(const ek_model *model, uint32_t i, uint32_t inputs, ek_io_info *info)
{
    const ek_status status = i < inputs ? ek_input_info(model, i, info)
                                        : ek_output_info(model, i - inputs, info);
    if (status != EK_OK)
        abort();
}

/* Floats of all kinds: any bits, then ordinary ones. */
static void fill(uint8_t *data, size_t bytes, ek_format format, fuzz_random *r)
{
    fuzz_fill(r, data, bytes);
    if (format != EK_FORMAT_FLOAT || fuzz_below(r, 2) == 0)
        return;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        const float value = (float)(int32_t)fuzz_next(r) / (1 << 24);
        memcpy(data + i, &value, sizeof value);
    }
}

static buffers make_buffers(const ek_model *model, fuzz_random *r)
{
    buffers b = {.inputs = ek_input_count(model)};
    b.count = b.inputs + ek_output_count(model);
    b.data = calloc(b.count, sizeof *b.data);
    b.bytes = calloc(b.count, sizeof *b.bytes);
    b.formats = calloc(b.count, sizeof *b.formats);
    for (uint32_t i = 0; i < b.count; i++) {
        ek_io_info info;
        describe(model, i, b.inputs, &info);
        b.formats[i] = info.format;
        if (info.raw_dtype != 0 && fuzz_below(r, 2) == 0)
            b.formats[i] = EK_FORMAT_RAW;
        b.bytes[i] = info.elements * (b.formats[i] == EK_FORMAT_FLOAT ? sizeof(float) : 1);
        b.data[i] = allocate(b.bytes[i]);
        fill(b.data[i], b.bytes[i], b.formats[i], r);
    }
    return b;
}

static void free_buffers(buffers *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        free(b->data[i]);
    free(b->data);
    free(b->bytes);
    free(b->formats);
}

static void bind_all(ek_instance *net, const buffers *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const ek_status status =
            i < b->inputs
                ? ek_bind_input(net, i, b->data[i], b->bytes[i], b->formats[i])
                : ek_bind_output(net, i - b->inputs, b->data[i], b->bytes[i], b->formats[i]);
        if (status != EK_OK)
            abort();
    }
}

/* With STATE two runs, as the second begins with what the first has left. The hash of all outputs,
 * of every operator if `watched`; 0 if this is too large to run. */
static uint64_t run(const ek_model *model, ek_kernels kernels, uint32_t threads, int watched,
                    buffers *b)
{
    const size_t bytes = ek_memory_needed(model, kernels, threads);
    if (bytes == 0 || bytes > MAX_MEMORY)
        return 0;
    uint8_t *memory = allocate(bytes);
    memset(memory, 0xA5, bytes);
    uint64_t h = 1;
    const ek_config config = {.kernels = kernels,
                              .threads = threads,
                              .parallel_for = backwards,
                              .parallel_context = &threads,
                              .on_op = watched ? watch : NULL,
                              .on_op_context = &h};
    ek_instance *net;
    if (ek_create(&net, model, &config, memory, bytes) != EK_OK)
        abort();
    bind_all(net, b);
    for (uint32_t i = 0; i < fuzz_runs(model->bytes); i++) {
        if (ek_run(net) != EK_OK)
            abort();
        for (uint32_t k = b->inputs; k < b->count; k++)
            h = h * 31 + hash(b->data[k], b->bytes[k]);
    }
    free(memory);
    return h;
}

static ek_kernels other_kernels(fuzz_random *r)
{
    const ek_kernels repack = fuzz_below(r, 2) ? EK_REPACK : 0;
    const ek_kernels word = EK_KERNELS_SCALAR | ((ek_kernels)fuzz_next(r) & host_kernels);
    return (fuzz_below(r, 2) ? host_kernels : word) | repack;
}

static int is_small(const ek_model *model, const uint8_t *file, fuzz_random *r)
{
    const uint64_t limit = fuzz_below(r, 16) == 0 ? MAX_RARE_WORK : MAX_WORK;
    size_t bytes = 0;
    for (uint32_t i = 0; i < ek_input_count(model) + ek_output_count(model); i++) {
        ek_io_info info;
        describe(model, i, ek_input_count(model), &info);
        bytes += info.elements * 4;
    }
    return bytes <= MAX_MEMORY && fuzz_work(file) <= limit;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    executions++;
    uint8_t *file = allocate(size);
    if (size > 0)
        memcpy(file, data, size);
    fuzz_random r = {hash(data, size)};
    ek_model model;
    const ek_status status = ek_open(&model, file, size, 0);
    statuses[status]++;
    if (status == EK_OK && is_small(&model, file, &r)) {
        buffers b = make_buffers(&model, &r);
        const int watched = fuzz_below(&r, 2) != 0;
        const uint64_t scalar = run(&model, EK_KERNELS_SCALAR, 1, watched, &b);
        const uint64_t other = run(&model, other_kernels(&r), 1 + fuzz_below(&r, 4), watched, &b);
        if (scalar != 0 && other != 0 && scalar != other) {
            fprintf(stderr, "fuzz: kernel sets differ\n");
            abort();
        }
        ran += scalar != 0;
        free_buffers(&b);
    }
    free(file);
    return 0;
}
