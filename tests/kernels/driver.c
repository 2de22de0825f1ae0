/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs single kernels for tests/kernels/driver.py, which sends cases and compares the results.
 *
 * A stream of little-endian uint32 words. At the start the driver sends the list of its kernels: a
 * count, then for each its kernel set, kind, tile_n, tile_k, x_offset, the length of its name and the name.
 * Then come requests:
 *
 *     bytes         of the request behind this word
 *     kernel        its place in the list
 *     struct        which parameter struct, in the order of the generated tables
 *     words         of the struct, as the tables list them; a pointer is the number of a buffer
 *     inputs        how many buffers, the last ones, are inputs
 *     in_place      the input that the output overwrites, or NONE: then the buffer before the inputs
 *     noise         scratch memory holds 0x80 | noise before the call
 *     range         six words
 *     buffers       their number; for each: bytes, alignment, whether it ends at a guard or begins
 *                   at one, data
 *
 * and a reply to each: a status; with DONE bytes and content of the output, with BESIDE and CHANGED
 * the number of the buffer.
 */
#include "driver.h"

#include <stdint.h>
#include <string.h>

#include "kernels/kernel.h"

#define NONE 0xFFFFFFFFu
#define MAX_BUFFERS 16
#define CANARY 0xA5
#define SCRATCH_ALIGN 64

/* All memory; its alignment is the largest guard. */
#ifndef DRIVER_POOL_BYTES
#define DRIVER_POOL_BYTES (96u << 20)
#define DRIVER_POOL_ALIGN 65536
#endif

enum status { DONE = 0, UNSUPPORTED = 1, NO_MEMORY = 2, BESIDE = 3, CHANGED = 4 };

/* Where the words of a struct go. */
struct field {
    size_t offset;
    uint32_t count;
    int pointer;
};

struct params_type {
    const struct field *fields;
    size_t field_count;
    size_t bytes;
};

#include "kernel_fields.h" /* params_types, union params */

/* A buffer between two guards; the room of [begin, end) that it leaves holds canaries. */
struct buffer {
    uint8_t *begin, *end, *data;
    size_t bytes;
    uint32_t checksum;
};

struct request {
    const ek_kernel *kernel;
    const struct params_type *type;
    uint32_t words[64];
    uint32_t inputs, in_place, noise, buffer_count;
    ek_range range;
    struct buffer buffers[MAX_BUFFERS + 1]; /* the last one is scratch */
};

static _Alignas(DRIVER_POOL_ALIGN) uint8_t pool[DRIVER_POOL_BYTES];
static size_t used;
static uint32_t left; /* bytes of the request */
static union params params;
static struct request request;

/* ---- The stream ------------------------------------------------------------------------------ */

static int take(void *data, size_t bytes)
{
    if (bytes > left || !read_exact(data, bytes))
        return 0;
    left -= (uint32_t)bytes;
    return 1;
}

static int skip_rest(void)
{
    uint8_t piece[256];
    while (left > 0)
        if (!take(piece, left < sizeof piece ? left : sizeof piece))
            return 0;
    return 1;
}

static int send_word(uint32_t word)
{
    return write_all(&word, sizeof word);
}

static int send_kernels(void)
{
    size_t count;
    const ek_kernel *list = ek_kernel_list(&count);
    if (!send_word((uint32_t)count))
        return 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t length = (uint32_t)strlen(list[i].name);
        const uint32_t words[] = {list[i].set, (uint32_t)list[i].kind, (uint32_t)list[i].tile_n,
                                  (uint32_t)list[i].tile_k, (uint32_t)list[i].x_offset, length};
        if (!write_all(words, sizeof words) || !write_all(list[i].name, length))
            return 0;
    }
    return 1;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static uint32_t checksum(const uint8_t *data, size_t bytes)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ data[i]) * 16777619u;
    return hash;
}

/* Room for a buffer, filled with canaries; 0 if there is none. The guard before it is the one behind
 * the buffer before. */
static int place(struct buffer *b, uint32_t bytes, uint32_t align, int at_end)
{
    const size_t guard = guard_bytes();
    const size_t whole = ((size_t)bytes + align + guard - 1) / guard * guard;
    const size_t first = used == 0 ? guard : used;
    if (whole < bytes || first > sizeof pool || whole + guard > sizeof pool - first)
        return 0;
    memset(pool + first - guard, CANARY, whole + 2 * guard);
    b->begin = pool + first;
    b->end = b->begin + whole;
    b->data = at_end ? b->begin + (whole - bytes) / align * align : b->begin;
    b->bytes = bytes;
    used = first + whole + guard;
    return 1;
}

static void set_guards(uint32_t count, int closed)
{
    for (uint32_t i = 0; i < count; i++) {
        set_guard(request.buffers[i].begin - guard_bytes(), closed);
        if (i + 1 == count)
            set_guard(request.buffers[i].end, closed);
    }
}

