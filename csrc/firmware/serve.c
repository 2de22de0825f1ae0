/* SPDX-License-Identifier: Apache-2.0
 *
 * A bare-metal image that runs models for the machine that emulates it: the whole runtime with the
 * target's best kernels. It serves the pipe `requests` and answers in the pipe `replies`;
 * edgekit/firmware/serve.py is the other end. Numbers are uint32.
 *
 *     MODEL, bytes, file   status and error offset; where the status is EK_OK bytes of instance memory
 *                          and of scratch, number of steps, and for each step the name of its kernel:
 *                          length, characters
 *     RUN, for each input  for every operator the tensor's index, its bytes and data; NO_TENSOR; then
 *     format, data         every output twice: of this run and of one that was not observed; bytes of
 *                          stack used since the start
 *     END
 */
#include <string.h>

#include "../core/instance.h"
#include "edgekit/edgekit.h"
#include "semihosting.h"
#include "start.h"

#define NO_TENSOR 0xFFFFFFFFu
#define MAX_PORTS 32

enum { END = 0, MODEL = 1, RUN = 2 };

/* Exit codes: what went wrong where no reply can say it. */
enum { BROKEN_PIPE = 121, BAD_REQUEST = 122, TOO_LARGE = 123 };

extern uint8_t ek_heap_begin[], ek_heap_end[];

static int32_t requests, replies;
static uint8_t *heap;

static void *allocate(size_t bytes)
{
    const size_t rounded = (bytes + EK_ALIGN - 1) / EK_ALIGN * EK_ALIGN;
    uint8_t *block = heap;
    if (rounded < bytes || rounded > (size_t)(ek_heap_end - heap))
        semi_exit(TOO_LARGE);
    heap += rounded;
    return block;
}

static void put(const void *data, size_t bytes)
{
    if (!semi_write(replies, data, bytes))
        semi_exit(BROKEN_PIPE);
}

static void put_number(uint32_t value)
{
    put(&value, sizeof value);
}

static void get(void *data, size_t bytes)
{
    if (!semi_read(requests, data, bytes))
        semi_exit(BROKEN_PIPE);
}

static uint32_t get_number(void)
{
    uint32_t value;
    get(&value, sizeof value);
    return value;
}

/* ---- The model ------------------------------------------------------------------------------- */

typedef struct port {
    ek_io_info info;
    void *buffer[2]; /* of an input the first one only */
    size_t bytes;
} port;

static ek_model model;
static port inputs[MAX_PORTS], outputs[MAX_PORTS];

static size_t bytes_of(const ek_io_info *info, ek_format format)
{
    return info->elements * (format == EK_FORMAT_FLOAT ? sizeof(float) : 1);
}

static void open_ports(void)
{
    if (ek_input_count(&model) > MAX_PORTS || ek_output_count(&model) > MAX_PORTS)
        semi_exit(TOO_LARGE);
    for (uint32_t i = 0; i < ek_input_count(&model); i++) {
        ek_input_info(&model, i, &inputs[i].info);
        inputs[i].buffer[0] = allocate(bytes_of(&inputs[i].info, inputs[i].info.format));
    }
    for (uint32_t i = 0; i < ek_output_count(&model); i++) {
        port *p = &outputs[i];
        ek_output_info(&model, i, &p->info);
        p->bytes = bytes_of(&p->info, p->info.format);
        p->buffer[0] = allocate(p->bytes);
        p->buffer[1] = allocate(p->bytes);
    }
}

static void observe(void *context, const ek_op_event *event)
{
    (void)context;
    if (!event->done)
        return;
    put_number(event->tensor);
    put_number(event->bytes);
    put(event->data, event->bytes);
}

static void describe(const ek_instance *net)
{
    const ek_step *step = (const void *)net->steps;
    put_number(net->step_count);
    for (uint32_t i = 0; i < net->step_count; i++, step = ek_step_next(step)) {
        const char *name = step->kernel == NULL ? "" : step->kernel->name;
        put_number(strlen(name));
        put(name, strlen(name));
    }
}

static void put_status(ek_status status)
{
    put_number((uint32_t)status);
    put_number(ek_error_offset(&model));
}

/* Null where the runtime refuses the model; that is told. */
static ek_instance *create(ek_kernels kernels)
{
    const size_t need = ek_memory_needed(&model, kernels, 1);
    const ek_config config = {.kernels = kernels};
    ek_instance *net = NULL;
    const ek_status status = ek_create(&net, &model, &config, allocate(need), need);
    put_status(status);
    if (status != EK_OK)
        return NULL;
    put_number(need);
    put_number(ek_scratch_needed(&model, kernels));
    describe(net);
    return net;
}

/* The same for the model that comes next in the pipe; the one before is gone. */
static ek_instance *load(void)
{
    const size_t bytes = get_number();
    heap = ek_heap_begin;
    void *data = allocate(bytes);
    get(data, bytes);
    const ek_status status = ek_open(&model, data, bytes, 0);
    if (status != EK_OK) {
        put_status(status);
        return NULL;
    }
    open_ports();
    return create(ek_kernels_built());
}

/* ---- Requests -------------------------------------------------------------------------------- */

static void read_inputs(ek_instance *net)
{
    for (uint32_t i = 0; i < ek_input_count(&model); i++) {
        const ek_format format = (ek_format)get_number();
        const size_t bytes = bytes_of(&inputs[i].info, format);
        if (bytes > bytes_of(&inputs[i].info, inputs[i].info.format))
            semi_exit(BAD_REQUEST);
        get(inputs[i].buffer[0], bytes);
        if (ek_bind_input(net, i, inputs[i].buffer[0], bytes, format) != EK_OK)
            semi_exit(BAD_REQUEST);
    }
}

/* A model's state is that of its first run each time, as both runs are the same inference. */
static void run(ek_instance *net, int observed)
{
    net->config.on_op = observed ? observe : NULL;
    for (uint32_t i = 0; i < ek_output_count(&model); i++) {
        port *p = &outputs[i];
        ek_bind_output(net, i, p->buffer[!observed], p->bytes, p->info.format);
    }
    ek_reset(net);
    if (ek_run(net) != EK_OK)
        semi_exit(BAD_REQUEST);
    if (observed)
        put_number(NO_TENSOR);
    for (uint32_t i = 0; i < ek_output_count(&model); i++)
        put(outputs[i].buffer[!observed], outputs[i].bytes);
}

static void infer(ek_instance *net)
{
    if (net == NULL)
        semi_exit(BAD_REQUEST);
    read_inputs(net);
    run(net, 1);
    run(net, 0);
    put_number(stack_used());
}

int main(void)
{
    ek_instance *net = NULL;
    requests = semi_open("requests", SEMI_READ);
    replies = semi_open("replies", SEMI_WRITE);
    if (requests < 0 || replies < 0)
        return BROKEN_PIPE;
    for (;;) {
        switch (get_number()) {
        case MODEL: net = load(); break;
        case RUN: infer(net); break;
        case END: return 0;
        default: return BAD_REQUEST;
        }
    }
}
