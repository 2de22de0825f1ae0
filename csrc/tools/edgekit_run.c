/* SPDX-License-Identifier: Apache-2.0
 *
 * edgekit-run: executes a model on a file of samples. It is what a cross-built runtime is tried and
 * verified with, on a board or under an emulator.
 */
#define _DEFAULT_SOURCE /* madvise */

#include "core/crc32.h"
#include "edgekit/edgekit.h"
#include "edgekit/edgekit_cpu.h"
#include "edgekit/edgekit_threads.h"
#include "platform/huge_pages.h"
#include "serve_stdio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_PORTS 16
#define MAX_THREADS 64

static const char usage[] =
    "usage: edgekit-run MODEL.ekm --input FILE... [options]\n"
    "       edgekit-run --serve\n"
    "\n"
    "Each --input is the next input of the model: a .npy file, or raw bytes, in the input's own\n"
    "layout: float32, or the model's int8 or raw 8-bit data. Samples follow each other.\n"
    "\n"
    "  --raw            inputs that are no .npy files hold raw 8-bit data\n"
    "  --output FILE    the outputs of all samples, output after output of each, as raw bytes\n"
    "  --tensors FILE   the result of every operator, sample after sample: for each the tensor's\n"
    "                   index in the model and its bytes, as little-endian uint32, and its data\n"
    "  --kernels LIST   auto (what the processor has), or kernel sets: scalar,avx2\n"
    "  --repack         reorder weights once for the kernels\n"
    "  --threads N      1 to 64\n"
    "  --repeat N       run everything N times and print the time of a sample\n"
    "  --digest         print CRC-32s: of each operator's results, and of each output\n"
    "  --info           print the model's inputs and outputs, and its memory\n"
    "  --serve          be driven through standard input and output by edgekit on another machine\n"
    "\n"
    "example: edgekit-run digits.ekm --input digits.npy --digest\n";

typedef struct options {
    const char *model, *output, *tensors, *kernels;
    const char *inputs[MAX_PORTS];
    uint32_t input_count, threads, repeat;
    int raw, repack, digest, info;
} options;

typedef struct file {
    uint8_t *data; /* aligned to EK_ALIGN */
    size_t size;
} file;

/* One input's samples. */
typedef struct samples {
    file file;
    const uint8_t *data;
    size_t bytes; /* of one sample */
    size_t count;
    ek_format format;
} samples;

/* What is kept of the operators' results. */
typedef struct results {
    uint32_t *crc;        /* of each operator */
    uint8_t *opcode;
    const char **kernel;
    uint32_t op_count;
    FILE *tensors;        /* null: none */
    const char *path;
} results;

/* Ends with one line on stderr. */
_Noreturn static void fail(const char *subject, const char *problem)
{
    fprintf(stderr, "edgekit-run: %s: %s\n", subject, problem);
    exit(2);
}

