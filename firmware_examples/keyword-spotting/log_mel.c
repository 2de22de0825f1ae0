/* SPDX-License-Identifier: Apache-2.0 */
#include "log_mel.h"
#include "log_mel_tables.h"

#define POINTS (LOG_MEL_FRAME / 2) /* of the complex transform: two samples are one number */

typedef struct complex_int {
    int32_t re, im;
} complex_int;

/* cos(2 pi turn / LOG_MEL_FRAME) in units of 1/32767, for any `turn`. */
static int32_t cosine(uint32_t turn)
{
    return log_mel_cosine[turn % LOG_MEL_FRAME];
}

/* x / 2^15 to the nearest, ties up. */
static int32_t rounded(int64_t x)
{
    return (int32_t)((x + (1 << 14)) >> 15);
}

/* z times c - i s. Magnitudes stay below 2^26: 512 samples of 15 bits, twice. */
static complex_int times(complex_int z, int32_t c, int32_t s)
{
    const complex_int y = {
        rounded((int64_t)z.re * c + (int64_t)z.im * s),
        rounded((int64_t)z.im * c - (int64_t)z.re * s),
    };
    return y;
}

static uint32_t reversed_bits(uint32_t index)
{
    uint32_t reversed = 0;
    for (uint32_t bit = 1; bit < POINTS; bit *= 2) {
        reversed = reversed << 1 | (index & 1);
        index >>= 1;
    }
    return reversed;
}

/* A sample under the Hann window. */
static int32_t windowed(int16_t sample, uint32_t at)
{
    return (sample * ((32767 - cosine(at)) >> 1) + (1 << 14)) >> 15;
}

/* A windowed frame in the order in which the transform takes it. */
static void load(const int16_t *samples, complex_int *z)
{
    for (uint32_t i = 0; i < POINTS; i++) {
        const complex_int pair = {
            windowed(samples[2 * i], 2 * i),
            windowed(samples[2 * i + 1], 2 * i + 1),
        };
        z[reversed_bits(i)] = pair;
    }
}

/* Fourier transform in place; decimation in time, radix 2. */
static void transform(complex_int *z)
{
    for (uint32_t half = 1; half < POINTS; half *= 2) {
        for (uint32_t j = 0; j < half; j++) {
            const uint32_t turn = j * (LOG_MEL_FRAME / (2 * half));
            const int32_t c = cosine(turn), s = cosine(turn - LOG_MEL_FRAME / 4);
            for (uint32_t i = j; i < POINTS; i += 2 * half) {
                const complex_int a = z[i], b = times(z[i + half], c, s);
                z[i] = (complex_int){a.re + b.re, a.im + b.im};
                z[i + half] = (complex_int){a.re - b.re, a.im - b.im};
            }
        }
    }
}

/* |2 X[k]|^2 of the real samples' transform X, for 0 < k < POINTS; below 2^51. */
static uint64_t power(const complex_int *z, uint32_t k)
{
    const complex_int a = z[k], b = z[POINTS - k];
    const complex_int twice_odd = {a.im + b.im, b.re - a.re};
    const complex_int odd = times(twice_odd, cosine(k), cosine(k - LOG_MEL_FRAME / 4));
    const int64_t re = (int64_t)a.re + b.re + odd.re, im = (int64_t)a.im - b.im + odd.im;
    return (uint64_t)(re * re + im * im);
}

/* About 4 log2(energy) - 128, linear between powers of two and below 4. */
static int8_t quarter_log2(uint64_t energy)
{
    int32_t steps = -124;
    for (; energy >= 8; energy >>= 1)
        steps += 4;
    return (int8_t)(steps + (int32_t)energy);
}

void log_mel_frame(const int16_t *samples, int8_t *bands)
{
    static complex_int z[POINTS];
    load(samples, z);
    transform(z);
    /* Sums stay below 2^58: by Parseval's theorem all |X|^2 together are 512 times the squares of 512
     * samples of 15 bits, 2^48, bins of one half of them 2^47, and |2 X|^2 2^49; a bit more for what
     * was rounded, and 2^8 for the weights. */
    uint64_t falling = 0; /* of the band that began one segment before */
    for (uint32_t segment = 0; segment <= LOG_MEL_BANDS; segment++) {
        const uint32_t low = log_mel_band_edges[segment], high = log_mel_band_edges[segment + 1];
        uint64_t rising = 0;
        for (uint32_t k = low; k < high; k++) {
            const uint32_t weight = ((k - low) << 8) / (high - low);
            const uint64_t energy = power(z, k);
            rising += energy * weight;
            falling += energy * (256 - weight);
        }
        if (segment > 0)
            bands[segment - 1] = quarter_log2(falling);
        falling = rising;
    }
}

void log_mel_clip(const int16_t *samples, int8_t *features)
{
    for (uint32_t i = 0; i < LOG_MEL_FRAMES; i++)
        log_mel_frame(samples + i * LOG_MEL_HOP, features + i * LOG_MEL_BANDS);
}
