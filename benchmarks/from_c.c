/* SPDX-License-Identifier: Apache-2.0
 *
 * edgekit called from C, timed as edgekit/bench/server.py times what is called from Python:
 *
 *     from_c MODEL.ekm THREADS INPUT
 *
 * INPUT holds the model's inputs as its ports take them, one behind the other. The program answers
 * the requests of benchmarks/from_c.py, a JSON object a line, until stdin ends: start, warm_up,
 * round, output.
 */
#define _DEFAULT_SOURCE /* clock_gettime, madvise */
#include "program.h"

#include <edgekit/edgekit_threads.h>

#include <time.h>

/* As in server.py: a clock is read at most this often. */
#define GROUP_NS 20000
#define LEAST_READINGS 3
#define MOST_READINGS 1000000

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

/* A field of /proc/self/status in kilobytes; 0 where there is none. */
static long status_kb(const char *field)
{
    char line[256];
    long kb = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kb = strtol(line + strlen(field) + 1, NULL, 10);
    if (status != NULL)
        fclose(status);
    return kb;
}

/* ---- The model ------------------------------------------------------------------------------- */

static ek_model model;
static ek_instance *instance;
static ek_io_info output; /* the first one */
static const void *output_data;

static void bind(const char *inputs)
{
    ek_io_info info;
    FILE *file = fopen(inputs, "rb");
    for (uint32_t i = 0; i < ek_input_count(&model); i++) {
        check(ek_input_info(&model, i, &info), "input");
        void *data = allocate(port_bytes(&info));
        if (file == NULL || fread(data, 1, port_bytes(&info), file) != port_bytes(&info))
            fail("%s: cannot be read", inputs);
        check(ek_bind_input(instance, i, data, port_bytes(&info), info.format), "input");
    }
    fclose(file);
    for (uint32_t i = ek_output_count(&model); i-- > 0;) {
        check(ek_output_info(&model, i, &output), "output");
        void *data = allocate(port_bytes(&output));
        check(ek_bind_output(instance, i, data, port_bytes(&output), output.format), "output");
        output_data = data;
    }
}

static void create(uint32_t threads)
{
    ek_config config = {.threads = threads};
    if (threads > 1) {
        config.parallel_for = ek_threads_parallel_for;
        config.parallel_context = ek_threads_create(threads);
        if (config.parallel_context == NULL)
            fail("cannot start %u threads", threads);
    }
    instance = create_instance(&model, config);
}

static void run(void)
{
    check(ek_run(instance), "run");
}

/* ---- Requests -------------------------------------------------------------------------------- */

static long group = 1;                 /* runs between two readings of the clock */
static long readings = LEAST_READINGS; /* of a round */

static int greater(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, long count)
{
    qsort(times, (size_t)count, sizeof *times, greater);
    return count % 2 ? times[count / 2] : (times[count / 2 - 1] + times[count / 2]) / 2;
}

static long at_least(long least, double value)
{
    return value > (double)least ? (long)value : least;
}

static void warm_up(double seconds)
{
    static double times[MOST_READINGS];
    const double start = now();
    long count = 0;
    double before = start;
    while ((before - start < seconds || count < LEAST_READINGS) && count < MOST_READINGS) {
        run();
        const double after = now();
        times[count++] = (after - before) * 1e9;
        before = after;
    }
    double typical = median(times + count / 2, count - count / 2);
    typical = typical < 1 ? 1 : typical;
    group = at_least(1, GROUP_NS / typical + 0.5);
    readings = at_least(LEAST_READINGS, seconds * 1e9 / (typical * (double)group));
    printf("{\"group\": %ld, \"readings\": %ld}\n", group, readings);
}

static void one_round(void)
{
    double *times = allocate((size_t)readings * sizeof *times);
    const double wall = now(), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    run(); /* brings code and weights back into the caches that others used */
    for (long i = 0; i < readings; i++) {
        const double start = now();
        for (long n = 0; n < group; n++)
            run();
        times[i] = (now() - start) * 1e9 / (double)group;
    }
    const double passed = now() - wall;
    const double cores = (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (passed > 0 ? passed : 1);
    printf("{\"cores\": %.4f, \"ns\": [", cores);
    for (long i = 0; i < readings; i++)
        printf("%s%.1f", i ? ", " : "", times[i]);
    puts("]}");
    free(times);
}

/* Real values of the first output. */
static void print_output(void)
{
    printf("{\"output\": [");
    for (size_t i = 0; i < output.elements; i++) {
        float value;
        if (output.format == EK_FORMAT_FLOAT)
            value = ((const float *)output_data)[i];
        else
            value = output.scale * (float)(((const int8_t *)output_data)[i] - output.zero_point);
        printf("%s%.9g", i ? ", " : "", value);
    }
    puts("]}");
}

typedef struct start {
    double load_us, first_run_us;
    long engine_kb, memory_kb;
} start;

/* Loads the model and runs it once. */
static start begin(const char *path, uint32_t threads, const char *inputs)
{
    const long before_kb = status_kb("VmRSS:");
    const double begin = now();
    open_model(&model, path);
    create(threads);
    bind(inputs);
    const double loaded = now();
    run();
    const double ran = now();
    const long more_kb = status_kb("VmHWM:") - before_kb;
    return (start){.load_us = (loaded - begin) * 1e6,
                   .first_run_us = (ran - loaded) * 1e6,
                   .engine_kb = before_kb,
                   .memory_kb = more_kb > 0 ? more_kb : 0};
}

static void print_start(const start *s)
{
    printf("{\"load_us\": %.2f, \"first_run_us\": %.2f, ", s->load_us, s->first_run_us);
    printf("\"engine_kb\": %ld, \"memory_kb\": %ld}\n", s->engine_kb, s->memory_kb);
}

/* A line as edgekit/bench/client.py writes it. */
static void answer(const char *line, const start *s)
{
    static const char key[] = "\"seconds\": ";
    const char *seconds = strstr(line, key);
    if (strstr(line, "\"start\"") != NULL)
        print_start(s);
    else if (strstr(line, "\"warm_up\"") != NULL && seconds != NULL)
        warm_up(strtod(seconds + strlen(key), NULL));
    else if (strstr(line, "\"round\"") != NULL)
        one_round();
    else if (strstr(line, "\"output\"") != NULL)
        print_output();
    else
        puts("{\"error\": \"no such request\", \"type\": \"ValueError\"}");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const long threads = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
    if (threads < 1 || threads > (long)EK_MAX_THREADS)
        fail("usage: from_c MODEL.ekm THREADS INPUT");
    const start s = begin(argv[1], (uint32_t)threads, argv[3]);
    static char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL)
        answer(line, &s);
    return 0;
}
