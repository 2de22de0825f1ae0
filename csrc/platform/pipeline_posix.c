/* SPDX-License-Identifier: Apache-2.0
 *
 * A pipeline of POSIX threads.
 *
 * In front of each stage is a gate that counts the inputs which may enter it. The stage before
 * opens it, or a push the first one; the stage waits until it is open for the next number. Inputs
 * go round in slots, each an instance. A slot belongs to one stage at a time, and the gates hand
 * it on.
 */
#define _POSIX_C_SOURCE 200809L
#include "edgekit/edgekit_threads.h"
#include "waiting.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct gate {
    alignas(CACHE_LINE) atomic_uint open; /* how many inputs have been let in; wraps */
    atomic_uint asleep;                   /* the stage behind it sleeps */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} gate;

typedef struct slot {
    alignas(CACHE_LINE) ek_instance *instance;
    ek_status status; /* of the stages so far */
} slot;

typedef struct stage {
    gate gate;
    ek_pipeline *pipeline;
    uint32_t first, end;  /* operators */
    uint32_t next;        /* number of the next input; wraps */
    uint32_t slot;        /* where it is */
    pthread_t thread;     /* not of the last stage */
} stage;

struct ek_pipeline {
    stage *stages;
    slot *slots;
    uint32_t stage_count, slot_count;
    uint32_t inside; /* inputs in flight */
    atomic_uint stop;
    int waits_awake; /* each stage can have a processor of its own */
    uint32_t gates, started; /* that were made */
    void *memory; /* what holds all of it */
};

/* ---- Stages ---------------------------------------------------------------------------------- */

/* Whether the next input may enter, or the pipeline ends. */
static int has_news(void *context)
{
    stage *s = context;
    return atomic_load(&s->gate.open) != s->next || atomic_load(&s->pipeline->stop);
}

static void wait_asleep(stage *s)
{
    gate *g = &s->gate;
    pthread_mutex_lock(&g->mutex);
    atomic_store(&g->asleep, 1);
    while (!has_news(s))
        pthread_cond_wait(&g->wake, &g->mutex);
    atomic_store(&g->asleep, 0);
    pthread_mutex_unlock(&g->mutex);
}

static void wait_for_input(stage *s)
{
    if (!s->pipeline->waits_awake || !wait_awake(has_news, s))
        wait_asleep(s);
}

static void wake(gate *g)
{
    pthread_mutex_lock(&g->mutex);
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->mutex);
}

static void let_in(gate *g)
{
    atomic_fetch_add(&g->open, 1);
    if (atomic_load(&g->asleep))
        wake(g);
}

/* Computes the input that has come; one that has failed stays as it is. */
static ek_status run_stage(stage *s)
{
    slot *at = &s->pipeline->slots[s->slot];
    if (at->status == EK_OK)
        at->status = ek_run_ops(at->instance, s->first, s->end);
    s->next++;
    s->slot = s->slot + 1 == s->pipeline->slot_count ? 0 : s->slot + 1;
    return at->status;
}

static void *work(void *argument)
{
    stage *s = argument;
    for (;;) {
        wait_for_input(s);
        if (atomic_load(&s->pipeline->stop))
            return NULL;
        run_stage(s);
        let_in(&s[1].gate);
    }
}

ek_status ek_pipeline_push(ek_pipeline *pipeline)
{
    if (pipeline == NULL || pipeline->inside == pipeline->slot_count)
        return EK_ERROR_ARGUMENT;
    gate *first = &pipeline->stages[0].gate;
    pipeline->inside++;
    let_in(first);
    return EK_OK;
}

ek_status ek_pipeline_pop(ek_pipeline *pipeline)
{
    if (pipeline == NULL || pipeline->inside == 0)
        return EK_ERROR_ARGUMENT;
    stage *last = &pipeline->stages[pipeline->stage_count - 1];
    slot *at = &pipeline->slots[last->slot];
    wait_for_input(last);
    const ek_status status = run_stage(last);
    at->status = EK_OK; /* for the next input */
    pipeline->inside--;
    return status;
}

/* ---- The pipeline ---------------------------------------------------------------------------- */

static int are_distinct(ek_instance *const *instances, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (instances[i] == NULL)
            return 0;
        for (uint32_t j = 0; j < i; j++)
            if (instances[j] == instances[i])
                return 0;
    }
    return 1;
}

