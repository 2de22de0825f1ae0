/* SPDX-License-Identifier: Apache-2.0
 *
 * The fuzzed path: open a file and, if that succeeds, run one inference with the scalar kernels
 * and one with another choice of kernels, threads and packing. Both must give the same bytes. Every
 * buffer has exactly the size that the library asks for, so that a sanitizer sees one byte beyond.
 */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */

#include "core/instance.h"
#include "edgekit/edgekit.h"
#include "edgekit/edgekit_cpu.h"
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond these a run would take too long to be worth it. Now and then as much work is allowed as it
 * takes to be cut into parts for threads. */
#define MAX_MEMORY (1u << 18)
#define MAX_WORK 36000u
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

/* How to compute a model, and what has come out of it. */
typedef struct attempt {
    ek_kernels kernels;
    uint32_t threads;
    int watched;      /* the hash covers every operator */
    uint8_t *memory;  /* owned */
    ek_instance *net; /* in `memory` */
    uint8_t *own[3];  /* arena, state and scratch, if they do not stand there */
    uint64_t hash;
} attempt;

/* Plans and, where the memory is not too large, prepares; 0 if it is. */
static int create(attempt *a, const ek_model *model)
{
    const size_t bytes = ek_memory_needed(model, a->kernels, a->threads);
    if (bytes == 0 || bytes > MAX_MEMORY)
        return 0;
    a->memory = allocate(bytes);
    memset(a->memory, 0xA5, bytes);
    const ek_config config = {.kernels = a->kernels,
                              .threads = a->threads,
                              .parallel_for = backwards,
                              .parallel_context = &a->threads,
                              .on_op = a->watched ? watch : NULL,
                              .on_op_context = &a->hash};
    if (ek_create(&a->net, model, &config, a->memory, bytes) != EK_OK)
        abort();
    return 1;
}

/* A pointer into `span` bytes from `from` becomes the same place behind `to`. */
static void *moved(const void *pointer, const uint8_t *from, size_t span, uint8_t *to)
{
    const size_t at = (uintptr_t)pointer - (uintptr_t)from;
    return at < span ? to + at : (void *)(uintptr_t)pointer;
}

/* Gives arena, state and scratch allocations of their own, so that nothing stands behind each. They
 * follow one another in an instance (core/instance.h), and steps point into the first two. */
static void separate(attempt *a)
{
    ek_instance *net = a->net;
    const ek_file_header *header = ek_header(&net->model);
    const size_t sizes[] = {header->arena_bytes, header->state_bytes,
                            a->threads * net->scratch_bytes};
    for (int i = 0; i < 3; i++) {
        a->own[i] = allocate(sizes[i]);
        memset(a->own[i], 0x5A, sizes[i]);
    }
    const size_t arena_span = (sizes[0] + EK_ALIGN - 1) / EK_ALIGN * EK_ALIGN;
    const uint8_t *starts[] = {net->state - arena_span, net->state, net->scratch};
    for (ek_step *step = net->steps; step != net->steps_end;
         step = (void *)((uint8_t *)step + step->bytes))
        for (int i = 0; i < 2; i++) {
            const size_t span = (size_t)(starts[i + 1] - starts[i]);
            step->in[0] = moved(step->in[0], starts[i], span, a->own[i]);
            step->in[1] = moved(step->in[1], starts[i], span, a->own[i]);
            step->out = moved(step->out, starts[i], span, a->own[i]);
        }
    net->state = a->own[1];
    net->scratch = a->own[2];
    ek_reset(net);
}

static void release(attempt *a)
{
    free(a->memory);
    for (int i = 0; i < 3; i++)
        free(a->own[i]);
}

/* With STATE two runs, as the second begins with what the first has left. */
static void run(attempt *a, const ek_model *model, const buffers *b)
{
    bind_all(a->net, b);
    for (uint32_t i = 0; i < fuzz_runs(model->bytes); i++) {
        if (ek_run(a->net) != EK_OK)
            abort();
        for (uint32_t k = b->inputs; k < b->count; k++)
            a->hash = a->hash * 31 + hash(b->data[k], b->bytes[k]);
    }
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

/* Scalar and other kernels must give the same. Models too large to run are planned and prepared. */
static void compute(const ek_model *model, const uint8_t *file, fuzz_random *r)
{
    const int watched = fuzz_below(r, 2) != 0, small = is_small(model, file, r);
    attempt scalar = {.kernels = EK_KERNELS_SCALAR, .threads = 1, .watched = watched};
    attempt other = {
        .kernels = other_kernels(r), .threads = 1 + fuzz_below(r, 4), .watched = watched};
    const int created = create(&scalar, model), both = create(&other, model) && created;
    if (small && created) {
        buffers b = make_buffers(model, r);
        if (fuzz_below(r, 4) != 0) {
            separate(&scalar);
            if (both)
                separate(&other);
        }
        run(&scalar, model, &b);
        ran++;
        if (both)
            run(&other, model, &b);
        if (both && scalar.hash != other.hash) {
            fprintf(stderr, "fuzz: kernel sets differ\n");
            abort();
        }
        free_buffers(&b);
    }
    release(&scalar);
    release(&other);
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
    if (status == EK_OK)
        compute(&model, file, &r);
    free(file);
    return 0;
}
