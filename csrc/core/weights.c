/* SPDX-License-Identifier: Apache-2.0
 *
 * Encodings of weights: their check and their decoding. docs/FORMAT.md, chapter Weights.
 */
#include "weights.h"
#include "arithmetic.h"
#include "build.h"
#include "check.h"

#include <string.h>

/* Constants in builds without the encoding. */
static int is_sparse(const ek_stored_weights *w)
{
    return EK_BUILD_SPARSE && w->encoding == EK_ENCODING_SPARSE;
}

static int is_paired(const ek_stored_weights *w)
{
    return EK_BUILD_PAIRED && w->encoding == EK_ENCODING_PAIRED;
}

ek_stored_weights ek_stored(const ek_model *model, const ek_tensor_record *tensor)
{
    const int32_t rows = (int32_t)ek_dims(model, tensor)[0];
    return (ek_stored_weights){
        .data = ek_weights_at(model, tensor->offset),
        .bytes = tensor->bytes,
        .rows = rows,
        .depth = (int32_t)ek_elements(model, tensor) / rows,
        .encoding = tensor->encoding,
        .tile_n = tensor->tile_n,
        .tile_k = tensor->tile_k,
    };
}

uint64_t ek_packed_bytes(uint64_t channels, uint64_t depth, int32_t tile_n, int32_t tile_k)
{
    if (tile_n == 0)
        return channels * depth;
    return ek_align_up(channels, (uint64_t)tile_n) * ek_align_up(depth, (uint64_t)tile_k);
}

/* ---- Matrices: DENSE and INTERLEAVED --------------------------------------------------------- */

/* How the rows of a matrix lie: chains of segments of 2^shift elements, `jump` from one to the
 * next. A DENSE row is one segment. */
typedef struct row_layout {
    size_t tiles_bytes; /* of the rows of a tile; DENSE: of a row */
    int32_t tile_n;     /* DENSE: 1 */
    uint32_t shift;
    size_t jump;
} row_layout;

static row_layout layout_of(int32_t depth, int32_t tile_n, int32_t tile_k)
{
    row_layout l = {(size_t)depth, 1, 31, 0};
    if (tile_n == 0)
        return l;
    l.tile_n = tile_n;
    for (l.shift = 0; 1 << l.shift < tile_k; l.shift++) {
    }
    l.jump = (size_t)tile_n * (size_t)tile_k;
    l.tiles_bytes = (size_t)ek_align_up((uint64_t)depth, (uint64_t)tile_k) * (size_t)tile_n;
    return l;
}

/* Where element 0 of a row stands, and element k in its row. */
static size_t row_start(const row_layout *l, int32_t row)
{
    return (size_t)(row / l->tile_n) * l->tiles_bytes + ((size_t)(row % l->tile_n) << l->shift);
}

static size_t in_row(const row_layout *l, uint32_t k)
{
    return (k >> l->shift) * l->jump + (k & ((1u << l->shift) - 1));
}

/* Moves a row of `depth` values in segments of 2^shift that lie `from_jump` and `to_jump` apart. */
static void copy_segments(int8_t *to, size_t to_jump, const uint8_t *from, size_t from_jump,
                          uint32_t depth, uint32_t shift)
{
    const uint32_t whole = shift > 30 ? 0 : depth >> shift;
    if (shift == 2) /* the commonest: no call for four bytes */
        for (uint32_t i = 0; i < whole; i++)
            memcpy(to + i * to_jump, from + i * from_jump, 4);
    else
        for (uint32_t i = 0; i < whole; i++)
            memcpy(to + i * to_jump, from + i * from_jump, (size_t)1 << shift);
    if (whole << shift != depth)
        memcpy(to + whole * to_jump, from + whole * from_jump, depth - (whole << shift));
}

