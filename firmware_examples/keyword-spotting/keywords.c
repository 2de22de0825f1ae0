/* SPDX-License-Identifier: Apache-2.0
 *
 * Listens to the clips of words.h: sound, features, network, word. A product has a microphone in their place.
 */
#include "edgekit/edgekit.h"
#include "log_mel.h"
#include "model.h"
#include "semihosting.h"
#include "start.h"
#include "words.h"

/* All memory of the runtime: prepared operators, arena, scratch. Nothing else is ever allocated. */
_Alignas(EK_ALIGN) static uint8_t memory[MODEL_MEMORY_BYTES] __attribute__((section(".noinit")));

static int8_t features[LOG_MEL_BYTES];
static int8_t scores[WORDS];

/* Maps the model, which stays in flash, and binds its buffers. */
static ek_status start(ek_model *model, ek_instance **net)
{
    const ek_config config = {.kernels = MODEL_KERNELS};
    ek_status status = ek_open(model, model_bytes, MODEL_BYTES, 0);
    if (status == EK_OK)
        status = ek_create(net, model, &config, memory, sizeof memory);
    if (status == EK_OK)
        status = ek_bind_input(*net, 0, features, sizeof features, EK_FORMAT_INT8);
    if (status == EK_OK)
        status = ek_bind_output(*net, 0, scores, sizeof scores, EK_FORMAT_INT8);
    return status;
}

static uint32_t best_score(void)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < WORDS; i++)
        best = scores[i] > scores[best] ? i : best;
    return best;
}

static void report(uint32_t said, uint32_t heard, uint32_t percent)
{
    semi_puts("said ");
    semi_puts(word_labels[said]);
    semi_puts(", heard ");
    semi_puts(word_labels[heard]);
    semi_puts(": ");
    semi_number(percent);
    semi_puts(" %\n");
}

/* Runs on every clip; `right` becomes how many were recognized. */
static ek_status listen(ek_instance *net, const ek_io_info *output, uint32_t *right)
{
    for (uint32_t said = 0; said < WORDS; said++) {
        log_mel_clip(word_sounds[said], features);
        const ek_status status = ek_run(net);
        if (status != EK_OK)
            return status;
        const uint32_t heard = best_score();
        const float score = output->scale * (float)(scores[heard] - output->zero_point);
        report(said, heard, (uint32_t)(100 * score + 0.5f));
        *right += heard == said;
    }
    return EK_OK;
}

int main(void)
{
    ek_model model;
    ek_instance *net;
    ek_io_info output;
    uint32_t right = 0;
    ek_status status = start(&model, &net);
    if (status == EK_OK)
        status = ek_output_info(&model, 0, &output);
    if (status == EK_OK)
        status = listen(net, &output, &right);
    if (status != EK_OK) {
        semi_puts(ek_status_string(status));
        semi_puts("\n");
        return 1;
    }
    semi_number(right);
    semi_puts(" of ");
    semi_number(WORDS);
    semi_puts(" words; stack bytes ");
    semi_number(stack_used());
    semi_puts("\n");
    return right == WORDS && stack_used() < MODEL_STACK_BYTES ? 0 : 1;
}
