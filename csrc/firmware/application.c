/* SPDX-License-Identifier: Apache-2.0
 *
 * The least that an application does with the model; the sizes of code in README.md are those of this
 * program. Its own work stands where the comments say.
 */
#include "model.h"
#include "edgekit/edgekit.h"

/* All memory of the runtime: prepared operators, arena, scratch. Nothing else is ever allocated. */
_Alignas(EK_ALIGN) static uint8_t memory[MODEL_MEMORY_BYTES] __attribute__((section(".noinit")));

_Alignas(EK_ALIGN) static uint8_t inputs[MODEL_INPUTS_BYTES];
_Alignas(EK_ALIGN) static uint8_t outputs[MODEL_OUTPUTS_BYTES];

static ek_status bind(ek_instance *net)
{
    ek_status status = EK_OK;
    for (uint32_t i = 0; i < MODEL_INPUT_COUNT && status == EK_OK; i++) {
        const model_port *in = &model_inputs[i];
        status = ek_bind_input(net, i, inputs + in->offset, in->bytes, in->format);
    }
    for (uint32_t i = 0; i < MODEL_OUTPUT_COUNT && status == EK_OK; i++) {
        const model_port *out = &model_outputs[i];
        status = ek_bind_output(net, i, outputs + out->offset, out->bytes, out->format);
    }
    return status;
}

int main(void)
{
    ek_model model;
    ek_instance *net;
    const ek_config config = {.kernels = MODEL_KERNELS};
    ek_status status = ek_open(&model, model_bytes, MODEL_BYTES, 0);
    if (status == EK_OK)
        status = ek_create(&net, &model, &config, memory, sizeof memory);
    if (status == EK_OK)
        status = bind(net);
    while (status == EK_OK) {
        /* Fill `inputs`. */
        status = ek_run(net);
        /* Use `outputs`. */
    }
    return (int)status;
}