static void unpack_matrix(const ek_stored_weights *w, int32_t row, int32_t count,
                          const row_layout *to, int8_t *out)
{
    const row_layout from = layout_of(w->depth, w->tile_n, w->tile_k);
    const uint32_t depth = (uint32_t)w->depth;
    const uint32_t shift = from.shift < to->shift ? from.shift : to->shift;
    const size_t segment = (size_t)1 << shift;
    for (int32_t r = 0; r < count; r++) {
        const uint8_t *source = w->data + row_start(&from, row + r);
        int8_t *target = out + row_start(to, r);
        if (from.shift == to->shift || from.shift > 30 || to->shift > 30) {
            copy_segments(target, to->shift > 30 ? segment : to->jump, source,
                          from.shift > 30 ? segment : from.jump, depth, shift);
            continue;
        }
        for (uint32_t k = 0; k < depth; k += (uint32_t)segment) /* two tiles of unequal depth */
            memcpy(target + in_row(to, k), source + in_row(&from, k),
                   depth - k < segment ? depth - k : segment);
    }
}

/* ---- PAIRED ---------------------------------------------------------------------------------- */

/* The 16-bit number that holds the weights of rows `row`, which is even, and row + 1. In a tile
 * stand the numbers of columns 0 2 of the first pair of rows, 0 2 of the second, then 1 3 of
 * both. */
static int32_t pair_at(const ek_stored_weights *w, int32_t row, int32_t k)
{
    const size_t tiles = (size_t)((w->depth + EK_PAIRED_TILE - 1) / EK_PAIRED_TILE);
    const size_t tile = (size_t)(row / EK_PAIRED_TILE) * tiles + (size_t)(k / EK_PAIRED_TILE);
    const int32_t number = (k & 1) * 4 + (row & 2) + (k >> 1 & 1);
    int16_t pair;
    memcpy(&pair, w->data + tile * EK_PAIRED_TILE * EK_PAIRED_TILE + 2 * (size_t)number,
           sizeof pair);
    return pair;
}

static int32_t even_of(int32_t pair)
{
    return (int8_t)pair;
}

/* 128 at most, which `paired_is_sound` refuses. */
static int32_t odd_of(int32_t pair)
{
    return (pair - even_of(pair)) / 256;
}

static int32_t paired_weight(const ek_stored_weights *w, int32_t row, int32_t k)
{
    const int32_t pair = pair_at(w, row & ~1, k);
    return row & 1 ? odd_of(pair) : even_of(pair);
}

static void unpack_paired(const ek_stored_weights *w, int32_t row, int32_t count,
                          const row_layout *to, int8_t *out)
{
    for (int32_t r = 0; r < count; r++) {
        int8_t *target = out + row_start(to, r);
        for (int32_t k = 0; k < w->depth; k++)
            target[in_row(to, (uint32_t)k)] = (int8_t)paired_weight(w, row + r, k);
    }
}

/* No weight is 128, what fills the tiles is zero, and the magnitudes of an odd row are small
 * enough. */
static int paired_is_sound(const ek_stored_weights *w)
{
    const int32_t rows = (int32_t)ek_align_up((uint64_t)w->rows, EK_PAIRED_TILE);
    const int32_t depth = (int32_t)ek_align_up((uint64_t)w->depth, EK_PAIRED_TILE);
    if (w->bytes != (uint64_t)rows * (uint64_t)depth)
        return 0;
    for (int32_t row = 0; row < rows; row += 2) {
        uint32_t sum = 0;
        for (int32_t k = 0; k < depth; k++) {
            const int32_t pair = pair_at(w, row, k), even = even_of(pair), odd = odd_of(pair);
            if (odd > 127 || ((row >= w->rows || k >= w->depth) && even != 0) ||
                ((row + 1 >= w->rows || k >= w->depth) && odd != 0))
                return 0;
            sum += (uint32_t)(odd < 0 ? -odd : odd);
        }
        if (sum > EK_FORMAT_PAIRED_SUM)
            return 0;
    }
    return 1;
}

/* ---- SPARSE ---------------------------------------------------------------------------------- */