/* Zeros, aligned to EK_ALIGN; not every system has aligned_alloc. They are kept to the end. */
static void *allocate(size_t bytes)
{
    uint8_t *memory = bytes > SIZE_MAX - EK_ALIGN ? NULL : calloc(1, bytes + EK_ALIGN);
    if (memory == NULL)
        fail("memory", "not enough");
    use_huge_pages(memory, bytes);
    return memory + (EK_ALIGN - (uintptr_t)memory % EK_ALIGN) % EK_ALIGN;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static file read_file(const char *path)
{
    FILE *stream = fopen(path, "rb");
    long size;
    if (stream == NULL || fseek(stream, 0, SEEK_END) != 0 || (size = ftell(stream)) < 0 ||
        fseek(stream, 0, SEEK_SET) != 0)
        fail(path, "cannot be read");
    file f = {allocate((size_t)size), (size_t)size};
    if (fread(f.data, 1, f.size, stream) != f.size)
        fail(path, "cannot be read");
    fclose(stream);
    return f;
}

/* The text of a .npy file's header (NumPy, NEP 1), and where its data is. */
static char *npy_header(const char *path, const file *f, const uint8_t **data, size_t *bytes)
{
    const size_t prefix = f->size > 6 && f->data[6] >= 2 ? 12 : 10;
    if (f->size < prefix)
        fail(path, "is cut off");
    size_t header = f->data[8] | (size_t)f->data[9] << 8;
    if (prefix == 12)
        header |= (size_t)f->data[10] << 16 | (size_t)f->data[11] << 24;
    if (f->size - prefix < header)
        fail(path, "is cut off");
    char *text = allocate(header + 1);
    memcpy(text, f->data + prefix, header);
    *data = f->data + prefix + header;
    *bytes = f->size - prefix - header;
    return text;
}

/* How the array of a .npy file is bound: its element type tells the model's own input from raw
 * data. */
static ek_format npy_format(const char *path, const char *header, const ek_io_info *info)
{
    static const char *const raw_types[] = {"none", "'|i1'", "'|u1'"};
    if (strstr(header, "'fortran_order': False") == NULL)
        fail(path, "is in Fortran order: save a C-contiguous array");
    if (strstr(header, info->format == EK_FORMAT_FLOAT ? "'<f4'" : "'|i1'") != NULL)
        return info->format;
    if (info->raw_dtype == 0 || strstr(header, raw_types[info->raw_dtype]) == NULL)
        fail(path, "has another element type than the model's input");
    return EK_FORMAT_RAW;
}

static samples load_samples(const char *path, const ek_io_info *info, int raw)
{
    samples s = {.file = read_file(path), .format = info->format};
    size_t bytes = s.file.size;
    s.data = s.file.data;
    if (bytes >= 6 && memcmp(s.data, "\x93NUMPY", 6) == 0) {
        char *header = npy_header(path, &s.file, &s.data, &bytes);
        s.format = npy_format(path, header, info);
    } else if (raw) {
        s.format = EK_FORMAT_RAW;
    }
    if (s.format == EK_FORMAT_RAW && info->raw_dtype == 0)
        fail(path, "the model records no table for raw data");
    s.bytes = info->elements * (s.format == EK_FORMAT_FLOAT ? sizeof(float) : 1);
    s.count = bytes / s.bytes;
    if (bytes % s.bytes != 0 || s.count == 0)
        fail(path, "does not hold a whole number of samples");
    return s;
}

/* ---- Options --------------------------------------------------------------------------------- */

static uint32_t number(const char *option, const char *text, uint32_t most)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 1 || value > most)
        fail(option, "needs a number in range");
    return (uint32_t)value;
}

static options parse(int argc, char **argv)
{
    options o = {.kernels = "auto", .threads = 1, .repeat = 1};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        const int takes_value = !strcmp(a, "--input") || !strcmp(a, "--output") ||
                                !strcmp(a, "--tensors") || !strcmp(a, "--kernels") ||
                                !strcmp(a, "--threads") || !strcmp(a, "--repeat");
        if (takes_value && i + 1 == argc)
            fail(a, "needs a value");
        const char *value = takes_value ? argv[++i] : NULL;
        if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            fputs(usage, stdout);
            exit(0);
        } else if (!strcmp(a, "--input")) {
            if (o.input_count == MAX_PORTS)
                fail(a, "too many");
            o.inputs[o.input_count++] = value;
        } else if (!strcmp(a, "--output")) {
            o.output = value;
        } else if (!strcmp(a, "--tensors")) {
            o.tensors = value;
        } else if (!strcmp(a, "--kernels")) {
            o.kernels = value;
        } else if (!strcmp(a, "--threads")) {
            o.threads = number(a, value, MAX_THREADS);
        } else if (!strcmp(a, "--repeat")) {
            o.repeat = number(a, value, 1000000000);
        } else if (!strcmp(a, "--raw")) {
            o.raw = 1;
        } else if (!strcmp(a, "--repack")) {
            o.repack = 1;
        } else if (!strcmp(a, "--digest")) {
            o.digest = 1;
        } else if (!strcmp(a, "--info")) {
            o.info = 1;
        } else if (a[0] == '-' || o.model != NULL) {
            fail(a, "unknown option; --help lists them");
        } else {
            o.model = a;
        }
    }
    if (o.model == NULL) {
        fputs(usage, stderr);
        exit(2);
    }
    return o;
}

static ek_kernels kernel_named(const char *name, size_t length)
{
    for (ek_kernels bit = 1; bit != 0; bit <<= 1) {
        const char *known = ek_kernels_name(bit);
        if (known != NULL && strlen(known) == length && !strncmp(known, name, length))
            return bit;
    }
    return 0;
}

