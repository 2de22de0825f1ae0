# SPDX-License-Identifier: Apache-2.0
"""Random and directed cases for every kind of kernel.

A directed case aims at what random parameters miss: exact ties of both parities and signs, products that
round onto a tie, accumulators above 2^24 and at the ends of int32, saturation and clamps at both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from kernels.harness import Case, Weights

Rng = np.random.Generator
Window = Callable[[Rng, int], dict[str, int]]
Range = tuple[int, int, int, int, int, int]
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 23, 24, 25, 31, 32, 33, 40, 48, 63, 64, 65)
"""Sizes below, at and above the tiles that kernels use."""


def pick(rng: Rng, *options: object) -> object:
    """One of `options`."""
    return options[rng.integers(len(options))]


def int8(rng: Rng, size: int) -> np.ndarray:
    """int8[size]: the full range, or a part of it, or its ends."""
    match rng.integers(8):
        case 0:
            return rng.choice(np.array([-128, 127], np.int8), size)
        case 1:
            return np.full(size, pick(rng, -128, 127, 0), np.int8)
        case 2:
            return np.clip(rng.normal(0, 20, size), -128, 127).astype(np.int8)
    return rng.integers(-128, 128, size, np.int8)


def zero_point(rng: Rng) -> int:
    """Any zero point; the ends and odd ones often."""
    return int(pick(rng, -128, 127, 0, 1, -1, 3, rng.integers(-128, 128), rng.integers(-64, 64) * 2 + 1))


def clamp(rng: Rng) -> dict[str, int]:
    """Output clamp: the whole type, a fused Relu, or any interval, also of one value."""
    zero = zero_point(rng)
    lo, hi = -128, 127
    match rng.integers(5):
        case 0:
            lo = zero
        case 1:
            lo, hi = sorted(int(v) for v in rng.integers(-128, 128, 2))
        case 2:
            hi = int(rng.integers(-128, 128))
    return {"zero": zero, "lo": lo, "hi": hi}


def any_output(rng: Rng, size: int, dtype: type = np.int8) -> np.ndarray:
    """What the output buffer holds before the call."""
    return np.full(size, rng.integers(-100, 100), dtype)


def interval(rng: Rng, size: int) -> tuple[int, int]:
    """A part of [0, size), most often all of it."""
    if rng.random() < 0.6:
        return 0, size
    first = int(rng.integers(size))
    return first, int(rng.integers(first, size)) + 1


def any_range(rng: Rng, rows: int, cols: int = 1, channels: int = 1) -> tuple[Range, int]:
    """An output range and the number of values in it."""
    r = (*interval(rng, rows), *interval(rng, cols), *interval(rng, channels))
    return r, (r[1] - r[0]) * (r[3] - r[2]) * (r[5] - r[4])


# Multipliers and accumulators that meet on or beside a tie ---------------------------------------------


def exact_ties(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers 2^-e and accumulators whose products are j + 1/2, or up to two steps beside it."""
    e = rng.integers(1, 24, n)
    j = rng.integers(-140, 140, n)
    return (0.5**e).astype(np.float32), (2 * j + 1) * 2 ** (e - 1) + rng.integers(-2, 3, n)


