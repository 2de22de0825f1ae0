/* SPDX-License-Identifier: Apache-2.0
 *
 * The requests of protocol.h: the whole runtime, driven by another machine.
 */
#include "serve.h"

#include <string.h>

#include "../core/instance.h"
#include "../firmware/sha256.h"
#include "protocol.h"

#define MAX_TEXT 4096 /* of a path */

typedef struct port {
    ek_io_info info;
    void *buffer;
    size_t bytes; /* of the declared format; raw data takes no more */
} port;

static ek_model model;
static int opened;
static port inputs[EK_SERVE_MAX_PORTS], outputs[EK_SERVE_MAX_PORTS];
static ek_instance *instances[EK_SERVE_MAX_INSTANCES];
static uint32_t instance_count;
static uint32_t show;       /* of the run that goes on */
static uint64_t op_started; /* when its operator began */

/* ---- Numbers --------------------------------------------------------------------------------- */

static void put_number(uint32_t value)
{
    serve_put(&value, sizeof value);
}

static void put_time(uint64_t nanoseconds)
{
    put_number((uint32_t)nanoseconds);
    put_number((uint32_t)(nanoseconds >> 32));
}

static void put_text(const char *text)
{
    const size_t length = strlen(text);
    put_number((uint32_t)length);
    serve_put(text, length);
}

static uint32_t get_number(void)
{
    uint32_t value;
    serve_get(&value, sizeof value);
    return value;
}

/* A number that is at most `most`. */
static uint32_t get_up_to(uint32_t most)
{
    const uint32_t value = get_number();
    if (value > most)
        serve_exit(EK_SERVE_BAD_REQUEST);
    return value;
}

/* ---- The model ------------------------------------------------------------------------------- */

static size_t bytes_of(const ek_io_info *info, ek_format format)
{
    return info->elements * (format == EK_FORMAT_FLOAT ? sizeof(float) : 1);
}

static void open_port(port *p)
{
    p->bytes = bytes_of(&p->info, p->info.format);
    p->buffer = serve_allocate(p->bytes);
}

static void open_ports(void)
{
    if (ek_input_count(&model) > EK_SERVE_MAX_PORTS || ek_output_count(&model) > EK_SERVE_MAX_PORTS)
        serve_exit(EK_SERVE_TOO_LARGE);
    for (uint32_t i = 0; ek_input_info(&model, i, &inputs[i].info) == EK_OK; i++)
        open_port(&inputs[i]);
    for (uint32_t i = 0; ek_output_info(&model, i, &outputs[i].info) == EK_OK; i++)
        open_port(&outputs[i]);
}

/* The model before is gone with its instances. */
static void forget_model(void)
{
    serve_release();
    instance_count = 0;
    opened = 0;
}

static void open_model(const void *file, size_t bytes, uint64_t start)
{
    const ek_status status = ek_open(&model, file, bytes, 0);
    const uint64_t end = serve_clock();
    opened = status == EK_OK;
    if (opened)
        open_ports();
    put_number((uint32_t)status);
    put_number(opened ? 0 : ek_error_offset(&model));
    if (opened)
        put_time(end - start);
}

static void receive_model(void)
{
    const size_t bytes = get_number();
    forget_model();
    void *file = serve_allocate(bytes);
    serve_get(file, bytes);
    open_model(file, bytes, serve_clock());
}

static void read_model(void)
{
    char path[MAX_TEXT + 1];
    const uint32_t length = get_up_to(MAX_TEXT);
    serve_get(path, length);
    path[length] = '\0';
    forget_model();
    const uint64_t start = serve_clock();
    size_t bytes = 0;
    const void *file = serve_file(path, &bytes);
    if (file == NULL)
        serve_exit(EK_SERVE_BAD_REQUEST);
    open_model(file, bytes, start);
}

/* ---- Instances ------------------------------------------------------------------------------- */

static void describe(const ek_instance *net)
{
    const ek_step *step = net->steps;
    put_number(net->step_count);
    for (uint32_t i = 0; i < net->step_count; i++, step = ek_step_next(step)) {
        put_number(step->op);
        put_text(step->kernel == NULL ? "" : step->kernel->name);
    }
}

static void bind_outputs(ek_instance *net)
{
    for (uint32_t i = 0; i < ek_output_count(&model); i++)
        if (ek_bind_output(net, i, outputs[i].buffer, outputs[i].bytes, outputs[i].info.format) !=
            EK_OK)
            serve_exit(EK_SERVE_BAD_REQUEST);
}

