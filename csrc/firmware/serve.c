/* SPDX-License-Identifier: Apache-2.0
 *
 * A bare-metal image that runs models for the machine that emulates it: the whole runtime with the
 * target's kernels. It serves the pipe `requests` and answers in the pipe `replies`;
 * edgekit/firmware/serve.py is the other end.
 */
#include "../serve/serve.h"

#include "../serve/protocol.h"
#include "semihosting.h"
#include "start.h"

extern uint8_t ek_heap_begin[], ek_heap_end[];

static int32_t requests, replies;
static uint8_t *heap = ek_heap_begin;

void serve_get(void *data, size_t bytes)
{
    if (!semi_read(requests, data, bytes))
        semi_exit(EK_SERVE_BROKEN_PIPE);
}

void serve_put(const void *data, size_t bytes)
{
    if (!semi_write(replies, data, bytes))
        semi_exit(EK_SERVE_BROKEN_PIPE);
}

void serve_flush(void)
{
}

void *serve_allocate(size_t bytes)
{
    const size_t rounded = (bytes + EK_ALIGN - 1) / EK_ALIGN * EK_ALIGN;
    uint8_t *block = heap;
    if (rounded < bytes || rounded > (size_t)(ek_heap_end - heap))
        semi_exit(EK_SERVE_TOO_LARGE);
    heap += rounded;
    return block;
}

void serve_release(void)
{
    heap = ek_heap_begin;
}

ek_kernels serve_kernels(void)
{
    return ek_kernels_built();
}

uint32_t serve_processors(void)
{
    return 1;
}

int serve_threads(uint32_t threads, ek_config *config)
{
    (void)threads;
    (void)config;
    return 0;
}

const void *serve_file(const char *path, size_t *bytes)
{
    (void)path;
    (void)bytes;
    return NULL;
}

uint64_t serve_clock(void)
{
    return 0;
}

uint32_t serve_stack(void)
{
    return stack_used();
}

void serve_exit(int code)
{
    semi_exit(code);
}

int main(void)
{
    requests = semi_open("requests", SEMI_READ);
    replies = semi_open("replies", SEMI_WRITE);
    return requests < 0 || replies < 0 ? EK_SERVE_BROKEN_PIPE : ek_serve();
}
