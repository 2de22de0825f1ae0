/* SPDX-License-Identifier: Apache-2.0
 *
 * Images as streams of PGM (P5) and PPM (P6): what cameras' and converters' tools write into a
 * pipe.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>
#include <stdio.h>

typedef struct image {
    int width, height, channels; /* 1 to MAX_IMAGE_SIDE each way, 1 (grey) or 3 (RGB) */
    uint8_t *pixels;             /* [height][width][channels] */
} image;

#define MAX_IMAGE_SIDE 8192

typedef enum image_status {
    IMAGE_OK,
    IMAGE_END,
    IMAGE_BAD,
    IMAGE_CUT_OFF,
    IMAGE_NO_MEMORY
} image_status;

/* The next image of a stream into `image`, whose pixels are reused; zero it before the first call
 * and free the pixels after the last. IMAGE_END where the stream ends between two images. Samples
 * are taken as they are, up to 255; a PGM whose largest value is 16 gives 0 to 16. */
image_status image_read(image *image, FILE *stream);

/* "is no PGM or PPM image"... */
const char *image_status_string(image_status status);

/* The largest centred part of `from` that has the shape of `to`, averaged into the pixels of `to`;
 * grey becomes RGB by repetition, RGB becomes grey by the weights of ITU-R BT.601. Equal sizes
 * copy. */
void image_fit(const image *from, image *to);

#endif /* IMAGE_H */
