/* SPDX-License-Identifier: Apache-2.0
 *
 * Classifies images from files or from a pipe with a model that takes raw uint8 pixels.
 *
 *     classify MODEL.ekm [--labels FILE] [--threads N] [IMAGE...]
 *
 * Without an image, one after the other comes from standard input.
 */
#include "image.h"

#include <edgekit/edgekit.h>
#include <edgekit/edgekit_cpu.h>
#include <edgekit/edgekit_threads.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_LABELS 4096
#define MAX_THREADS 64

typedef struct classifier {
    ek_model model;
    ek_instance *net;
    ek_threads *threads;
    image input;      /* of the model's size; bound to the network */
    float *scores;    /* one per class */
    size_t classes;
    char *labels[MAX_LABELS]; /* null: the class's number is shown */
} classifier;

_Noreturn static void fail(const char *subject, const char *problem)
{
    fprintf(stderr, "classify: %s: %s\n", subject, problem);
    exit(2);
}

static void check(const char *subject, ek_status status)
{
    if (status != EK_OK)
        fail(subject, ek_status_string(status));
}

static void *aligned(size_t bytes)
{
    void *memory = aligned_alloc(EK_ALIGN, (bytes + EK_ALIGN - 1) / EK_ALIGN * EK_ALIGN);
    if (memory == NULL)
        fail("memory", "not enough");
    return memory;
}

/* ---- The model ------------------------------------------------------------------------------- */

static void *read_file(const char *path, size_t *size)
{
    FILE *stream = fopen(path, "rb");
    long end;
    if (stream == NULL || fseek(stream, 0, SEEK_END) != 0 || (end = ftell(stream)) < 0)
        fail(path, "cannot be read");
    *size = (size_t)end;
    rewind(stream);
    void *bytes = aligned(*size + 1);
    if (fread(bytes, 1, *size, stream) != *size)
        fail(path, "cannot be read");
    fclose(stream);
    return bytes;
}

/* Width, height and channels of the raw images that a model takes. */
static void take_size(const char *path, const ek_model *model, image *input)
{
    ek_io_info info;
    check(path, ek_input_info(model, 0, &info));
    if (ek_input_count(model) != 1 || info.raw_dtype != 2 || info.rank != 4 ||
        info.raw_dims[0] != 1 || (info.raw_dims[3] != 1 && info.raw_dims[3] != 3))
        fail(path, "takes no uint8 image of 1 or 3 channels; convert it with --input-layout nhwc "
                   "and --input-std");
    input->height = info.raw_dims[1];
    input->width = info.raw_dims[2];
    input->channels = info.raw_dims[3];
    input->pixels = aligned(info.elements);
}

static void open_model(classifier *c, const char *path, uint32_t threads)
{
    size_t size;
    void *bytes = read_file(path, &size);
    const ek_model *model = &c->model;
    check(path, ek_open(&c->model, bytes, size, 0));
    take_size(path, model, &c->input);

    ek_io_info output;
    check(path, ek_output_info(model, 0, &output));
    if (ek_output_count(model) != 1 || output.format != EK_FORMAT_FLOAT)
        fail(path, "has not one float output");
    c->classes = output.elements;
    c->scores = aligned(c->classes * sizeof *c->scores);

    c->threads = ek_threads_create(threads);
    if (c->threads == NULL)
        fail("threads", "cannot be started");
    const ek_config config = {
        .kernels = ek_cpu_kernels(),
        .threads = threads,
        .parallel_for = ek_threads_parallel_for,
        .parallel_context = c->threads,
    };
    const size_t need = ek_memory_needed(model, config.kernels, threads);
    check(path, ek_create(&c->net, model, &config, aligned(need), need));
    const image *in = &c->input;
    const size_t pixels = (size_t)in->width * (size_t)in->height * (size_t)in->channels;
    check(path, ek_bind_input(c->net, 0, in->pixels, pixels, EK_FORMAT_RAW));
    const size_t scores = c->classes * sizeof *c->scores;
    check(path, ek_bind_output(c->net, 0, c->scores, scores, EK_FORMAT_FLOAT));
}

/* One label per line. */
static void read_labels(classifier *c, const char *path)
{
    size_t size;
    char *text = read_file(path, &size);
    text[size] = '\0';
    char *line = strtok(text, "\r\n");
    for (size_t i = 0; line != NULL && i < MAX_LABELS; i++, line = strtok(NULL, "\r\n"))
        c->labels[i] = line;
}

/* ---- Images ---------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void classify(classifier *c, const image *seen, const char *name)
{
    image_fit(seen, &c->input);
    const double start = now();
    check(name, ek_run(c->net));
    const double microseconds = now() - start;
    size_t best = 0;
    for (size_t i = 1; i < c->classes; i++)
        if (c->scores[i] > c->scores[best])
            best = i;
    if (best < MAX_LABELS && c->labels[best] != NULL)
        printf("%s  %s", name, c->labels[best]);
    else
        printf("%s  %zu", name, best);
    printf("  %g  %.0f us\n", (double)c->scores[best], microseconds);
    fflush(stdout); /* each line as its frame is seen, also into a pipe */
}

/* All images of a stream, with their number where it is standard input. */
static void classify_stream(classifier *c, FILE *stream, const char *path)
{
    image seen = {0};
    image_status status;
    unsigned long count = 0;
    while ((status = image_read(&seen, stream)) == IMAGE_OK) {
        char name[32];
        snprintf(name, sizeof name, "#%lu", count++);
        classify(c, &seen, path != NULL ? path : name);
    }
    if (status != IMAGE_END || count == 0)
        fail(path != NULL ? path : "standard input", image_status_string(status));
    free(seen.pixels);
}

static uint32_t parse_threads(const char *text)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < 1 || value > MAX_THREADS)
        fail("--threads", "use 1 to 64");
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    static classifier c;
    const char *labels = NULL;
    uint32_t threads = 1;
    if (argc < 2 || argv[1][0] == '-')
        fail("usage", "classify MODEL.ekm [--labels FILE] [--threads N] [IMAGE...]");
    int next = 2;
    for (; next + 1 < argc && argv[next][0] == '-'; next += 2) {
        if (strcmp(argv[next], "--labels") == 0)
            labels = argv[next + 1];
        else if (strcmp(argv[next], "--threads") == 0)
            threads = parse_threads(argv[next + 1]);
        else
            fail(argv[next], "is no option");
    }
    open_model(&c, argv[1], threads);
    if (labels != NULL)
        read_labels(&c, labels);
    if (next == argc)
        classify_stream(&c, stdin, NULL);
    for (; next < argc; next++) {
        FILE *stream = fopen(argv[next], "rb");
        if (stream == NULL)
            fail(argv[next], "cannot be read");
        classify_stream(&c, stream, argv[next]);
        fclose(stream);
    }
    ek_threads_destroy(c.threads);
    return 0;
}
