/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdlib.h>

/* ---- Reading --------------------------------------------------------------------------------- */

/* The next character behind white space and comments. */
static int next_character(FILE *stream)
{
    int c = getc(stream);
    for (;;) {
        if (c == '#')
            while (c != '\n' && c != EOF)
                c = getc(stream);
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return c;
        c = getc(stream);
    }
}

/* A number of the header and the one character behind it; -1 where there is none up to `limit`. */
static int header_number(FILE *stream, int limit)
{
    int value = 0;
    int c = next_character(stream);
    if (c < '0' || c > '9')
        return -1;
    for (; c >= '0' && c <= '9'; c = getc(stream)) {
        value = 10 * value + (c - '0'); /* at most 10 * limit + 9 */
        if (value > limit)
            return -1;
    }
    return value;
}

image_status image_read(image *image, FILE *stream)
{
    const int first = next_character(stream);
    if (first == EOF)
        return IMAGE_END;
    const int kind = getc(stream);
    if (first != 'P' || (kind != '5' && kind != '6'))
        return IMAGE_BAD;
    image->channels = kind == '6' ? 3 : 1;
    image->width = header_number(stream, MAX_IMAGE_SIDE);
    image->height = header_number(stream, MAX_IMAGE_SIDE);
    if (image->width < 1 || image->height < 1 || header_number(stream, 255) < 1)
        return IMAGE_BAD;
    const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    uint8_t *pixels = realloc(image->pixels, bytes);
    if (pixels == NULL)
        return IMAGE_NO_MEMORY;
    image->pixels = pixels;
    return fread(pixels, 1, bytes, stream) == bytes ? IMAGE_OK : IMAGE_CUT_OFF;
}

const char *image_status_string(image_status status)
{
    switch (status) {
    case IMAGE_OK: return "is read";
    case IMAGE_END: return "holds no image";
    case IMAGE_BAD: return "is no PGM or PPM image of 8 bits (P5, P6)";
    case IMAGE_CUT_OFF: return "is cut off";
    case IMAGE_NO_MEMORY: return "takes more memory than there is";
    }
    return "";
}

/* ---- Fitting --------------------------------------------------------------------------------- */

/* Of the `size` positions from `from` on, cut into `parts`, those of part `index`: at least one. */
static void part(int from, int size, int parts, int index, int *first, int *last)
{
    *first = from + (int)((int64_t)size * index / parts);
    *last = from + (int)((int64_t)size * (index + 1) / parts);
    if (*last == *first)
        ++*last;
}

/* The rounded mean of a channel over rows [r0, r1) and columns [c0, c1). */
static int mean(const image *image, int r0, int r1, int c0, int c1, int channel)
{
    uint64_t sum = 0;
    for (int row = r0; row < r1; row++)
        for (int column = c0; column < c1; column++)
            sum += image->pixels[((size_t)row * (size_t)image->width + (size_t)column) *
                                     (size_t)image->channels + (size_t)channel];
    const uint64_t count = (uint64_t)(r1 - r0) * (uint64_t)(c1 - c0);
    return (int)((sum + count / 2) / count);
}

void image_fit(const image *from, image *to)
{
    /* Width and height of the part: one of them whole, the other by the shape of `to`. */
    int width = from->width, height = from->height;
    if ((int64_t)from->width * to->height > (int64_t)from->height * to->width)
        width = (int)((int64_t)from->height * to->width / to->height);
    else
        height = (int)((int64_t)from->width * to->height / to->width);
    width = width < 1 ? 1 : width;
    height = height < 1 ? 1 : height;
    const int left = (from->width - width) / 2, top = (from->height - height) / 2;
    uint8_t *out = to->pixels;
    for (int y = 0; y < to->height; y++) {
        int r0, r1;
        part(top, height, to->height, y, &r0, &r1);
        for (int x = 0; x < to->width; x++) {
            int c0, c1, values[3];
            part(left, width, to->width, x, &c0, &c1);
            for (int channel = 0; channel < from->channels; channel++)
                values[channel] = mean(from, r0, r1, c0, c1, channel);
            if (from->channels == 1)
                values[1] = values[2] = values[0];
            if (to->channels == 1 && from->channels == 3)
                values[0] = (299 * values[0] + 587 * values[1] + 114 * values[2] + 500) / 1000;
            for (int channel = 0; channel < to->channels; channel++)
                *out++ = (uint8_t)values[channel];
        }
    }
}