/* A list of kernel sets, all of them in this build and this processor. */
static ek_kernels parse_kernels(const char *list)
{
    const ek_kernels here = ek_cpu_kernels() & ek_kernels_built();
    ek_kernels kernels = 0;
    if (!strcmp(list, "auto"))
        return here;
    for (const char *name = list;;) {
        const size_t length = strcspn(name, ",");
        const ek_kernels bit = kernel_named(name, length);
        if (bit == 0)
            fail(name, "no kernel set of that name");
        if ((bit & here) == 0)
            fail(name, "this build or this processor does not have it");
        kernels |= bit;
        if (name[length] == '\0')
            return kernels;
        name += length + 1;
    }
}

/* ---- Output ---------------------------------------------------------------------------------- */

static void print_port(const char *kind, const ek_io_info *info)
{
    static const char *const types[] = {"float32", "raw", "int8"};
    printf("%s '%s' %s [", kind, info->name, types[info->format]);
    for (int32_t i = 0; i < info->rank; i++)
        printf(i == 0 ? "%d" : ", %d", (int)info->dims[i]);
    printf("] scale %.9g zero point %d", (double)info->scale, (int)info->zero_point);
    printf("%s\n", info->raw_dtype == 0 ? "" : info->raw_dtype == 1 ? ", raw int8" : ", raw uint8");
}

static void print_info(const ek_model *model, ek_kernels kernels, uint32_t threads)
{
    ek_io_info info;
    for (uint32_t i = 0; ek_input_info(model, i, &info) == EK_OK; i++)
        print_port("input", &info);
    for (uint32_t i = 0; ek_output_info(model, i, &info) == EK_OK; i++)
        print_port("output", &info);
    printf("memory %zu bytes, scratch %zu bytes per thread\n",
           ek_memory_needed(model, kernels, threads), ek_scratch_needed(model, kernels));
}

static FILE *create_file(const char *path)
{
    FILE *stream = fopen(path, "wb");
    if (stream == NULL)
        fail(path, "cannot be written");
    return stream;
}

static void put(FILE *stream, const char *path, const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, stream) != bytes)
        fail(path, "cannot be written");
}

static void put_word(FILE *stream, const char *path, uint32_t word)
{
    const uint8_t bytes[4] = {(uint8_t)word, (uint8_t)(word >> 8), (uint8_t)(word >> 16),
                              (uint8_t)(word >> 24)};
    put(stream, path, bytes, sizeof bytes);
}

static void close_file(FILE *stream, const char *path)
{
    if (stream != NULL && fclose(stream) != 0)
        fail(path, "cannot be written");
}

static void note_op(void *context, const ek_op_event *event)
{
    results *r = context;
    if (!event->done || event->op >= r->op_count)
        return;
    r->crc[event->op] = ek_crc32(r->crc[event->op], event->data, event->bytes);
    r->opcode[event->op] = event->opcode;
    r->kernel[event->op] = event->kernel;
    if (r->tensors == NULL)
        return;
    put_word(r->tensors, r->path, event->tensor);
    put_word(r->tensors, r->path, (uint32_t)event->bytes);
    put(r->tensors, r->path, event->data, event->bytes);
    fflush(r->tensors); /* should the next operator end the program, this one is known */
}

/* ---- The run --------------------------------------------------------------------------------- */

typedef struct session {
    ek_model model;
    ek_instance *net;
    samples inputs[MAX_PORTS];
    uint8_t *outputs[MAX_PORTS];
    size_t output_bytes[MAX_PORTS];
    uint32_t output_crc[MAX_PORTS];
    uint32_t input_count, output_count;
    results results;
} session;

static void check(ek_status status, const char *subject)
{
    if (status != EK_OK)
        fail(subject, ek_status_string(status));
}

static void load_inputs(session *s, const options *o)
{
    s->input_count = ek_input_count(&s->model);
    if (s->input_count > MAX_PORTS || ek_output_count(&s->model) > MAX_PORTS)
        fail(o->model, "has more inputs or outputs than this program handles");
    if (s->input_count != o->input_count)
        fail(o->model, "needs as many --input as it has inputs");
    for (uint32_t i = 0; i < s->input_count; i++) {
        ek_io_info info;
        check(ek_input_info(&s->model, i, &info), o->model);
        s->inputs[i] = load_samples(o->inputs[i], &info, o->raw);
        if (s->inputs[i].count != s->inputs[0].count)
            fail(o->inputs[i], "holds another number of samples than the first input");
    }
}

