/* SPDX-License-Identifier: Apache-2.0
 *
 * A pool of POSIX threads.
 *
 * A loop is published in `task`, `argument` and `count`, then opened. A worker enters, and only if it
 * then finds the loop open does it take parts; the caller takes parts too, closes the loop when
 * none is left, and waits until all that entered have left. So the fields change only while nobody can
 * read them, and a worker that sleeps through a whole loop holds up nobody.
 */
#include "edgekit/edgekit_threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Rounds of waiting for the next loop before sleeping: some tens of microseconds, longer than the
 * gap between two operators. */
#define SPIN_ROUNDS 2000

struct ek_threads {
    /* The loop. */
    ek_task task;
    void *argument;
    uint32_t count;
    atomic_uint next;    /* the next part */
    atomic_uint open;    /* 0 or 1 */
    atomic_uint inside;  /* workers that have entered */

    /* Waiting for one. */
    atomic_uint loops;   /* how many were opened so far */
    atomic_uint sleepers;
    atomic_uint stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;

    uint32_t started; /* workers */
    struct worker {
        ek_threads *pool;
        pthread_t thread;
        uint32_t number; /* 1 and up; the caller is 0 */
    } workers[];
};

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

static void take_parts(ek_threads *pool, uint32_t thread)
{
    for (;;) {
        const uint32_t part = atomic_fetch_add(&pool->next, 1);
        if (part >= pool->count)
            return;
        pool->task(pool->argument, part, thread);
    }
}

static void sleep_until_next(ek_threads *pool, unsigned seen)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->loops) == seen && !atomic_load(&pool->stop))
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_next(ek_threads *pool, unsigned seen)
{
    for (int round = 0; round < SPIN_ROUNDS; round++) {
        if (atomic_load(&pool->loops) != seen || atomic_load(&pool->stop))
            return;
        pause_briefly();
    }
    sleep_until_next(pool, seen);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    ek_threads *pool = worker->pool;
    for (unsigned seen = 0; !atomic_load(&pool->stop);) {
        wait_for_next(pool, seen);
        seen = atomic_load(&pool->loops);
        atomic_fetch_add(&pool->inside, 1);
        if (atomic_load(&pool->open))
            take_parts(pool, worker->number);
        atomic_fetch_sub(&pool->inside, 1);
    }
    return NULL;
}

static void wake_sleepers(ek_threads *pool)
{
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

void ek_threads_parallel_for(void *context, ek_task task, void *argument, uint32_t count)
{
    ek_threads *pool = context;
    pool->task = task;
    pool->argument = argument;
    pool->count = count;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->open, 1);
    atomic_fetch_add(&pool->loops, 1);
    wake_sleepers(pool);
    take_parts(pool, 0);
    atomic_store(&pool->open, 0);
    /* With fewer processors than threads, whoever is inside may need this one. */
    for (int round = 0; atomic_load(&pool->inside) != 0; round++) {
        if (round < SPIN_ROUNDS)
            pause_briefly();
        else
            sched_yield();
    }
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
    if (workers > (SIZE_MAX - sizeof(ek_threads)) / sizeof(struct worker))
        return NULL;
    ek_threads *pool = calloc(1, sizeof *pool + workers * sizeof pool->workers[0]);
    if (pool == NULL)
        return NULL;
    if (pthread_mutex_init(&pool->mutex, NULL) != 0) {
        free(pool);
        return NULL;
    }
    if (pthread_cond_init(&pool->wake, NULL) != 0) {
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
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
    free(pool);
}
