/* SPDX-License-Identifier: Apache-2.0
 *
 * What benchmarks/scaling.py simulates threads with, as a JSON object on stdout:
 *
 *     scaling MODEL.ekm SECONDS REAL THREADS...
 *
 * For each of THREADS the model is prepared for so many, but every parallel loop is done part by
 * part on this one thread, and each part is timed: the cuts are the runtime's own. REAL
 * threads, too, are measured in the same rounds as one, with a real pool, and so is what a pool
 * of two takes besides its parts. All times are the least of all rounds, in nanoseconds; -1 is
 * none.
 */
#define _DEFAULT_SOURCE /* clock_gettime, madvise */
#include "program.h"

#include <edgekit/edgekit_threads.h>

#include <time.h>

#define MAX_COUNTS 16
#define LEAST_ROUNDS 5
#define RUNS 10 /* in a round */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void keep_least(int64_t *least, int64_t time)
{
    if (*least == 0 || time < *least)
        *least = time;
}

/* ---- A model --------------------------------------------------------------------------------- */

/* Zeros as inputs: time does not depend on them. */
static void bind(ek_instance *instance, const ek_model *model)
{
    ek_io_info info;
    for (uint32_t i = 0; i < ek_input_count(model); i++) {
        check(ek_input_info(model, i, &info), "input");
        const size_t bytes = port_bytes(&info);
        check(ek_bind_input(instance, i, allocate(bytes), bytes, info.format), "input");
    }
    for (uint32_t i = 0; i < ek_output_count(model); i++) {
        check(ek_output_info(model, i, &info), "output");
        const size_t bytes = port_bytes(&info);
        check(ek_bind_output(instance, i, allocate(bytes), bytes, info.format), "output");
    }
}

static ek_instance *create(const ek_model *model, ek_config config)
{
    ek_instance *instance = create_instance(model, config);
    bind(instance, model);
    return instance;
}

/* ---- Loops, part by part --------------------------------------------------------------------- */

typedef struct loop {
    uint32_t op, count;
    int64_t *least; /* of each part */
} loop;

typedef struct record {
    uint32_t threads;
    ek_instance *instance;
    uint32_t op, op_count, loop_count, next_loop; /* of the run that is going on */
    int64_t op_start;
    int64_t *op_least;
    loop *loops;
} record;

/* The loop that begins; the same ones come in every run. */
static loop *loop_at(record *r, uint32_t count)
{
    if (r->next_loop == r->loop_count) {
        r->loops = realloc(r->loops, (r->loop_count + 1) * sizeof *r->loops);
        if (r->loops == NULL)
            fail("no memory");
        r->loops[r->loop_count++] = (loop){r->op, count, allocate(count * sizeof(int64_t))};
    }
    loop *l = &r->loops[r->next_loop++];
    if (l->op != r->op || l->count != count)
        fail("the loops of a run are not those of the first");
    return l;
}

static void run_parts(void *context, ek_task task, void *argument, uint32_t count)
{
    loop *l = loop_at(context, count);
    for (uint32_t part = 0; part < count; part++) {
        const int64_t start = now();
        task(argument, part, 0);
        keep_least(&l->least[part], now() - start);
    }
}

static void on_op(void *context, const ek_op_event *event)
{
    record *r = context;
    if (!event->done) {
        r->op = event->op;
        r->op_start = now();
        return;
    }
    const int64_t time = now() - r->op_start;
    if (event->op >= r->op_count) {
        r->op_least = realloc(r->op_least, (event->op + 1) * sizeof *r->op_least);
        if (r->op_least == NULL)
            fail("no memory");
        while (r->op_count <= event->op)
            r->op_least[r->op_count++] = 0;
    }
    keep_least(&r->op_least[event->op], time);
}

static void start_record(record *r, const ek_model *model, uint32_t threads)
{
    r->threads = threads;
    r->instance = create(model, (ek_config){.threads = threads,
                                            .parallel_for = run_parts,
                                            .parallel_context = r,
                                            .on_op = on_op,
                                            .on_op_context = r});
}

/* Some runs, so that its memory comes into the caches. */
static void run_record(record *r)
{
    for (int i = 0; i < RUNS; i++) {
        r->next_loop = 0;
        check(ek_run(r->instance), "run");
    }
}

static void print_record(const record *r)
{
    printf("{\"threads\": %u, \"ops\": [", r->threads);
    for (uint32_t i = 0; i < r->op_count; i++)
        printf("%s%lld", i ? ", " : "", (long long)r->op_least[i]);
    printf("], \"loops\": [");
    for (uint32_t i = 0; i < r->loop_count; i++) {
        const loop *l = &r->loops[i];
        printf("%s{\"op\": %u, \"parts\": [", i ? ", " : "", l->op);
        for (uint32_t p = 0; p < l->count; p++)
            printf("%s%lld", p ? ", " : "", (long long)l->least[p]);
        printf("]}");
    }
    printf("]}");
}