/* The values of one tile, in ascending order of their place. */
typedef struct sparse_reader {
    const uint8_t *gaps, *gaps_end;
    const int8_t *values, *values_end;
    uint32_t buffer;     /* gap bits not used yet, lowest first */
    uint32_t buffered;   /* how many */
    uint32_t gap_bits;
    uint32_t place;      /* element index in the tile that the next gap counts from */
} sparse_reader;

static uint32_t sparse_tile_count(const ek_stored_weights *w)
{
    return w->tile_n == 0 ? 1 : ((uint32_t)w->rows + w->tile_n - 1) / w->tile_n;
}

static int32_t sparse_tile_rows(const ek_stored_weights *w)
{
    return w->tile_n == 0 ? w->rows : w->tile_n;
}

static sparse_reader open_tile(const ek_stored_weights *w, uint32_t tile)
{
    const ek_sparse_tile *table = (const void *)w->data;
    const int last = tile + 1 == sparse_tile_count(w);
    const uint32_t gaps_end = last ? table[0].values : table[tile + 1].gaps;
    const uint32_t values_end = last ? w->bytes : table[tile + 1].values;
    return (sparse_reader){
        .gaps = w->data + table[tile].gaps,
        .gaps_end = w->data + gaps_end,
        .values = (const int8_t *)w->data + table[tile].values,
        .values_end = (const int8_t *)w->data + values_end,
        .gap_bits = w->tile_k,
    };
}

/* One symbol of the gap stream; -1 behind its end. */
static int32_t next_symbol(sparse_reader *r)
{
    if (r->buffered < r->gap_bits) {
        if (r->gaps == r->gaps_end)
            return -1;
        r->buffer |= (uint32_t)*r->gaps++ << r->buffered;
        r->buffered += 8;
    }
    const uint32_t symbol = r->buffer & ((1u << r->gap_bits) - 1);
    r->buffer >>= r->gap_bits;
    r->buffered -= r->gap_bits;
    return (int32_t)symbol;
}

/* Moves to the place of the next value and steps behind it; 0 if the stream ends first or a place
 * reaches `elements`. A symbol of all ones skips that many zeros and is followed by another one. */
static int next_place(sparse_reader *r, uint32_t elements, uint32_t *place)
{
    const int32_t skip = (int32_t)(1u << r->gap_bits) - 1;
    int32_t symbol;
    do {
        symbol = next_symbol(r);
        if (symbol < 0 || (uint32_t)symbol >= elements - r->place)
            return 0;
        r->place += (uint32_t)symbol;
    } while (symbol == skip);
    *place = r->place++;
    return 1;
}

static int tile_is_sound(const ek_stored_weights *w, uint32_t tile)
{
    const int32_t tile_rows = sparse_tile_rows(w);
    const int32_t rows = ek_min32(tile_rows, w->rows - (int32_t)tile * tile_rows);
    const uint32_t elements = (uint32_t)rows * (uint32_t)w->depth;
    sparse_reader reader = open_tile(w, tile);
    for (; reader.values < reader.values_end; reader.values++) {
        uint32_t place;
        if (!next_place(&reader, elements, &place))
            return 0;
    }
    /* The stream ends here: less than a byte of padding, which is zero. */
    return reader.gaps == reader.gaps_end && reader.buffered < 8 && reader.buffer == 0;
}

/* The table of tiles and both streams lie inside the tensor, in ascending order. */
static int sparse_table_is_sound(const ek_stored_weights *w)
{
    const ek_sparse_tile *table = (const void *)w->data;
    const uint64_t count = sparse_tile_count(w);
    if (count * sizeof *table > w->bytes || table[0].gaps != count * sizeof *table)
        return 0;
    for (uint64_t i = 0; i + 1 < count; i++)
        if (table[i].gaps > table[i + 1].gaps || table[i].values > table[i + 1].values)
            return 0;
    return table[count - 1].gaps <= table[0].values && table[count - 1].values <= w->bytes;
}

static int sparse_is_sound(const ek_stored_weights *w)
{
    if (!sparse_table_is_sound(w))
        return 0;
    for (uint32_t tile = 0; tile < sparse_tile_count(w); tile++)
        if (!tile_is_sound(w, tile))
            return 0;
    return 1;
}