static void prepare(void)
{
    const uint32_t sets = get_number(), threads = get_number(), repack = get_up_to(1);
    if (!opened || instance_count == EK_SERVE_MAX_INSTANCES)
        serve_exit(EK_SERVE_BAD_REQUEST);
    const ek_kernels chosen = sets == 0 ? serve_kernels() : sets & serve_kernels();
    ek_config config = {.kernels = chosen | (repack ? EK_REPACK : 0), .threads = threads};
    if (threads > 1 && !serve_threads(threads, &config))
        serve_exit(EK_SERVE_BAD_REQUEST);
    const uint64_t start = serve_clock();
    const size_t need = ek_memory_needed(&model, config.kernels, threads);
    ek_instance *net = NULL;
    const ek_status status = ek_create(&net, &model, &config, serve_allocate(need), need);
    const uint64_t end = serve_clock();
    put_number((uint32_t)status);
    put_number(0);
    if (status != EK_OK)
        return;
    bind_outputs(net);
    instances[instance_count++] = net;
    put_number((uint32_t)need);
    put_number((uint32_t)ek_scratch_needed(&model, config.kernels));
    put_time(end - start);
    describe(net);
}

static ek_instance *get_instance(void)
{
    const uint32_t index = get_number();
    if (index >= instance_count)
        serve_exit(EK_SERVE_BAD_REQUEST);
    return instances[index];
}

/* ---- Runs ------------------------------------------------------------------------------------ */

static void put_digest(const ek_op_event *event)
{
    uint8_t digest[32];
    sha256(event->data, event->bytes, digest);
    put_number(sizeof digest);
    serve_put(digest, sizeof digest);
}

static void put_values(const ek_op_event *event)
{
    put_number((uint32_t)event->bytes);
    serve_put(event->data, event->bytes);
}

static void observe(void *context, const ek_op_event *event)
{
    (void)context;
    if (event->done) {
        const uint64_t time = serve_clock() - op_started;
        put_number(event->tensor);
        if (show == EK_SERVE_DIGESTS) {
            put_digest(event);
        } else if (show == EK_SERVE_VALUES) {
            put_values(event);
        } else {
            put_number(sizeof time);
            put_time(time);
        }
        /* Should the next operator end the program, this one is known. Times are not disturbed. */
        if (show != EK_SERVE_TIMES)
            serve_flush();
    }
    op_started = serve_clock();
}

static void get_inputs(ek_instance *net)
{
    for (uint32_t i = 0; i < ek_input_count(&model); i++) {
        const port *p = &inputs[i];
        const ek_format format = (ek_format)get_number();
        const size_t bytes = bytes_of(&p->info, format);
        if (bytes > p->bytes)
            serve_exit(EK_SERVE_BAD_REQUEST);
        serve_get(p->buffer, bytes);
        if (ek_bind_input(net, i, p->buffer, bytes, format) != EK_OK)
            serve_exit(EK_SERVE_BAD_REQUEST);
    }
}

/* One run, and the time that it took. */
static uint64_t timed_run(ek_instance *net)
{
    const uint64_t start = serve_clock();
    if (ek_run(net) != EK_OK)
        serve_exit(EK_SERVE_BAD_REQUEST);
    return serve_clock() - start;
}

/* The model's state begins anew each time: what a run shows depends on its inputs alone. */
static void run(void)
{
    ek_instance *net = get_instance();
    show = get_up_to(EK_SERVE_TIMES);
    get_inputs(net);
    net->config.on_op = show == EK_SERVE_OUTPUTS ? NULL : observe;
    ek_reset(net);
    const uint64_t time = timed_run(net);
    put_number(EK_SERVE_NO_TENSOR);
    for (uint32_t i = 0; i < ek_output_count(&model); i++)
        serve_put(outputs[i].buffer, outputs[i].bytes);
    put_time(time);
    put_number(serve_stack());
}

static void measure(void)
{
    static uint64_t times[EK_SERVE_MAX_RUNS];
    ek_instance *net = get_instance();
    const uint32_t runs = get_up_to(EK_SERVE_MAX_RUNS);
    net->config.on_op = NULL;
    for (uint32_t i = 0; i < runs; i++)
        times[i] = timed_run(net);
    for (uint32_t i = 0; i < runs; i++)
        put_time(times[i]);
}

/* ---- Requests -------------------------------------------------------------------------------- */

static void greet(void)
{
    const ek_kernels here = serve_kernels();
    uint32_t sets = 0;
    for (ek_kernels bit = 1; bit != 0; bit <<= 1)
        sets += (here & bit) != 0;
    put_number(EK_SERVE_VERSION);
    put_number(serve_processors());
    put_number(sets);
    for (ek_kernels bit = 1; bit != 0; bit <<= 1) {
        if ((here & bit) == 0)
            continue;
        put_number(bit);
        put_text(ek_kernels_name(bit));
    }
}

int ek_serve(void)
{
    for (;;) {
        serve_flush();
        switch (get_number()) {
        case EK_SERVE_HELLO: greet(); break;
        case EK_SERVE_MODEL: receive_model(); break;
        case EK_SERVE_FILE: read_model(); break;
        case EK_SERVE_PREPARE: prepare(); break;
        case EK_SERVE_RUN: run(); break;
        case EK_SERVE_TIME: measure(); break;
        case EK_SERVE_END: return 0;
        default: return EK_SERVE_BAD_REQUEST;
        }
    }
}
