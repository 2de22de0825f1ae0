/* SPDX-License-Identifier: Apache-2.0
 *
 * edgekit-run --serve: the protocol of serve/protocol.h over standard input and output.
 */
#define _POSIX_C_SOURCE 200809L
#include "../serve/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

#include "../serve/protocol.h"
#include "edgekit/edgekit_cpu.h"
#include "edgekit/edgekit_threads.h"
#include "serve_stdio.h"

/* Of serve_threads; a pool's own limit is memory. */
#define MAX_THREADS 64

/* What serve_allocate gave, in front of its memory. */
typedef struct block {
    struct block *next;
} block;

static block *blocks;
static ek_threads *pools[EK_SERVE_MAX_INSTANCES];
static uint32_t pool_count;

void serve_get(void *data, size_t bytes)
{
    if (fread(data, 1, bytes, stdin) != bytes)
        serve_exit(EK_SERVE_BROKEN_PIPE);
}

void serve_put(const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, stdout) != bytes)
        serve_exit(EK_SERVE_BROKEN_PIPE);
}

void serve_flush(void)
{
    if (fflush(stdout) != 0)
        serve_exit(EK_SERVE_BROKEN_PIPE);
}

void *serve_allocate(size_t bytes)
{
    const size_t around = sizeof(block) + EK_ALIGN;
    block *b = bytes > SIZE_MAX - around ? NULL : malloc(bytes + around);
    if (b == NULL)
        serve_exit(EK_SERVE_TOO_LARGE);
    *b = (block){blocks};
    blocks = b;
    uint8_t *memory = (uint8_t *)(b + 1);
    return memory + (EK_ALIGN - (uintptr_t)memory % EK_ALIGN) % EK_ALIGN;
}

void serve_release(void)
{
    while (pool_count > 0)
        ek_threads_destroy(pools[--pool_count]);
    while (blocks != NULL) {
        block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

ek_kernels serve_kernels(void)
{
    return ek_kernels_built() & ek_cpu_kernels();
}

uint32_t serve_processors(void)
{
#ifdef _SC_NPROCESSORS_ONLN
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > 0 ? (uint32_t)processors : 1;
#else
    return 1;
#endif
}

int serve_threads(uint32_t threads, ek_config *config)
{
    if (threads > MAX_THREADS || pool_count == EK_SERVE_MAX_INSTANCES)
        return 0;
    ek_threads *pool = ek_threads_create(threads);
    if (pool == NULL)
        return 0;
    pools[pool_count++] = pool;
    config->parallel_for = ek_threads_parallel_for;
    config->parallel_context = pool;
    return 1;
}

const void *serve_file(const char *path, size_t *bytes)
{
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        return NULL;
    const long size = fseek(stream, 0, SEEK_END) == 0 ? ftell(stream) : -1;
    void *data = NULL;
    if (size >= 0 && fseek(stream, 0, SEEK_SET) == 0) {
        data = serve_allocate((size_t)size);
        *bytes = fread(data, 1, (size_t)size, stream);
    }
    fclose(stream);
    return data != NULL && *bytes == (size_t)size ? data : NULL;
}

uint64_t serve_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t serve_stack(void)
{
    return 0;
}

void serve_exit(int code)
{
    _Exit(code);
}

int serve_stdio(void)
{
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    return ek_serve();
}