/* The same for a tile that has passed: its values cannot run out of gaps. */
static inline uint32_t next_checked_place(sparse_reader *r)
{
    const uint32_t skip = (1u << r->gap_bits) - 1;
    uint32_t symbol;
    do {
        if (r->buffered < r->gap_bits) {
            r->buffer |= (uint32_t)*r->gaps++ << r->buffered;
            r->buffered += 8;
        }
        symbol = r->buffer & skip;
        r->buffer >>= r->gap_bits;
        r->buffered -= r->gap_bits;
        r->place += symbol;
    } while (symbol == skip);
    return r->place++;
}

/* Places ascend, so that rows do. */
static void unpack_sparse(const ek_stored_weights *w, int32_t row, int32_t count,
                          const row_layout *to, int8_t *out)
{
    const int32_t rows = sparse_tile_rows(w);
    const uint32_t depth = (uint32_t)w->depth;
    for (int32_t tile = row / rows; tile <= (row + count - 1) / rows; tile++) {
        sparse_reader reader = open_tile(w, (uint32_t)tile);
        int32_t r = tile * rows - row;
        uint32_t begin = 0; /* of row r in the tile */
        int8_t *target = r < 0 ? NULL : out + row_start(to, r);
        for (; reader.values < reader.values_end; reader.values++) {
            const uint32_t place = next_checked_place(&reader);
            if (place - begin >= depth) {
                r += (int32_t)((place - begin) / depth);
                begin += (place - begin) / depth * depth;
                if (r >= count)
                    break;
                target = r < 0 ? NULL : out + row_start(to, r);
            }
            if (target != NULL)
                target[in_row(to, place - begin)] = *reader.values;
        }
    }
}

void ek_unpack_depthwise(const ek_stored_weights *w, int32_t channels, int32_t channel,
                         int32_t count, int8_t *out)
{
    const size_t taps = (size_t)w->rows * (size_t)(w->depth / channels);
    memset(out, 0, taps * (size_t)count);
    for (uint32_t tile = 0; tile < sparse_tile_count(w); tile++) {
        const uint32_t first = tile * (uint32_t)sparse_tile_rows(w) * (uint32_t)w->depth;
        sparse_reader reader = open_tile(w, tile);
        for (; reader.values < reader.values_end; reader.values++) {
            const uint32_t at = first + next_checked_place(&reader);
            const uint32_t c = at % (uint32_t)channels - (uint32_t)channel;
            if (c < (uint32_t)count)
                out[(size_t)(at / (uint32_t)channels) * (size_t)count + c] = *reader.values;
        }
    }
}

/* ---- All encodings --------------------------------------------------------------------------- */

void ek_unpack_rows(const ek_stored_weights *stored, int32_t row, int32_t count, int32_t tile_n,
                    int32_t tile_k, int8_t *out)
{
    const row_layout to = layout_of(stored->depth, tile_n, tile_k);
    memset(out, 0,
           (size_t)ek_packed_bytes((uint64_t)count, (uint64_t)stored->depth, tile_n, tile_k));
    if (is_sparse(stored))
        unpack_sparse(stored, row, count, &to, out);
    else if (is_paired(stored))
        unpack_paired(stored, row, count, &to, out);
    else
        unpack_matrix(stored, row, count, &to, out);
}

/* Eight bytes at a time: a byte of `v` is zero where a weight is -128, and a borrow out of it sets
 * the top bit of `v - ones` where `v` has none. Filling bytes are zero, and so no -128. */
int ek_weights_pairs_fit(const ek_stored_weights *stored)
{
    const uint64_t tops = UINT64_C(0x8080808080808080), ones = UINT64_C(0x0101010101010101);
    uint32_t i = 0;
    if (is_paired(stored))
        return 0; /* not known: a byte is no weight there */
    if (is_sparse(stored))
        i = ((const ek_sparse_tile *)(const void *)stored->data)[0].values;
    for (; i < stored->bytes && stored->bytes - i >= 8; i += 8) {
        uint64_t v;
        memcpy(&v, stored->data + i, sizeof v);
        v ^= tops;
        if (((v - ones) & ~v & tops) != 0)
            return 0;
    }
    for (; i < stored->bytes; i++)
        if (stored->data[i] == 0x80)
            return 0;
    return 1;
}