static int all_canaries(const uint8_t *from, const uint8_t *to)
{
    for (; from < to; from++)
        if (*from != CANARY)
            return 0;
    return 1;
}

static int intact(const struct buffer *b)
{
    return all_canaries(b->begin - guard_bytes(), b->data) &&
           all_canaries(b->data + b->bytes, b->end + guard_bytes());
}

/* ---- A request ------------------------------------------------------------------------------- */

static int take_buffer(struct buffer *b)
{
    uint32_t words[3];
    return take(words, sizeof words) && place(b, words[0], words[1], (int)words[2]) &&
           take(b->data, b->bytes);
}

/* The number of words of a struct. */
static size_t word_count(const struct params_type *type)
{
    size_t count = 0;
    for (size_t i = 0; i < type->field_count; i++)
        count += type->fields[i].count;
    return count;
}

static int take_head(struct request *r)
{
    uint32_t head[2], tail[10];
    size_t kernels;
    const ek_kernel *list = ek_kernel_list(&kernels);
    if (!take(head, sizeof head) || head[0] >= kernels ||
        head[1] >= sizeof params_types / sizeof params_types[0])
        return 0;
    r->kernel = &list[head[0]];
    r->type = &params_types[head[1]];
    const size_t words = word_count(r->type);
    if (words > sizeof r->words / sizeof r->words[0] || !take(r->words, words * sizeof r->words[0]) ||
        !take(tail, sizeof tail))
        return 0;
    r->inputs = tail[0];
    r->in_place = tail[1];
    r->noise = tail[2];
    memcpy(&r->range, tail + 3, sizeof r->range);
    r->buffer_count = tail[9];
    return r->buffer_count <= MAX_BUFFERS && r->inputs <= r->buffer_count;
}

static void fill_params(const struct request *r)
{
    const uint32_t *word = r->words;
    memset(&params, 0, sizeof params);
    for (size_t i = 0; i < r->type->field_count; i++) {
        const struct field *f = &r->type->fields[i];
        uint8_t *to = (uint8_t *)&params + f->offset;
        if (f->pointer) {
            const void *data = *word < r->buffer_count ? r->buffers[*word].data : NULL;
            memcpy(to, &data, sizeof data);
        } else {
            memcpy(to, word, f->count * sizeof *word);
        }
        word += f->count;
    }
}

/* The buffer of the output. */
static uint32_t output_of(const struct request *r)
{
    const uint32_t first_input = r->buffer_count - r->inputs;
    return r->in_place == NONE ? first_input - 1 : first_input + r->in_place;
}

static void call(struct request *r, uint32_t buffers)
{
    const void *in[MAX_BUFFERS];
    for (uint32_t i = 0; i < r->inputs; i++)
        in[i] = r->buffers[r->buffer_count - r->inputs + i].data;
    set_guards(buffers, 1);
    r->kernel->run(&params, in, r->buffers[output_of(r)].data,
                   r->kernel->scratch ? r->buffers[r->buffer_count].data : NULL, &r->range);
    set_guards(buffers, 0);
}

static int reply(const struct request *r, uint32_t buffers)
{
    const struct buffer *out = &r->buffers[output_of(r)];
    for (uint32_t i = 0; i < buffers; i++)
        if (!intact(&r->buffers[i]))
            return send_word(BESIDE) && send_word(i);
    for (uint32_t i = 0; i < r->buffer_count; i++)
        if (&r->buffers[i] != out && checksum(r->buffers[i].data, r->buffers[i].bytes) != r->buffers[i].checksum)
            return send_word(CHANGED) && send_word(i);
    return send_word(DONE) && send_word((uint32_t)out->bytes) && write_all(out->data, out->bytes);
}

static int run_request(struct request *r)
{
    uint32_t buffers = r->buffer_count;
    used = 0;
    for (uint32_t i = 0; i < r->buffer_count; i++) {
        if (!take_buffer(&r->buffers[i]))
            return skip_rest() && send_word(NO_MEMORY);
        r->buffers[i].checksum = checksum(r->buffers[i].data, r->buffers[i].bytes);
    }
    fill_params(r);
    if (r->kernel->supports && !r->kernel->supports(&params))
        return send_word(UNSUPPORTED);
    if (r->kernel->scratch) {
        struct buffer *scratch = &r->buffers[buffers++];
        const size_t bytes = r->kernel->scratch(&params);
        if (bytes > sizeof pool || !place(scratch, (uint32_t)bytes, SCRATCH_ALIGN, (int)(r->noise & 1)))
            return send_word(NO_MEMORY);
        memset(scratch->data, (int)(0x80 | r->noise), bytes);
    }
    call(r, buffers);
    return reply(r, buffers);
}

int serve(void)
{
    if (guard_bytes() > DRIVER_POOL_ALIGN || !send_kernels())
        return 1;
    while (read_exact(&left, sizeof left))
        if (!take_head(&request) || !run_request(&request) || left != 0)
            return 1;
    return 0;
}