static void bind_outputs(session *s, const options *o)
{
    s->output_count = ek_output_count(&s->model);
    for (uint32_t i = 0; i < s->output_count; i++) {
        ek_io_info info;
        check(ek_output_info(&s->model, i, &info), o->model);
        s->output_bytes[i] = info.elements * (info.format == EK_FORMAT_FLOAT ? sizeof(float) : 1);
        s->outputs[i] = allocate(s->output_bytes[i]);
        check(ek_bind_output(s->net, i, s->outputs[i], s->output_bytes[i], info.format), o->model);
    }
}

static void bind_sample(session *s, const options *o, size_t sample)
{
    for (uint32_t i = 0; i < s->input_count; i++) {
        const samples *in = &s->inputs[i];
        check(ek_bind_input(s->net, i, in->data + sample * in->bytes, in->bytes, in->format),
              o->inputs[i]);
    }
}

static void run_sample(session *s, const options *o, size_t sample)
{
    bind_sample(s, o, sample);
    check(ek_run(s->net), o->model);
}

/* A first pass over all samples that looks at the results. */
static void run_and_report(session *s, const options *o, size_t count)
{
    FILE *out = o->output == NULL ? NULL : create_file(o->output);
    for (size_t sample = 0; sample < count; sample++) {
        run_sample(s, o, sample);
        for (uint32_t i = 0; i < s->output_count; i++) {
            s->output_crc[i] = ek_crc32(s->output_crc[i], s->outputs[i], s->output_bytes[i]);
            if (out != NULL)
                put(out, o->output, s->outputs[i], s->output_bytes[i]);
        }
    }
    close_file(out, o->output);
    close_file(s->results.tensors, o->tensors);
    s->results.tensors = NULL;
}

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void measure(session *s, const options *o, size_t count)
{
    const double start = seconds();
    for (size_t sample = 0; sample < count; sample++) {
        bind_sample(s, o, sample);
        for (uint32_t i = 0; i < o->repeat; i++)
            check(ek_run(s->net), o->model);
    }
    printf("%.3f us per sample\n", 1e6 * (seconds() - start) / o->repeat / (double)count);
}

static void print_digests(const session *s)
{
    for (uint32_t i = 0; i < s->results.op_count; i++)
        printf("op %u opcode %u %s %08x\n", (unsigned)i, (unsigned)s->results.opcode[i],
               s->results.kernel[i], (unsigned)s->results.crc[i]);
    for (uint32_t i = 0; i < s->output_count; i++) {
        ek_io_info info;
        if (ek_output_info(&s->model, i, &info) == EK_OK)
            printf("output '%s' %08x\n", info.name, (unsigned)s->output_crc[i]);
    }
}

static void create(session *s, const options *o, ek_kernels kernels, ek_threads *threads)
{
    ek_config config = {.kernels = kernels, .threads = o->threads};
    const size_t bytes = ek_memory_needed(&s->model, kernels, o->threads);
    if (bytes == 0)
        fail(o->model, "needs more memory than there can be");
    if (o->threads > 1) {
        config.parallel_for = ek_threads_parallel_for;
        config.parallel_context = threads;
    }
    if (o->digest || o->tensors != NULL) {
        s->results.op_count = s->model.op_count;
        s->results.crc = allocate(s->model.op_count * sizeof(uint32_t));
        s->results.opcode = allocate(s->model.op_count);
        s->results.kernel = allocate(s->model.op_count * sizeof(char *));
        s->results.tensors = o->tensors == NULL ? NULL : create_file(o->tensors);
        s->results.path = o->tensors;
        config.on_op = note_op;
        config.on_op_context = &s->results;
    }
    check(ek_create(&s->net, &s->model, &config, allocate(bytes), bytes), o->model);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--serve"))
        return serve_stdio();
    const options o = parse(argc, argv);
    session s = {0};
    const ek_kernels kernels = parse_kernels(o.kernels) | (o.repack ? EK_REPACK : 0);
    const file model = read_file(o.model);
    check(ek_open(&s.model, model.data, model.size, 0), o.model);
    if (o.info)
        print_info(&s.model, kernels, o.threads);
    if (o.info && o.input_count == 0)
        return 0;
    load_inputs(&s, &o);
    ek_threads *threads = ek_threads_create(o.threads);
    if (threads == NULL)
        fail("--threads", "threads cannot be started");
    create(&s, &o, kernels, threads);
    bind_outputs(&s, &o);
    const size_t count = s.input_count == 0 ? 1 : s.inputs[0].count;
    run_and_report(&s, &o, count);
    if (o.digest)
        print_digests(&s);
    if (o.repeat > 1)
        measure(&s, &o, count);
    ek_threads_destroy(threads);
    return 0;
}