/* ---- Sums of rows ---------------------------------------------------------------------------- */

static void sum_matrix_rows(const ek_stored_weights *w, uint32_t *sums)
{
    const row_layout l = layout_of(w->depth, w->tile_n, w->tile_k);
    const uint32_t depth = (uint32_t)w->depth;
    for (int32_t row = 0; row < w->rows; row++) {
        const int8_t *at = (const int8_t *)w->data + row_start(&l, row);
        uint32_t sum = 0, k = 0;
        if (l.shift == 2) /* the commonest */
            for (; k + 4 <= depth; k += 4, at += l.jump)
                sum += (uint32_t)(at[0] + at[1] + at[2] + at[3]);
        at = (const int8_t *)w->data + row_start(&l, row);
        for (; k < depth; k++)
            sum += (uint32_t)at[in_row(&l, k)];
        sums[row] = sum;
    }
}

static void sum_paired_rows(const ek_stored_weights *w, uint32_t *sums)
{
    for (int32_t row = 0; row < w->rows; row++) {
        sums[row] = 0;
        for (int32_t k = 0; k < w->depth; k++)
            sums[row] += (uint32_t)paired_weight(w, row, k);
    }
}

static void sum_sparse_rows(const ek_stored_weights *w, uint32_t *sums)
{
    memset(sums, 0, (size_t)w->rows * sizeof *sums);
    for (uint32_t tile = 0; tile < sparse_tile_count(w); tile++) {
        sparse_reader reader = open_tile(w, tile);
        uint32_t *tile_sums = sums + tile * (uint32_t)sparse_tile_rows(w);
        for (; reader.values < reader.values_end; reader.values++)
            tile_sums[next_checked_place(&reader) / (uint32_t)w->depth] += (uint32_t)*reader.values;
    }
}

void ek_offset_start(const ek_stored_weights *stored, const int32_t *start, int32_t offset,
                     int32_t *out)
{
    uint32_t *sums = (uint32_t *)out; /* two views of one type: ISO C11, 6.5, paragraph 7 */
    if (is_sparse(stored))
        sum_sparse_rows(stored, sums);
    else if (is_paired(stored))
        sum_paired_rows(stored, sums);
    else
        sum_matrix_rows(stored, sums);
    for (int32_t row = 0; row < stored->rows; row++)
        sums[row] = (uint32_t)start[row] - (uint32_t)offset * sums[row];
}

/* ---- Checks ---------------------------------------------------------------------------------- */

static int filling_is_zero(const ek_stored_weights *w)
{
    const row_layout l = layout_of(w->depth, w->tile_n, w->tile_k);
    const int32_t rows = (int32_t)ek_align_up((uint64_t)w->rows, w->tile_n);
    const uint32_t depth = (uint32_t)ek_align_up((uint64_t)w->depth, w->tile_k);
    for (int32_t row = 0; row < rows; row++)
        for (uint32_t k = row < w->rows ? (uint32_t)w->depth : 0; k < depth; k++)
            if (w->data[row_start(&l, row) + in_row(&l, k)] != 0)
                return 0;
    return 1;
}

int ek_weights_are_sound(const ek_model *model, const ek_tensor_record *tensor)
{
    const ek_stored_weights w = ek_stored(model, tensor);
    if (is_sparse(&w))
        return sparse_is_sound(&w);
    if (is_paired(&w))
        return paired_is_sound(&w);
    return EK_BUILD_INTERLEAVED && w.encoding == EK_ENCODING_INTERLEAVED &&
           w.bytes == ek_packed_bytes((uint64_t)w.rows, (uint64_t)w.depth, w.tile_n, w.tile_k) &&
           filling_is_zero(&w);
}