def near_ties(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and accumulators whose binary32 product is a tie while the exact product is not.

    Rounding once instead of twice (a fused multiply-add into the rounding constant) shows here.
    """
    shape = (n, 64)
    m = ((1 + rng.random(shape)) * 0.5 ** rng.integers(2, 24, shape)).astype(np.float32)
    tie = rng.integers(-120, 120, shape) + 0.5
    acc = np.rint(tie / m)
    product = acc.astype(np.float32) * m
    exact = acc.astype(np.float32).astype(np.float64) * m
    best = np.argmax((product == tie) & (exact != tie), axis=1)
    rows = np.arange(n)
    return m[rows, best], acc[rows, best].astype(np.int64)


def large_accumulators(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """|acc| around and above 2^24, where the conversion to binary32 rounds."""
    acc = (1 << rng.integers(24, 31, n)) + rng.integers(-9, 9, n) * rng.choice([1, 3, 64], n)
    acc = np.clip(acc, 0, 2**31 - 1) * rng.choice([-1, 1], n)
    m = np.abs(rng.uniform(0.5, 140, n) / acc) * rng.choice([1.0, 1.0, 2.0**-3], n)
    return m.astype(np.float32), acc


def limits(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Accumulators at the ends of int32 and multipliers at the ends of what a file may hold."""
    acc = rng.choice([2**31 - 1, -(2**31), 2**31 - 129, -(2**31) + 127, 0, 1, -1], n)
    m = rng.choice([2.0**-96, 2.0**-25, 2.0**-24, 2.0**-31, 1.0, 2.0**64], n)
    return m.astype(np.float32), acc


def ties_beside_limits(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ties, and for some channels `limits`: multipliers of 1 and more may change how their neighbours are computed."""
    ties, ends = pick(rng, exact_ties, near_ties)(rng, n), limits(rng, n)
    chosen = rng.random(n) < 0.2
    return np.where(chosen, ends[0], ties[0]), np.where(chosen, ends[1], ties[1])


AIMS: tuple[Callable[[Rng, int], tuple[np.ndarray, np.ndarray]], ...] = (
    exact_ties, exact_ties, near_ties, near_ties, large_accumulators, limits, ties_beside_limits)  # fmt: skip


# Convolutions -------------------------------------------------------------------------------------------


def weights(rng: Rng, *shape: int) -> np.ndarray:
    """int8 weights; half of them without -128, which some kernels compute in another way."""
    w = int8(rng, prod(shape)).reshape(shape)
    return np.maximum(w, -127) if rng.random() < 0.5 else w


def image(rng: Rng, n: int, h: int, w: int, c: int) -> tuple[dict[str, int], int]:
    """Fields of an ek_image and the elements from its first to its last; half of them have gaps."""
    gap = rng.integers(0, 9, 3) if rng.random() < 0.4 else (0, 0, 0)
    w_stride = c + int(gap[0])
    h_stride = w * w_stride + int(gap[1])
    n_stride = h * h_stride + int(gap[2])
    fields = {"n": n, "h": h, "w": w, "c": c, "n_stride": n_stride, "h_stride": h_stride, "w_stride": w_stride}
    return fields, (n - 1) * n_stride + (h - 1) * h_stride + (w - 1) * w_stride + c


def window(rng: Rng, values: int) -> dict[str, int]:
    """Kernel, stride, dilation, pads and sizes of a window operator with about `values` positions."""
    kh, kw = pick(rng, (1, 1), (1, 1), (3, 3), (3, 3), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2), (7, 7), (1, 4), (10, 4))
    sh, sw = pick(rng, (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2))
    dh, dw = pick(rng, (1, 1), (1, 1), (1, 1), (2, 2), (1, 3), (2, 1))
    wild = rng.random() < 0.1
    span_h, span_w = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    top, bottom = rng.integers(0, span_h + 2 if wild else kh, 2)
    left, right = rng.integers(0, span_w + 2 if wild else kw, 2)
    oh = int(rng.integers(1, 1 + max(1, int(2 * values**0.5))))
    ow = max(1, values // oh)
    h = max(1, (oh - 1) * sh + span_h - int(top + bottom) + int(rng.integers(sh)))
    w = max(1, (ow - 1) * sw + span_w - int(left + right) + int(rng.integers(sw)))
    return {
        "kernel_h": kh, "kernel_w": kw, "stride_h": sh, "stride_w": sw, "dilation_h": dh, "dilation_w": dw,
        "pad_top": int(top), "pad_left": int(left), "pad_bottom": int(bottom), "pad_right": int(right),
        "h": h, "w": w,
        "out_h": max(1, (h + int(top + bottom) - span_h) // sh + 1),
        "out_w": max(1, (w + int(left + right) - span_w) // sw + 1),
    }  # fmt: skip


def plain_3x3(rng: Rng, values: int) -> dict[str, int]:
    """A window of 3x3 with stride and dilation 1, for which there are kernels of its own."""
    while True:
        g = window(rng, values)
        if g["kernel_h"] == g["kernel_w"] == 3 and g["stride_h"] * g["stride_w"] * g["dilation_h"] * g["dilation_w"] == 1:
            return g


def thin_image(rng: Rng, values: int) -> dict[str, int]:
    """A window of 3x3 over one to three positions of 200 or more, upright or lying; `values` does not count."""
    sides = int(rng.integers(1, 4)), int(rng.integers(200, 450))
    h, w = sides if rng.random() < 0.5 else sides[::-1]
    stride = int(pick(rng, 1, 1, 2))
    top, bottom = rng.integers(int(h < 3), 3, 2)
    left, right = rng.integers(int(w < 3), 3, 2)
    return {
        "kernel_h": 3, "kernel_w": 3, "stride_h": stride, "stride_w": stride, "dilation_h": 1, "dilation_w": 1,
        "pad_top": int(top), "pad_left": int(left), "pad_bottom": int(bottom), "pad_right": int(right),
        "h": h, "w": w,
        "out_h": (h + int(top + bottom) - 3) // stride + 1, "out_w": (w + int(left + right) - 3) // stride + 1,
    }  # fmt: skip


def sparse_window(rng: Rng, values: int) -> dict[str, int]:
    """Taps or windows far apart from each other, most of them in the padding."""
    kh, kw = pick(rng, (1, 1), (1, 2), (1, 3), (2, 2), (3, 3), (5, 5))
    sw, dw = pick(rng, (1, 9), (1, 100), (1, 512), (2, 64), (3, 1), (40, 1), (7, 300))
    oh, ow = int(rng.integers(1, 5)), int(rng.integers(1, max(2, min(80, values))))
    padded_w = (ow - 1) * sw + (kw - 1) * dw + 1
    w = int(rng.integers(1, 1 + min(padded_w, 300)))
    left, top = int(rng.integers(0, 1 + padded_w - w)), int(rng.integers(0, kh))
    return {
        "kernel_h": kh, "kernel_w": kw, "stride_h": 1, "stride_w": sw, "dilation_h": 1, "dilation_w": dw,
        "pad_top": top, "pad_left": left, "pad_bottom": 0, "pad_right": padded_w - w - left,
        "h": max(1, oh + kh - 1 - top), "w": w, "out_h": oh, "out_w": ow,
    }  # fmt: skip


WINDOW_FIELDS = (
    "kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left")  # fmt: skip


def aim(
    rng: Rng, directed: bool, x: np.ndarray, w: np.ndarray, depth: int, channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, weights, start and multiplier of a convolution.

    Directed: sums stay within a few steps of the accumulators that an aim has chosen. Otherwise the
    products are spread over the output's range, and now and then everything is arbitrary and wraps.
    """
    if directed:
        m, acc = pick(rng, *AIMS)(rng, channels)
        sparse = rng.integers(-1, 2, x.size).astype(np.int8), (rng.random(w.shape) < 1 / depth).astype(np.int8)
        full = x, np.zeros_like(w)
        x, w = pick(rng, sparse, full)
        start = acc
    elif rng.random() < 0.15:
        start = rng.integers(-(2**31), 2**31, channels)
        m = rng.uniform(2.0**-26, 2.0**-22, channels).astype(np.float32)
    else:
        spread = 74.0 * 74.0 * max(depth, 1) ** 0.5
        start = rng.normal(0, spread, channels)
        m = (rng.lognormal(0, 1, channels) * 60 / spread).astype(np.float32)
    start = np.asarray(start, np.float64).astype(np.int64)
    return x, w, ((start + 2**31) % 2**32 - 2**31).astype(np.int32), m


def conv2d_3x3(rng: Rng, directed: bool) -> Case:
    """Convolution of 3x3 with stride 1 and channels and outputs enough to be worth Winograd's transforms."""
    c, o = 4 * int(pick(rng, 8, 16, 24, 32, 40, 72, 9, 12, 15, 25, 33, 50)), 32 * int(pick(rng, 1, 2, 2, 3, 4))
    g = plain_3x3(rng, int(rng.integers(100, max(200, 60_000_000 // (9 * c * o)))))
    result = convolution(rng, directed, g, 1, c, o)
    if rng.random() < 0.1 and result.weights is not None:  # the largest sums that there can be
        result.inputs[0][:] = pick(rng, -128, 127)
        result.weights.matrix[:] = pick(rng, -128, 127)
    return result


def conv2d_first(rng: Rng, directed: bool) -> Case:
    """Convolution of one to four channels without dilation, as first layers are; one in ten is large or wide."""
    c, o = int(pick(rng, 1, 2, 3, 3, 3, 4)), int(pick(rng, *EDGES, 8, 16, 32, 64, int(rng.integers(1, 200))))
    large = rng.random() < 0.1
    while (g := window(rng, (20_000 if large else 2000) // min(o, 40)))["dilation_h"] * g["dilation_w"] != 1:
        pass
    if large and rng.random() < 0.5:  # a few rows, wider than what is computed together
        wide = int(rng.integers(300, 4000))
        g |= {"h": g["kernel_h"], "out_h": 1 + (g["pad_top"] + g["pad_bottom"]) // g["stride_h"]}
        g |= {"out_w": wide, "w": (wide - 1) * g["stride_w"] + g["kernel_w"] - g["pad_left"]}
    return convolution(rng, directed, g, 1, c, o)


def conv2d(rng: Rng, directed: bool) -> Case:
    """Convolution; one in five is a dense layer, one in six a plain 3x3 of whole tiles, one in six has groups."""
    plain = rng.random() < 1 / 6
    groups = 1 if plain else int(pick(rng, 1, 1, 1, 1, 1, 2, 3))
    c_group, o_group = int(rng.choice(EDGES)), int(rng.choice(EDGES))
    if groups > 1:
        c_group, o_group = 1 + c_group % 17, 1 + o_group % 35
    if plain:
        c_group, o_group = 8 * int(rng.integers(1, 9)), 16 * int(rng.integers(1, 5))
    o = groups * o_group
    g = window(rng, 1)
    depth = g["kernel_h"] * g["kernel_w"] * c_group
    pixels = max(1, min(40_000 // o, 2_000_000 // (o * depth), 200_000 // (groups * c_group)))
    if plain:
        g = plain_3x3(rng, max(1, min(40_000 // o, 2_000_000 // (o * 9 * c_group))))
    elif rng.random() < 0.2:
        pixels = int(rng.integers(1, 9))
        g |= dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"), 1)
        g |= dict.fromkeys(("pad_top", "pad_left"), 0) | {"h": 1, "out_h": 1, "w": pixels, "out_w": pixels}
        c_group = int(pick(rng, c_group, rng.integers(1, 900), 9000 if rng.random() < 0.1 else 64))
    else:
        kernel = g["kernel_h"], g["kernel_w"]
        while (g := window(rng, pixels)) and (g["kernel_h"], g["kernel_w"]) != kernel:
            pass
        if rng.random() < 0.01:  # a window larger than the scalar kernel's scratch
            g = window(rng, 4)
            o_group, o = 5, groups * 5
            c_group = 8192 // (g["kernel_h"] * g["kernel_w"]) + 1
    return convolution(rng, directed, g, groups, c_group, o_group)


def conv_case(
    rng: Rng,
    fields: dict[str, object],
    w: Weights,
    x: np.ndarray,
    requantization: tuple[np.ndarray, np.ndarray],
    output: np.ndarray,
    part: tuple[Range, int],
) -> Case:
    """A case of ek_conv_params with any zero point and clamp.

    Args:
        fields: of the struct, without those two.
        requantization: `start` and `multiplier`.
        part: the range, and how many values it has.
    """
    start, multiplier = requantization
    where, values = part
    return Case(
        struct="conv",
        fields=fields | {"x_zero": zero_point(rng), "clamp": clamp(rng)},
        arrays={"start": start, "multiplier": multiplier},
        weights=w,
        inputs=[x],
        output=output,
        range=where,
        values=values,
    )


def convolution(rng: Rng, directed: bool, g: dict[str, int], groups: int, c_group: int, o_group: int) -> Case:
    """A convolution with the window `g` and so many channels and outputs in each group."""
    o = groups * o_group
    depth = g["kernel_h"] * g["kernel_w"] * c_group
    n = int(pick(rng, 1, 1, 1, 2, 3)) if g["out_h"] * g["out_w"] * o < 20_000 else 1
    inputs, in_size = image(rng, n, g["h"], g["w"], groups * c_group)
    out, out_size = image(rng, n, g["out_h"], g["out_w"], o)
    w = weights(rng, groups, o_group, depth)
    x, w, start, multiplier = aim(rng, directed, int8(rng, in_size), w, depth, o)
    where, values = any_range(rng, n * g["out_h"], g["out_w"], o)
    fields = {"in": inputs, "out": out, "groups": groups} | {name: g[name] for name in WINDOW_FIELDS}
    output = any_output(rng, out_size)
    return conv_case(rng, fields, Weights(w), x, (start, multiplier), output, (where, values))


def conv2d_many_windows(rng: Rng, directed: bool) -> Case:
    """Convolution with many windows of few values, most of them 1x1 that lie one after the other.

    A quarter has more weights than such kernels keep widened.
    """
    groups = int(pick(rng, 1, 1, 1, 2))
    c_group, o_group = 4 * int(rng.integers(1, 17)), int(rng.choice(EDGES))
    large = rng.random() < 0.25
    if large:
        groups, c_group, o_group = 1, 4 * int(rng.integers(44, 57)), 16 * int(rng.integers(6, 9))
    pixels = int(rng.integers(30, max(31, 12_000 // (groups * o_group))))
    if not large and rng.random() < 0.6:
        g = window(rng, pixels)
    else:
        g = dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"), 1)
        g |= dict.fromkeys(("pad_top", "pad_left"), 0) | {"h": 1, "out_h": 1, "w": pixels, "out_w": pixels}
    return convolution(rng, directed, g, groups, c_group, o_group)


def dense_row(rng: Rng, directed: bool) -> Case:
    """A dense layer of one row, as a convolution."""
    depth = int(pick(rng, *EDGES, int(rng.integers(1, 900)), 256 * int(rng.integers(1, 5))))
    o = int(pick(rng, rng.choice(EDGES), rng.integers(1, 1000), 128 * rng.integers(1, 8)))
    g = dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"), 1)
    g |= dict.fromkeys(("pad_top", "pad_left"), 0)
    inputs, in_size = image(rng, 1, 1, 1, depth)
    out, out_size = image(rng, 1, 1, 1, o)
    w = weights(rng, 1, o, depth)
    x, w, start, multiplier = aim(rng, directed, int8(rng, in_size), w, depth, o)
    where, values = any_range(rng, 1, 1, o)
    fields = {"in": inputs, "out": out, "groups": 1} | {name: g[name] for name in WINDOW_FIELDS}
    output = any_output(rng, out_size)
    return conv_case(rng, fields, Weights(w), x, (start, multiplier), output, (where, values))


def depthwise_sparse(rng: Rng, directed: bool) -> Case:
    """Depthwise convolution, of which every third reads few of the columns that its windows span."""
    return depthwise(rng, directed, (window, plain_3x3, sparse_window))


def depthwise_thin(rng: Rng, directed: bool) -> Case:
    """Depthwise convolution, of which every third is of an image with few rows or few columns."""
    return depthwise(rng, directed, (window, plain_3x3, thin_image))


def depthwise(
    rng: Rng, directed: bool, windows: Sequence[Window] = (window, window, window, window, plain_3x3)
) -> Case:
    """Depthwise convolution; one in three has a channel multiplier, and one in five a plain 3x3 window."""
    multiple = int(pick(rng, 1, 1, 1, 1, 2, 3))
    c = int(rng.choice((*EDGES, 80, 96, 112)))
    o = c * multiple
    g = pick(rng, *windows)(rng, max(1, int(rng.integers(100, 30_000)) // o))
    n = int(pick(rng, 1, 1, 1, 2))
    inputs, in_size = image(rng, n, g["h"], g["w"], c)
    out, out_size = image(rng, n, g["out_h"], g["out_w"], o)
    taps = g["kernel_h"] * g["kernel_w"]
    w = weights(rng, 1, taps, o)
    x, w, start, multiplier = aim(rng, directed, int8(rng, in_size), w, taps, o)
    where, values = any_range(rng, n * g["out_h"], g["out_w"], o)
    fields = {"in": inputs, "out": out, "groups": c} | {name: g[name] for name in WINDOW_FIELDS}
    output = any_output(rng, out_size)
    return conv_case(rng, fields, Weights(w), x, (start, multiplier), output, (where, values))


def matmul(rng: Rng, directed: bool) -> Case:
    """Product of two activations; directed: few non-zero factors and a multiplier that makes ties."""
    batch, m, n = int(pick(rng, 1, 1, 2, 5)), int(rng.choice(EDGES)), int(rng.choice(EDGES))
    k = int(pick(rng, *EDGES, 200, 1, 2))
    if rng.random() < 0.05:  # b is packed in several parts
        batch, m, k = 1, min(m, 8), 3000
    shared, transposed = rng.random() < 0.3, rng.random() < 0.4
    a_zero, b_zero = zero_point(rng), zero_point(rng)
    a, b = int8(rng, batch * m * k), int8(rng, (1 if shared else batch) * k * n)
    if directed:
        a = np.clip(a_zero + rng.integers(-6, 7, a.size) * (rng.random(a.size) < 2 / k), -128, 127).astype(np.int8)
        multiplier, _ = exact_ties(rng, 1)
        multiplier = pick(rng, multiplier, *(np.float32([v]) for v in (0.5, 0.25, 0.125, 2.0**-5)))
        if rng.random() < 0.3:
            multiplier = near_ties(rng, 1)[0]
    else:
        multiplier = np.float32([rng.lognormal(0, 1) * 60 / (74 * 74 * k**0.5)])
    where, values = any_range(rng, batch * m, 1, n)
    return Case(
        struct="matmul",
        fields={
            "batch": batch, "m": m, "n": n, "k": k, "a_batch_stride": m * k, "b_batch_stride": 0 if shared else k * n,
            "b_transposed": int(transposed),
            "a_zero": a_zero, "b_zero": b_zero, "multiplier": float(multiplier[0]), "clamp": clamp(rng),
        },
        inputs=[a, b],
        output=any_output(rng, batch * m * n),
        range=where,
        values=values,
    )  # fmt: skip


# Elementwise --------------------------------------------------------------------------------------------


def broadcast(rng: Rng, pairs: bool) -> tuple[dict[str, object], list[np.ndarray], int | None]:
    """Shape of a broadcast operator, its inputs and perhaps the input that it may overwrite.

    With `pairs` every combination of two int8 values occurs.
    """
    every = np.arange(-128, 128).astype(np.int8)
    if pairs and rng.random() < 0.5:
        shape = {"rank": 2, "dims": [256, 256], "a_stride": [1, 0], "b_stride": [0, 1]}
        return shape, [rng.permutation(every), rng.permutation(every)], None
    if pairs:
        order = rng.permutation(65536)
        a, b = np.repeat(every, 256)[order], np.tile(every, 256)[order]
        return {"rank": 1, "dims": [65536], "a_stride": [1], "b_stride": [1]}, [a, b], pick(rng, None, 0, 1)
    rank = int(rng.integers(1, 5))
    top = {1: 60_000, 2: 250, 3: 40, 4: 15}[rank]
    dims = [int(v) for v in rng.integers(1, top, rank)]
    if rng.random() < 0.5:
        dims[-1] = int(rng.choice(EDGES))
    strides, inputs, whole = [], [], []
    for _ in range(2):
        repeat = rng.random(rank) < pick(rng, 0.0, 0.0, 0.4, 1.0)
        own = [1 if r else d for r, d in zip(repeat, dims, strict=True)]
        step = [prod(own[d + 1 :]) for d in range(rank)]
        strides.append([0 if r else s for r, s in zip(repeat, step, strict=True)])
        inputs.append(int8(rng, prod(own)))
        whole.append(not repeat.any())
    candidates = [None] + [i for i in range(2) if whole[i]]
    shape = {"rank": rank, "dims": dims, "a_stride": strides[0], "b_stride": strides[1]}
    return shape, inputs, pick(rng, *candidates)


def near_tie_sum(rng: Rng) -> tuple[float, float]:
    """Multipliers of an addition for which some pair of inputs rounds onto a tie that it does not meet."""
    size = 4096
    a, b = (rng.integers(1, 200, size) * rng.choice([-1, 1], size) for _ in range(2))
    ra = (rng.uniform(0.05, 2, size)).astype(np.float32)
    tie = rng.integers(-100, 100, size) + 0.5
    left = ra * a.astype(np.float32)
    rb = ((tie - left) / b).astype(np.float32)
    right = rb * b.astype(np.float32)
    fused = (left.astype(np.float64) + rb.astype(np.float64) * b).astype(np.float32)
    hits = np.flatnonzero(((left + right) == tie) & (fused != tie) & (np.abs(rb) > 2.0**-20))
    i = hits[0] if hits.size else 0
    return float(ra[i]), float(rb[i])


def elementwise(struct: str, rng: Rng, directed: bool, multipliers: dict[str, float]) -> Case:
    """What addition and product share."""
    shape, inputs, in_place = broadcast(rng, directed or rng.random() < 0.3)
    dims = shape["dims"]
    where, values = any_range(rng, prod(dims[:-1]), 1, dims[-1])
    output = any_output(rng, prod(dims)) if in_place is None else inputs[in_place]
    zeros = (0, 0) if directed and rng.random() < 0.7 else (zero_point(rng), zero_point(rng))
    return Case(
        struct=struct,
        fields={"shape": shape, "a_zero": zeros[0], "b_zero": zeros[1], "clamp": clamp(rng)} | multipliers,
        inputs=inputs,
        output=output,
        range=where,
        values=values,
        in_place=in_place,
    )


def add(rng: Rng, directed: bool) -> Case:
    """Addition; directed: halves and quarters, or multipliers found by `near_tie_sum`. In one of ten others
    sums exceed int32."""
    if directed and rng.random() < 0.7:
        ra, rb = near_tie_sum(rng)
    elif directed:
        ra, rb = (float(pick(rng, 0.5, 0.25, 1.5, 0.125, -0.5, 1.0, 2.0**-6)) for _ in range(2))
    else:
        ra, rb = rng.lognormal(-0.7, 1, 2) * (1, rng.choice([-1, 1])) * (2.0**25 if rng.random() < 0.1 else 1)
    return elementwise("add", rng, directed, {"a_multiplier": float(ra), "b_multiplier": float(rb)})


def mul(rng: Rng, directed: bool) -> Case:
    """Product; directed: powers of two, or a multiplier that puts one product beside a tie."""
    m = rng.lognormal(-4, 1.5)
    if directed and rng.random() < 0.4:
        m = 0.5 ** rng.integers(1, 10)
    elif directed:
        products = rng.integers(2, 255, 4096) * rng.integers(2, 255, 4096)
        tie = rng.integers(0, 100, 4096) + 0.5
        ms = (tie / products).astype(np.float32)
        hit = (ms * products.astype(np.float32) == tie) & (ms.astype(np.float64) * products != tie)
        m = ms[np.argmax(hit)]
    return elementwise("mul", rng, directed, {"multiplier": float(m)})


def lut(rng: Rng, directed: bool) -> Case:
    """A table look-up; the directed table tells every index apart."""
    size = int(pick(rng, *EDGES, rng.integers(1, 60_000), 40_000))
    table = rng.permutation(np.arange(-128, 128)).astype(np.int8) if directed else int8(rng, 256)
    x, in_place = int8(rng, size), pick(rng, None, 0)
    if directed:
        x = rng.integers(-128, 128, size, np.int8)
    where, values = any_range(rng, 1, 1, size)
    output = any_output(rng, size) if in_place is None else x
    return Case("lut", {"size": size}, [x], output, where, values, {"table": table}, in_place=in_place)


def prelu(rng: Rng, directed: bool) -> Case:
    """PRelu; slopes of any sign and zero; directed: powers of two."""
    rows, c = int(rng.integers(1, 400)), int(rng.choice(EDGES))
    if directed:
        scale, slopes = float(0.5 ** rng.integers(1, 5)), 0.5 ** rng.integers(1, 7, c) * rng.choice([-1, 1], c)
    else:
        scale, slopes = rng.lognormal(0, 0.7), rng.normal(0, 0.5, c) * (rng.random(c) < 0.9)
    x, in_place = int8(rng, rows * c), pick(rng, None, 0)
    where, values = any_range(rng, rows, 1, c)
    fields = {"rows": rows, "c": c, "x_zero": zero_point(rng), "multiplier": float(np.float32(scale))}
    return Case(
        struct="prelu",
        fields=fields | {"clamp": clamp(rng)},
        arrays={"negative": slopes.astype(np.float32)},
        inputs=[x],
        output=any_output(rng, x.size) if in_place is None else x,
        range=where,
        values=values,
        in_place=in_place,
    )


def softmax(rng: Rng, directed: bool) -> Case:
    """Softmax; directed: tables of powers of two, whose quotients are ties."""
    c = int(pick(rng, *EDGES, 10, 12, 100, 512, 1000))
    rows = int(rng.integers(1, max(2, 50_000 // c)))
    top = min(2**24, (2**31 - 1) // c)
    d = np.arange(256)
    if directed:
        steps = np.minimum(d // int(pick(rng, 1, 4, 30, 300)), 24)
        table = 2 ** int(np.log2(top)) >> steps
        inverse = float(2 ** rng.integers(6, 11))
    else:
        table = np.rint(top * np.exp(-d * rng.lognormal(-2.5, 1.0)))
        inverse = float(pick(rng, 256.0, np.float32(rng.lognormal(5.5, 1))))
    table[1:] = np.where(rng.random(255) < 0.02, 0, table[1:]) if rng.random() < 0.1 else table[1:]
    x = rng.integers(0, 3, rows * c).astype(np.int8) if directed and rng.random() < 0.5 else int8(rng, rows * c)
    in_place = pick(rng, None, 0)
    first, end = interval(rng, rows)
    return Case(
        struct="softmax",
        fields={"rows": rows, "c": c, "inverse_scale": inverse, "clamp": clamp(rng)},
        arrays={"table": table.astype(np.uint32)},
        inputs=[x],
        output=any_output(rng, x.size) if in_place is None else x,
        range=(first, end, 0, 1, 0, c),
        values=(end - first) * c,
        in_place=in_place,
    )


def layer_norm(rng: Rng, directed: bool) -> Case:
    """Layer norm; directed: rows of few values, gains and offsets of half steps, whose sums are ties; one in ten rows
    is constant, and now and then a row is as long as the format allows."""
    c = int(pick(rng, *EDGES, 100, 192, 512, 1000, 65536 if rng.random() < 0.1 else 2))
    rows = int(rng.integers(1, max(2, 50_000 // c)))
    x = int8(rng, rows * c).reshape(rows, c)
    if directed:
        step = 2 ** rng.integers(0, 4)
        x = (x // 64 * step).astype(np.int8)
        gain, offset = (rng.integers(-300, 301, c) / 2 for _ in range(2))
        epsilon = float(pick(rng, 2.0**-96, 2.0**-20, 2.0**64))
    else:
        gain, offset = rng.normal(0, 1, (2, c)) * rng.lognormal(3, 1) * (rng.random((2, c)) < 0.9)
        epsilon = float(np.float32(c * c * rng.lognormal(0, 5)))
    x[rng.random(rows) < 0.1] = zero_point(rng)
    x = x.reshape(-1)
    in_place = pick(rng, None, 0)
    first, end = interval(rng, rows)
    return Case(
        struct="layer_norm",
        fields={"rows": rows, "c": c, "epsilon": epsilon, "clamp": clamp(rng)},
        arrays={"gain": gain.astype(np.float32), "offset": offset.astype(np.float32)},
        inputs=[x],
        output=any_output(rng, x.size) if in_place is None else x,
        range=(first, end, 0, 1, 0, c),
        values=(end - first) * c,
        in_place=in_place,
    )


# Pooling ------------------------------------------------------------------------------------------------


def pool(rng: Rng, directed: bool, average: bool) -> Case:
    """Pooling, one in six over the whole input; directed averages: equal scales, so that sums / n tie."""
    c, n = int(rng.choice(EDGES)), int(pick(rng, 1, 1, 2))
    g = window(rng, max(1, int(rng.integers(100, 30_000)) // c))
    if rng.random() < 0.15:
        h, w = (int(v) for v in rng.integers(1, 26, 2))
        g |= {"h": h, "w": w, "kernel_h": h, "kernel_w": w, "out_h": 1, "out_w": 1, "dilation_h": 1, "dilation_w": 1}
        g |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0)
    if rng.random() < 0.2:  # ceil_mode: windows that start inside and reach beyond the padding
        g["out_h"] += 1
        g["out_w"] += 1
    inputs, in_size = image(rng, n, g["h"], g["w"], c)
    out, out_size = image(rng, n, g["out_h"], g["out_w"], c)
    x_scale = np.float32(pick(rng, 0.5, 1.0, 0.017) if directed else rng.lognormal(-3, 2))
    y_scale = x_scale if directed else np.float32(x_scale * rng.lognormal(-0.5, 0.7))
    x = int8(rng, in_size)
    if directed and average:
        x = rng.integers(-4, 5, in_size).astype(np.int8)
    where, values = any_range(rng, n * g["out_h"], g["out_w"], c)
    return Case(
        struct="pool",
        fields={"in": inputs, "out": out, "x_zero": zero_point(rng), "clamp": clamp(rng)}
        | {name: g[name] for name in (*WINDOW_FIELDS, "pad_bottom", "pad_right")}
        | {"x_scale": float(x_scale), "y_scale": float(y_scale), "count_include_pad": int(pick(rng, 0, 1))},
        inputs=[x],
        output=any_output(rng, out_size),
        range=where,
        values=values,
    )


def max_pool(rng: Rng, directed: bool) -> Case:
    """Max pooling."""
    return pool(rng, directed, average=False)


def average_pool(rng: Rng, directed: bool) -> Case:
    """Average pooling."""
    return pool(rng, directed, average=True)


# Moving and converting ----------------------------------------------------------------------------------


def dims_of(rng: Rng, values: int) -> list[int]:
    """A shape of rank 1 to 6 with at most `values` elements."""
    rank = int(rng.integers(1, 7))
    dims = []
    for _ in range(rank):
        top = max(1, int(values ** (1 / rank)) * 2)
        dims.append(int(pick(rng, rng.integers(1, top + 1), min(int(rng.choice(EDGES)), top))))
    while prod(dims) > values:
        dims[int(np.argmax(dims))] //= 2
    return dims


def strides_of(shape: list[int]) -> list[int]:
    """Strides in elements of a contiguous array."""
    return [prod(shape[d + 1 :]) for d in range(len(shape))]


def permuted(rng: Rng, dims: list[int]) -> list[int]:
    """Strides that walk a contiguous array in `dims`' order, with its own dimensions permuted."""
    if rng.random() < 0.3 and len(dims) > 2:  # NCHW to NHWC
        perm = [0, len(dims) - 1, *range(1, len(dims) - 1)]
    else:
        perm = [int(p) for p in rng.permutation(len(dims))] if rng.random() < 0.7 else list(range(len(dims)))
    strides = [0] * len(dims)
    for p, s in zip(perm, strides_of([dims[p] for p in perm]), strict=True):
        strides[p] = s
    return strides


def rows_of(rng: Rng, dims: list[int]) -> tuple[Range, int]:
    """A range over dimension 0."""
    first, end = interval(rng, dims[0])
    return (first, end, 0, 1, 0, 1), (end - first) * prod(dims[1:])


def copy(rng: Rng, directed: bool) -> Case:
    """Transposes, slices with steps of both signs, parts of a larger output."""
    dims = dims_of(rng, 40_000 if rng.random() < 0.8 else 60)
    element = int(pick(rng, 1, 1, 1, 1, 2, 4, 8))
    in_stride, in_offset = permuted(rng, dims), 0
    out_stride, out_offset = (strides_of(dims) if rng.random() < 0.7 else permuted(rng, dims)), 0
    if directed or rng.random() < 0.3:
        steps = rng.choice([1, 2, 3], len(dims))
        if prod(dims) * int(prod(steps)) * element > 1 << 24:  # more than a test's buffer should hold
            steps[:] = 1
        in_stride = [s * int(f) for s, f in zip(strides_of([d * int(f) for d, f in zip(dims, steps, strict=True)]), steps, strict=True)]
        for d in range(len(dims)):
            if rng.random() < 0.4:
                in_offset += (dims[d] - 1) * in_stride[d]
                in_stride[d] = -in_stride[d]
    if rng.random() < 0.3:  # concat along one axis
        axis, extra = int(rng.integers(len(dims))), int(rng.integers(1, 9))
        wide = [d + extra * (i == axis) for i, d in enumerate(dims)]
        out_stride = strides_of(wide)
        out_offset = int(rng.integers(extra + 1)) * out_stride[axis]
    last = in_offset + sum((d - 1) * s for d, s in zip(dims, in_stride, strict=True) if s > 0)
    end = out_offset + sum((d - 1) * s for d, s in zip(dims, out_stride, strict=True)) + 1
    dtype = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}[element]
    x = rng.integers(-128, 128, (last + 1) * element, np.int8).view(dtype)
    where, values = rows_of(rng, dims)
    return Case(
        struct="copy",
        fields={
            "rank": len(dims), "dims": dims, "in_stride": in_stride, "out_stride": out_stride, "in_offset": in_offset,
            "out_offset": out_offset, "element_bytes": element,
        },
        inputs=[x],
        output=any_output(rng, end, dtype),
        range=where,
        values=values,
    )  # fmt: skip


def pad(rng: Rng, directed: bool) -> Case:
    """Constant padding; directed: only one dimension is padded."""
    dims = dims_of(rng, 20_000)
    before, behind = rng.integers(0, 3, (2, len(dims)))
    if directed:
        only = np.arange(len(dims)) == rng.integers(len(dims))
        before, behind = before * only, behind * only
    out_dims = [int(d + b + e) for d, b, e in zip(dims, before, behind, strict=True)]
    where, values = rows_of(rng, out_dims)
    return Case(
        struct="pad",
        fields={
            "rank": len(dims), "out_dims": out_dims, "in_dims": dims, "before": [int(b) for b in before],
            "value": zero_point(rng),
        },
        inputs=[rng.integers(-128, 128, prod(dims), np.int8)],
        output=any_output(rng, prod(out_dims)),
        range=where,
        values=values,
    )  # fmt: skip


def resize(rng: Rng, directed: bool) -> Case:
    """Nearest resize; directed: exact doubling."""
    n, c = int(pick(rng, 1, 2)), int(rng.choice(EDGES))
    h, w, out_h, out_w = (int(v) for v in rng.integers(1, 36, 4))
    rows, cols = rng.integers(0, h, out_h), rng.integers(0, w, out_w)
    if directed:
        out_h, out_w = 2 * h, 2 * w
        rows, cols = np.arange(out_h) // 2, np.arange(out_w) // 2
    inputs, in_size = image(rng, n, h, w, c)
    out, out_size = image(rng, n, out_h, out_w, c)
    where, values = any_range(rng, n * out_h, out_w, c)
    return Case(
        struct="resize",
        fields={"in": inputs, "out": out},
        arrays={"row_index": rows.astype(np.uint16), "col_index": cols.astype(np.uint16)},
        inputs=[rng.integers(-128, 128, in_size, np.int8)],
        output=any_output(rng, out_size),
        range=where,
        values=values,
    )


def quantize(rng: Rng, directed: bool) -> Case:
    """float32 to int8; directed: ties, their neighbours, NaN, infinities, zeros and subnormals."""
    dims = dims_of(rng, 40_000)
    size = prod(dims)
    scale = np.float32(0.5 ** rng.integers(-3, 9)) if rng.random() < 0.5 else np.float32(rng.lognormal(-3, 2))
    x = (rng.normal(0, 90, size) * scale).astype(np.float32)
    if directed:
        tie = ((rng.integers(-140, 140, size) + np.float32(0.5)) * scale).astype(np.float32)
        x = np.nextafter(tie, rng.choice(np.float32([-np.inf, np.inf]), size), dtype=np.float32)
        x = np.where(rng.random(size) < 0.5, tie, x)
        odd = np.float32([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38])
        x = np.where(rng.random(size) < 0.05, rng.choice(odd, size), x).astype(np.float32)
    where, values = rows_of(rng, dims)
    return Case(
        struct="quantize",
        fields={"rank": len(dims), "dims": dims, "in_stride": permuted(rng, dims), "scale": float(scale), "clamp": clamp(rng)},
        inputs=[x],
        output=any_output(rng, size),
        range=where,
        values=values,
    )


def dequantize(rng: Rng, directed: bool) -> Case:
    """int8 to float32; directed: scales at the ends of what a file may hold."""
    dims = dims_of(rng, 40_000)
    scale = float(pick(rng, 2.0**-96, 2.0**64, 1.0)) if directed else float(np.float32(rng.lognormal(-3, 2)))
    where, values = rows_of(rng, dims)
    return Case(
        struct="quantize",
        fields={"rank": len(dims), "dims": dims, "in_stride": permuted(rng, dims), "scale": scale, "clamp": clamp(rng)},
        inputs=[int8(rng, prod(dims))],
        output=any_output(rng, prod(dims), np.float32),
        range=where,
        values=values,
    )


def raw(rng: Rng, directed: bool) -> Case:
    """Raw bytes by table, one table or one per index of a dimension."""
    dims = dims_of(rng, 40_000)
    axis = len(dims) - 1 if directed else int(rng.integers(len(dims)))
    shared = rng.random() < 0.3
    table = rng.integers(-128, 128, 256 * (1 if shared else dims[axis]), np.int8)
    where, values = rows_of(rng, dims)
    return Case(
        struct="raw",
        fields={
            "rank": len(dims), "dims": dims, "in_stride": permuted(rng, dims), "table_axis": axis,
            "table_stride": 0 if shared else 256, "flip": int(pick(rng, 0, 0x80)),
        },
        arrays={"table": table},
        inputs=[rng.integers(0, 256, prod(dims), np.uint8)],
        output=any_output(rng, prod(dims)),
        range=where,
        values=values,
    )  # fmt: skip


GENERATORS: dict[str, Callable[[Rng, bool], Case]] = {
    f.__name__: f
    for f in (
        conv2d, depthwise, matmul, add, mul, max_pool, average_pool, lut, prelu, softmax, layer_norm, copy, pad, resize,
        quantize, dequantize, raw,
    )
}  # fmt: skip


LAYERS: dict[str, Callable[[Rng, bool], Case]] = {
    **dict.fromkeys(("winograd_avx512vnni", "winograd_avx2", "winograd_sse41"), conv2d_3x3),
    "conv2d_first_avx512vnni": conv2d_first,
    **dict.fromkeys(("depthwise_avx512vnni", "depthwise_avx2", "depthwise_sse41"), depthwise_sparse),
    **dict.fromkeys(("depthwise_dsp", "depthwise_v6m", "depthwise_mve", "depthwise_3x3_mve"), depthwise_thin),
    **dict.fromkeys(("conv2d_avx2", "conv2d_sse41"), conv2d_many_windows),
    **dict.fromkeys(("dense_avx512vnni", "dense_avx2", "dense_sse41"), dense_row),
}
"""Generators for kernels that compute few cases of their kind, or have ways of their own for some."""


def case(kind: str, seed: int, kernel: str = "") -> Case:
    """Case number `seed` of `kind`; every third is directed. The same seed gives the same case.

    With the name of a kernel every other case is one of those that are made for it, if any are.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    generator = LAYERS.get(kernel, GENERATORS[kind]) if seed % 2 else GENERATORS[kind]
    result = generator(rng, seed % 3 == 0)
    result.placement = int(rng.integers(1 << 30))
    return result
