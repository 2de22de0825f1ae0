/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-mel features of one second of sound, in integers; log_mel.py says what they are, and has the same bits.
 */
#ifndef LOG_MEL_H
#define LOG_MEL_H

#include <stdint.h>

/* One frame of LOG_MEL_FRAME samples every LOG_MEL_HOP. */
#define LOG_MEL_SAMPLES 16000
#define LOG_MEL_FRAME 512
#define LOG_MEL_HOP 328
#define LOG_MEL_FRAMES 48
#define LOG_MEL_BANDS 16
#define LOG_MEL_BYTES (LOG_MEL_FRAMES * LOG_MEL_BANDS)

/* One frame: LOG_MEL_FRAME samples become LOG_MEL_BANDS numbers. A program that listens all the time calls this every
 * LOG_MEL_HOP samples. Not reentrant: it works in static memory. */
void log_mel_frame(const int16_t *samples, int8_t *bands);

/* A clip of LOG_MEL_SAMPLES samples becomes LOG_MEL_BYTES numbers, frame by frame. */
void log_mel_clip(const int16_t *samples, int8_t *features);

#endif /* LOG_MEL_H */
