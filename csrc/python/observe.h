/* SPDX-License-Identifier: Apache-2.0
 *
 * What calibration learns of a float tensor, in one pass over its memory.
 */
#ifndef EK_PYTHON_OBSERVE_H
#define EK_PYTHON_OBSERVE_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

/* Smallest and largest of some floats, both NaN where one of them is. */
struct Extremes {
    float lo, hi;
};

/* Extremes of a stream, 16 values at a time. */
class ExtremesOfMany {
public:
    static constexpr std::size_t width = 16;

    /* `count` is a multiple of `width`. */
    void add(const float *x, std::size_t count) {
        Stream a = streams_[0], b = streams_[1], c = streams_[2], d = streams_[3]; /* in registers */
        for (const float *const end = x + count; x != end; x += width) {
            a.add(x);
            b.add(x + 4);
            c.add(x + 8);
            d.add(x + 12);
        }
        streams_[0] = a;
        streams_[1] = b;
        streams_[2] = c;
        streams_[3] = d;
    }

    Extremes with(const float *rest, std::size_t count) const {
        Extremes all = {infinity, -infinity};
        bool unordered = false;
        const auto add = [&](float v) {
            all.lo = v < all.lo ? v : all.lo;
            all.hi = v > all.hi ? v : all.hi;
            unordered |= v != v;
        };
        for (const Stream &stream : streams_) {
            for (int lane = 0; lane < 4; lane++) {
                all.lo = stream.lo[lane] < all.lo ? stream.lo[lane] : all.lo;
                all.hi = stream.hi[lane] > all.hi ? stream.hi[lane] : all.hi;
                unordered |= stream.unordered[lane] != 0;
            }
        }
        for (std::size_t i = 0; i < count; i++) add(rest[i]);
        constexpr float nan = std::numeric_limits<float>::quiet_NaN();
        return unordered ? Extremes{nan, nan} : all;
    }

private:
    typedef float Floats __attribute__((vector_size(16)));
    typedef std::int32_t Mask __attribute__((vector_size(16)));
    static constexpr float infinity = std::numeric_limits<float>::infinity();

    /* A comparison with NaN is false: lo and hi pass over it. */
    struct Stream {
        Floats lo = {infinity, infinity, infinity, infinity};
        Floats hi = {-infinity, -infinity, -infinity, -infinity};
        Mask unordered = {0, 0, 0, 0};

        void add(const float *x) {
            Floats v;
            std::memcpy(&v, x, sizeof v);
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
            unordered |= v != v;
        }
    };

    Stream streams_[4];
};

/* The extremes of x[count]. Of the values whose index is a multiple of `distance`, those other than zero go to
 * `picked`, which ends behind the last one. */
inline Extremes look_at(const float *x, std::size_t count, std::size_t distance, float *&picked) {
    constexpr std::size_t block = 4096; /* is still in the first level cache when its values are picked */
    static_assert(block % ExtremesOfMany::width == 0, "a block is whole vectors");
    ExtremesOfMany extremes;
    const std::size_t whole = count / ExtremesOfMany::width * ExtremesOfMany::width;
    std::size_t next = 0;
    float *end = picked;
    for (std::size_t first = 0; first < whole; first += block) {
        const std::size_t size = whole - first < block ? whole - first : block;
        extremes.add(x + first, size);
        for (; next < first + size; next += distance) {
            *end = x[next];
            end += x[next] != 0.0f;
        }
    }
    for (; next < count; next += distance) {
        *end = x[next];
        end += x[next] != 0.0f;
    }
    picked = end;
    return extremes.with(x + whole, count - whole);
}

/* Adds one to counts[bins] for each finite x[count]: bin i covers [start + i / per_width,
 * start + (i + 1) / per_width), the outermost ones what lies beyond as well. */
inline void count_by_bin(const float *x, std::size_t count, float start, float per_width, std::int64_t *counts,
                         std::size_t bins) {
    const float last = static_cast<float>(bins - 1);
    for (std::size_t i = 0; i < count; i++) {
        const float place = (x[i] - start) * per_width;
        const float inside = place < last ? (place > 0.0f ? place : 0.0f) : last;
        counts[static_cast<std::size_t>(inside)]++;
    }
}

#endif /* EK_PYTHON_OBSERVE_H */