static int are_valid(const ek_model *model, ek_instance *const *instances, uint32_t count,
                     const uint32_t *cuts, uint32_t stages)
{
    if (model == NULL || instances == NULL || count == 0 || cuts == NULL || stages == 0)
        return 0;
    if (cuts[0] != 0 || (count > 1 && ek_state_bytes(model) != 0))
        return 0;
    for (uint32_t s = 1; s < stages; s++)
        if (cuts[s] <= cuts[s - 1])
            return 0;
    return are_distinct(instances, count);
}

/* Zeroed; null if there is no memory. */
static ek_pipeline *allocate(uint32_t stages, uint32_t slots)
{
    /* The stages come first, being aligned; 2^32 of each are below 2^42 bytes. */
    const uint64_t lines = (uint64_t)stages * sizeof(stage) + (uint64_t)slots * sizeof(slot);
    const uint64_t bytes = lines + sizeof(ek_pipeline) + CACHE_LINE;
    uint8_t *memory = bytes > SIZE_MAX / 2 ? NULL : calloc(1, (size_t)bytes);
    if (memory == NULL)
        return NULL;
    stage *first = line_start(memory);
    slot *slots_at = (void *)(first + stages);
    ek_pipeline *pipeline = (void *)(slots_at + slots);
    *pipeline = (ek_pipeline){.stages = first,
                              .slots = slots_at,
                              .stage_count = stages,
                              .slot_count = slots,
                              .memory = memory};
    return pipeline;
}

static void fill(ek_pipeline *pipeline, ek_instance *const *instances, const uint32_t *cuts)
{
    for (uint32_t i = 0; i < pipeline->slot_count; i++)
        pipeline->slots[i].instance = instances[i];
    for (uint32_t s = 0; s < pipeline->stage_count; s++) {
        stage *made = &pipeline->stages[s];
        made->pipeline = pipeline;
        made->first = cuts[s];
        made->end = s + 1 < pipeline->stage_count ? cuts[s + 1] : UINT32_MAX;
    }
}

static int make_gate(ek_pipeline *pipeline)
{
    gate *g = &pipeline->stages[pipeline->gates].gate;
    if (pthread_mutex_init(&g->mutex, NULL) != 0)
        return 0;
    if (pthread_cond_init(&g->wake, NULL) != 0) {
        pthread_mutex_destroy(&g->mutex);
        return 0;
    }
    pipeline->gates++;
    return 1;
}

static int start_stage(ek_pipeline *pipeline)
{
    stage *s = &pipeline->stages[pipeline->started];
    if (pthread_create(&s->thread, NULL, work, s) != 0)
        return 0;
    pipeline->started++;
    return 1;
}

ek_status ek_pipeline_create(ek_pipeline **pipeline, const ek_model *model,
                             ek_instance *const *instances, uint32_t count, const uint32_t *cuts,
                             uint32_t stages)
{
    if (pipeline == NULL)
        return EK_ERROR_ARGUMENT;
    *pipeline = NULL;
    if (!are_valid(model, instances, count, cuts, stages))
        return EK_ERROR_ARGUMENT;
    ek_pipeline *made = allocate(stages, count);
    if (made == NULL)
        return EK_ERROR_MEMORY;
    fill(made, instances, cuts);
    made->waits_awake = have_processors(stages);
    int complete = 1;
    while (complete && made->gates < stages)
        complete = make_gate(made);
    while (complete && made->started < stages - 1)
        complete = start_stage(made);
    if (!complete) {
        ek_pipeline_destroy(made);
        return EK_ERROR_MEMORY;
    }
    *pipeline = made;
    return EK_OK;
}

void ek_pipeline_destroy(ek_pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    atomic_store(&pipeline->stop, 1);
    for (uint32_t s = 0; s < pipeline->started; s++)
        wake(&pipeline->stages[s].gate);
    for (uint32_t s = 0; s < pipeline->started; s++)
        pthread_join(pipeline->stages[s].thread, NULL);
    for (uint32_t s = 0; s < pipeline->gates; s++) {
        pthread_cond_destroy(&pipeline->stages[s].gate.wake);
        pthread_mutex_destroy(&pipeline->stages[s].gate.mutex);
    }
    free(pipeline->memory);
}
