/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a step: as many as are worth it, cut where the last thread is done first.
 */
#include "split.h"
#include "arithmetic.h"

/* More parts than threads even out their speeds. */
#define PARTS_PER_THREAD 4u

/* Work that a kernel does in the time that it takes to hand a part to a waiting thread and back, about
 * a microsecond. Not exact, and rather too much than too little: parts that are too short would make
 * more threads slower than one. */
static uint64_t worth_a_part(const ek_kernel *kernel)
{
    if (kernel->set == EK_KERNELS_SCALAR)
        return 2000;
    if (kernel->kind != EK_KIND_CONV2D && kernel->kind != EK_KIND_MATMUL)
        return 20000;
    switch (kernel->set) {
    case EK_KERNELS_AVX512VNNI: return 250000;
    case EK_KERNELS_AVXVNNI: return 150000;
    case EK_KERNELS_AVX2: return 80000;
    case EK_KERNELS_SSE41: return 40000;
    case EK_KERNELS_NEON_DOTPROD:
    case EK_KERNELS_NEON_I8MM: return 80000;
    default: return 20000;
    }
}

/* Into how many parts the work is worth cutting. */
static int32_t useful_parts(const ek_step *step, uint32_t threads, uint64_t work)
{
    const uint64_t limit = (uint64_t)threads * PARTS_PER_THREAD;
    const uint64_t parts = work / worth_a_part(step->kernel);
    return parts <= 1 ? 1 : (int32_t)(parts < limit ? parts : limit);
}

/* The part of `size` with at most `count` parts of whole blocks. */
static int32_t part_of(int32_t size, int32_t count, int32_t block)
{
    const int32_t blocks = ek_ceil_div32(size, block);
    return ek_min32(ek_ceil_div32(blocks, ek_min32(count, blocks)) * block, size);
}

/* At most `count` parts, `channels` of them side by side along the channels. */
static ek_cut cut_into(const ek_range *whole, int32_t count, int32_t channels, int32_t ch_step,
                       int32_t block)
{
    ek_cut c = {.ch_size = whole->ch_end};
    if (channels > 1)
        c.ch_size = ek_ceil_div32(ek_ceil_div32(whole->ch_end, ch_step), channels) * ch_step;
    c.ch_size = ek_min32(c.ch_size, whole->ch_end);
    const int32_t chs = ek_ceil_div32(whole->ch_end, c.ch_size);
    c.row_size = part_of(whole->row_end, count / chs, block);
    const int32_t rows = ek_ceil_div32(whole->row_end, c.row_size);
    c.col_size = part_of(whole->col_end, count / chs / rows, block);
    const int32_t cols = ek_ceil_div32(whole->col_end, c.col_size);
    c.parts = (uint32_t)(rows * cols * chs);
    return c;
}

/* The time until the last thread is done, in positions times channels. What a kernel does once per part
 * counts as some more of either: tiles that are not full, weights that are read or, if they are
 * tiled or transformed, made again, activations that are packed again. Half a part is lost on a
 * thread that comes late. Nothing overflows: the part has less than 2^31 values, so that the
 * product of positions and channels with what is added stays below 2^42, and there are at most
 * EK_MAX_THREADS * PARTS_PER_THREAD rounds. */
static uint64_t time_of(const ek_cut *c, const ek_step *step, uint32_t threads)
{
    const int tiled = step->tiled, made = tiled || step->kernel->block > 1;
    const uint64_t positions = (uint64_t)c->row_size * (uint64_t)c->col_size + (made ? 64 : 4);
    const uint64_t channels = (uint64_t)c->ch_size + (tiled ? 0 : 16);
    const uint64_t rounds = (c->parts + threads - 1) / threads;
    return (2 * rounds + 1) * positions * channels;
}

static ek_cut best_cut(const ek_step *step, uint32_t threads, int32_t parts, int32_t ch_step)
{
    const ek_range *whole = &step->whole;
    const int32_t blocks = ch_step == 0 ? 1 : ek_ceil_div32(whole->ch_end, ch_step);
    const int32_t block = step->kernel->block > 1 ? step->kernel->block : 1;
    ek_cut best = {1, whole->row_end, whole->col_end, whole->ch_end};
    if (parts == 1)
        return best;
    uint64_t best_time = UINT64_MAX;
    for (int32_t k = 1; k <= (int32_t)PARTS_PER_THREAD; k++) {
        const int32_t count = ek_min32(parts, k * (int32_t)threads);
        for (int32_t channels = 1; channels <= ek_min32(count, blocks); channels++) {
            const ek_cut c = cut_into(whole, count, channels, ch_step, block);
            const uint64_t time = time_of(&c, step, threads);
            if (time < best_time) {
                best = c;
                best_time = time;
            }
        }
    }
    return best;
}

ek_cut ek_split(const ek_step *step, uint32_t threads, uint64_t work, int32_t ch_step)
{
    return best_cut(step, threads, useful_parts(step, threads, work), ch_step);
}
