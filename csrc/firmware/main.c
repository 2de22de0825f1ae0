/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the model on the self-test's input and says whether every bit is right. application.c is what an
 * application begins with.
 */
#include "model.h"
#include "edgekit/edgekit.h"
#include "selftest.h"
#include "semihosting.h"
#include "start.h"

/* All memory of the runtime: prepared operators, arena, scratch. Nothing else is ever allocated. */
_Alignas(EK_ALIGN) static uint8_t memory[MODEL_MEMORY_BYTES] __attribute__((section(".noinit")));

_Alignas(EK_ALIGN) static uint8_t outputs[MODEL_OUTPUTS_BYTES];

static int failed(const char *what, ek_status status)
{
    semi_puts(what);
    semi_puts(": ");
    semi_puts(ek_status_string(status));
    semi_puts("\n");
    return 1;
}

static void say(const char *label, uint32_t value)
{
    semi_puts(label);
    semi_number(value);
    semi_puts("\n");
}

static ek_status bind(ek_instance *net)
{
    for (uint32_t i = 0; i < MODEL_INPUT_COUNT; i++) {
        const selftest_input *in = &selftest_inputs[i];
        const ek_status status = ek_bind_input(net, i, in->data, in->bytes, in->format);
        if (status != EK_OK)
            return status;
    }
    for (uint32_t i = 0; i < MODEL_OUTPUT_COUNT; i++) {
        const model_port *out = &model_outputs[i];
        const ek_status status =
            ek_bind_output(net, i, outputs + out->offset, out->bytes, out->format);
        if (status != EK_OK)
            return status;
    }
    return EK_OK;
}

/* The index of the largest value of an output: the class, where the model classifies. */
static uint32_t largest(const void *output, uint32_t bytes, ek_format format)
{
    uint32_t best = 0;
    if (format == EK_FORMAT_FLOAT) {
        const float *v = output;
        for (uint32_t i = 1; i < bytes / sizeof *v; i++)
            best = v[i] > v[best] ? i : best;
    } else {
        const int8_t *v = output;
        for (uint32_t i = 1; i < bytes; i++)
            best = v[i] > v[best] ? i : best;
    }
    return best;
}

static int report(const selftest_state *state)
{
    int passed = 1;
    const uint32_t operator = selftest_operators(state);
    if (operator != SELFTEST_PASSED) {
        passed = 0;
        say("wrong from operator ", operator);
    }
    for (uint32_t i = 0; i < MODEL_OUTPUT_COUNT; i++) {
        const model_port *out = &model_outputs[i];
        const void *data = outputs + out->offset;
        say("output ", i);
        say("  largest value at ", largest(data, out->bytes, out->format));
        if (!selftest_output(i, data, out->bytes)) {
            passed = 0;
            semi_puts("  wrong\n");
        }
    }
    say("stack bytes ", stack_used());
    semi_puts(passed ? "self-test passed\n" : "self-test FAILED\n");
    return passed ? 0 : 1;
}

int main(void)
{
    ek_model model;
    ek_instance *net;
    selftest_state state = {0};
    const ek_config config = {
        .kernels = MODEL_KERNELS,
        .on_op = selftest_observe,
        .on_op_context = &state,
    };
    ek_status status = ek_open(&model, model_bytes, MODEL_BYTES, 0);
    if (status != EK_OK)
        return failed("model", status);
    status = ek_create(&net, &model, &config, memory, sizeof memory);
    if (status != EK_OK)
        return failed("memory", status);
    status = bind(net);
    if (status != EK_OK)
        return failed("bind", status);
    semi_puts(MODEL_NAME "\n");
    status = ek_run(net);
    if (status != EK_OK)
        return failed("run", status);
    return report(&state);
}