/* ---- Real threads ---------------------------------------------------------------------------- */

typedef struct real {
    uint32_t threads;
    ek_instance *instance;
    int64_t least;
} real;

static void start_real(real *r, const ek_model *model, uint32_t threads)
{
    ek_threads *pool = ek_threads_create(threads);
    if (pool == NULL)
        fail("cannot start %u threads", threads);
    r->threads = threads;
    r->instance = create(model, (ek_config){.threads = threads,
                                            .parallel_for = ek_threads_parallel_for,
                                            .parallel_context = pool});
}

/* Some runs, so that workers are awake. */
static void run_real(real *r)
{
    for (int i = 0; i < 2 * RUNS; i++) {
        const int64_t start = now();
        check(ek_run(r->instance), "run");
        keep_least(&r->least, now() - start);
    }
}

/* ---- The pool -------------------------------------------------------------------------------- */

#define PART_NS 5000
#define EMPTY_PARTS 2000
#define LINE 64

typedef struct pool_costs {
    int64_t clock;    /* two readings of it */
    int64_t handover; /* a loop of two parts */
    int64_t many;     /* a loop of empty parts */
} pool_costs;

typedef struct counts {
    _Alignas(LINE) volatile uint32_t parts;
} counts; /* of a thread */

static void wait_part(void *argument, uint32_t index, uint32_t thread)
{
    const int64_t end = now() + PART_NS;
    (void)index;
    ((counts *)argument)[thread].parts++;
    while (now() < end) {
    }
}

static void empty_part(void *argument, uint32_t index, uint32_t thread)
{
    (void)index;
    ((counts *)argument)[thread].parts++;
}

/* Keeps the time of a loop that both threads had a share of, at least a quarter. */
static void measure_loop(ek_threads *pool, ek_task task, uint32_t parts, int64_t *least)
{
    counts took[2] = {{0}, {0}};
    const int64_t start = now();
    ek_threads_parallel_for(pool, task, took, parts);
    const int64_t time = now() - start;
    if (took[0].parts >= parts / 4 && took[1].parts >= parts / 4 + (parts < 4))
        keep_least(least, time);
}

/* With a pool that has no bad experience. The long loop wakes the worker for the short one. */
static void measure_pool(pool_costs *c)
{
    ek_threads *pool = ek_threads_create(2);
    if (pool == NULL)
        fail("cannot start 2 threads");
    for (int i = 0; i < 20; i++) {
        const int64_t start = now();
        keep_least(&c->clock, now() - start);
        measure_loop(pool, empty_part, EMPTY_PARTS, &c->many);
        measure_loop(pool, wait_part, 2, &c->handover);
    }
    ek_threads_destroy(pool);
}

/* ---- The run --------------------------------------------------------------------------------- */

static uint32_t number(const char *text)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || n < 1 || n > EK_MAX_THREADS)
        fail("%s: not a number of threads", text);
    return (uint32_t)n;
}

static void print_costs(const pool_costs *c)
{
    const long long handover = c->handover == 0 ? -1 : c->handover - PART_NS;
    const double take = c->many == 0 ? -1 : (double)c->many / EMPTY_PARTS;
    printf("\"clock\": %lld, ", (long long)c->clock);
    printf("\"handover\": %lld, \"take\": %.1f", handover, take);
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc - 4 > MAX_COUNTS)
        fail("usage: scaling MODEL.ekm SECONDS REAL THREADS...");
    static record records[MAX_COUNTS];
    static ek_model model;
    real reals[2] = {{0}};
    pool_costs costs = {0};
    const int count = argc - 4;
    open_model(&model, argv[1]);
    for (int i = 0; i < count; i++)
        start_record(&records[i], &model, number(argv[4 + i]));
    start_real(&reals[0], &model, 1);
    start_real(&reals[1], &model, number(argv[3]));
    const int64_t end = now() + (int64_t)(atof(argv[2]) * 1e9);
    for (int round = 0; round < LEAST_ROUNDS || now() < end; round++) {
        for (int i = 0; i < count; i++)
            run_record(&records[i]);
        run_real(&reals[0]);
        run_real(&reals[1]);
        measure_pool(&costs);
    }
    printf("{");
    print_costs(&costs);
    printf(", \"real\": {\"1\": %lld, \"%u\": %lld},\n\"records\": [", (long long)reals[0].least,
           reals[1].threads, (long long)reals[1].least);
    for (int i = 0; i < count; i++) {
        printf("%s", i ? ",\n" : "");
        print_record(&records[i]);
    }
    printf("]}\n");
    return 0;
}
