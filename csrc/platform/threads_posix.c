/* SPDX-License-Identifier: Apache-2.0
 *
 * A pool of POSIX threads.
 *
 * A loop is published in `task`, `argument` and `count`, then opened. A worker enters, and only if it
 * then finds the loop open does it take parts; the caller takes parts too, closes the loop when
 * none is left, and waits until all that entered have left. So the fields change only while nobody can
 * read them, and a worker that sleeps through a whole loop holds up nobody.
 *
 * Workers wait for the next loop awake, for some time, then asleep. To wake them takes the caller some
 * microseconds and them some tens, so that loops that are over by then are best done alone.
 */
#define _POSIX_C_SOURCE 200809L
#include "edgekit/edgekit_threads.h"
#include "waiting.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Microseconds of loops, without a longer pause, that the caller does alone before it wakes workers. */
#define ALONE_US 15

/* A worker that has taken a part and then lost its processor holds up the caller until it gets one again. If that
 * takes so many microseconds more than the caller's own parts, the caller does its loops alone for so
 * many times as long: on a machine without processors to spare, threads then cost some percent. */
#define STALL_US 50
#define STALL_REST 20

/* In `state`, above the number of workers inside. */
#define OPEN 0x80000000u

struct ek_threads {
    /* The loop; each line is written by others at other times. */
    alignas(CACHE_LINE) ek_task task;
    void *argument;
    uint32_t count;
    atomic_uint loops;                    /* how many were opened so far */
    alignas(CACHE_LINE) atomic_uint state; /* OPEN, workers that have entered */
    alignas(CACHE_LINE) atomic_uint next; /* the next part */

    /* Sleeping. */
    alignas(CACHE_LINE) atomic_uint sleepers;
    atomic_uint stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    void *memory; /* what holds the pool */
    /* The caller's times, in microseconds. */
    int64_t alone_since, last_loop; /* sleepers are left alone */
    int64_t rests_until;            /* all workers are */
    int waits_awake;                /* each thread can have a processor of its own */

    uint32_t started; /* workers */
    struct worker {
        ek_threads *pool;
        pthread_t thread;
        uint32_t number; /* 1 and up; the caller is 0 */
    } workers[];
};

/* Takes one part; 0 if none is left. */
static int take_part(ek_threads *pool, uint32_t thread)
{
    const uint32_t part = atomic_fetch_add(&pool->next, 1);
    if (part >= pool->count)
        return 0;
    pool->task(pool->argument, part, thread);
    return 1;
}

static void take_parts(ek_threads *pool, uint32_t thread)
{
    while (take_part(pool, thread)) {
    }
}

/* ---- Workers --------------------------------------------------------------------------------- */

/* Waits for a loop behind the first `seen`, or for the end. */
typedef struct awaited {
    ek_threads *pool;
    unsigned seen;
} awaited;

static int has_news(void *context)
{
    const awaited *w = context;
    return atomic_load(&w->pool->loops) != w->seen || atomic_load(&w->pool->stop);
}

static void wait_asleep(awaited *w)
{
    ek_threads *pool = w->pool;
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!has_news(w))
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    ek_threads *pool = worker->pool;
    awaited w = {pool, 0};
    while (!atomic_load(&pool->stop)) {
        if (!pool->waits_awake || !wait_awake(has_news, &w))
            wait_asleep(&w);
        w.seen = atomic_load(&pool->loops);
        if (atomic_fetch_add(&pool->state, 1) & OPEN)
            take_parts(pool, worker->number);
        atomic_fetch_sub(&pool->state, 1);
    }
    return NULL;
}

/* ---- The caller ------------------------------------------------------------------------------ */

static void wake_sleepers(ek_threads *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* Takes parts until they, and those of loops shortly before, have taken long enough that it pays to wake
 * the sleepers; then wakes them. */
static void take_parts_alone(ek_threads *pool, int64_t start)
{
    if (start - pool->last_loop > ALONE_US)
        pool->alone_since = start;
    pool->last_loop = start;
    while (take_part(pool, 0)) {
        pool->last_loop = microseconds();
        if (pool->last_loop - pool->alone_since >= ALONE_US) {
            wake_sleepers(pool);
            pool->alone_since = pool->last_loop;
            return;
        }
    }
}

/* Should a worker that is inside have no processor, it gets this one. */
static void wait_until_empty(ek_threads *pool)
{
    for (int round = 0; atomic_load(&pool->state) != 0; round++) {
        if (round < 4 * SPIN_ROUNDS)
            pause_briefly();
        else
            sched_yield();
    }
}

/* Waits for the workers inside a loop that began at `start` and has no parts left. */
static void finish(ek_threads *pool, int64_t start)
{
    const int64_t done = microseconds();
    wait_until_empty(pool);
    const int64_t end = microseconds(), waited = end - done;
    if (waited > done - start + STALL_US)
        pool->rests_until = end + STALL_REST * waited;
}

void ek_threads_parallel_for(void *context, ek_task task, void *argument, uint32_t count)
{
    ek_threads *pool = context;
    const int64_t start = microseconds();
    pool->task = task;
    pool->argument = argument;
    pool->count = count;
    atomic_store(&pool->next, 0);
    if (start < pool->rests_until) {
        take_parts(pool, 0);
        return;
    }
    atomic_fetch_or(&pool->state, OPEN);
    atomic_fetch_add(&pool->loops, 1);
    if (atomic_load(&pool->sleepers) != 0)
        take_parts_alone(pool, start);
    take_parts(pool, 0);
    atomic_fetch_and(&pool->state, ~OPEN);
    if (atomic_load(&pool->state) != 0)
        finish(pool, start);
}

/* ---- The pool -------------------------------------------------------------------------------- */

/* Zeroed; null if there is no memory. */
static ek_threads *allocate(size_t workers)
{
    if (workers > (SIZE_MAX / 2 - sizeof(ek_threads)) / sizeof(struct worker))
        return NULL;
    uint8_t *memory = calloc(1, sizeof(ek_threads) + workers * sizeof(struct worker) + CACHE_LINE);
    if (memory == NULL)
        return NULL;
    ek_threads *pool = line_start(memory);
    pool->memory = memory;
    return pool;
}

static int start_worker(ek_threads *pool)
{
    struct worker *worker = &pool->workers[pool->started];
    worker->pool = pool;
    worker->number = pool->started + 1;
    if (pthread_create(&worker->thread, NULL, work, worker) != 0)
        return 0;
    pool->started++;
    return 1;
}

ek_threads *ek_threads_create(uint32_t threads)
{
    const size_t workers = threads == 0 ? 0 : threads - 1;
    ek_threads *pool = allocate(workers);
    if (pool == NULL)
        return NULL;
    pool->waits_awake = have_processors(threads);
    if (pthread_mutex_init(&pool->mutex, NULL) != 0) {
        free(pool->memory);
        return NULL;
    }
    if (pthread_cond_init(&pool->wake, NULL) != 0) {
        pthread_mutex_destroy(&pool->mutex);
        free(pool->memory);
        return NULL;
    }
    while (pool->started < workers)
        if (!start_worker(pool)) {
            ek_threads_destroy(pool);
            return NULL;
        }
    return pool;
}

void ek_threads_destroy(ek_threads *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->stop, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->memory);
}
