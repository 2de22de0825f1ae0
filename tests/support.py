# SPDX-License-Identifier: Apache-2.0
"""Programs built by hand, and random ones of every operator, for tests of all parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit import program as p
from edgekit.format.schema import Dtype, Region
from edgekit.reference.pool import divisors
from edgekit.reference.window import span


def quant(scale: float, zero: int = 0) -> p.Quant:
    """A tensor's quantization."""
    return p.Quant(np.float32(scale), zero)


@dataclass
class Build:
    """Builds a program step by step; each step returns the name of the tensor it made.

    b = Build()
    x = b.input((1, 8), quant(0.1, 3))
    y = b.op(p.Lut, [x], (1, 8), quant(0.2), table=table)
    program = b.finish(y)
    """

    program: p.Program = field(default_factory=lambda: p.Program("test"))

    def name(self, stem: str) -> str:
        """A new tensor name."""
        return f"{stem}{len(self.program.tensors)}"

    def input(self, shape: tuple[int, ...], q: p.Quant, name: str | None = None) -> str:
        """A quantized input port."""
        name = name or self.name("input")
        self.program.add(p.Tensor(name, shape, quant=q, region=Region.IO))
        self.program.inputs.append(name)
        return name

    def float_input(
        self, shape: tuple[int, ...], q: p.Quant, perm: tuple[int, ...] | None = None, **fields: Any
    ) -> str:
        """A float32 input port of `shape` and the Quantize behind it; returns the int8 tensor."""
        name = self.name("input")
        self.program.add(p.Tensor(name, shape, Dtype.F32, region=Region.IO))
        self.program.inputs.append(name)
        perm = perm or tuple(range(len(shape)))
        return self.op(p.Quantize, [name], tuple(shape[d] for d in perm), q, perm=perm, **fields)

    def constant(self, data: np.ndarray, q: p.Quant | None = None) -> str:
        """An int8 constant: weights, or a quantized operand."""
        return self.program.add(
            p.Tensor(self.name("constant"), data.shape, quant=q, region=Region.READONLY, data=data)
        ).name

    def op(
        self, cls: type[p.Op], inputs: list[str], shape: tuple[int, ...], q: p.Quant | None, **fields: Any
    ) -> str:
        """An operator and the int8 tensor that it writes."""
        tensor = self.program.add(p.Tensor(self.name("t"), tuple(int(n) for n in shape), quant=q))
        self.program.ops.append(
            cls(name=f"node_{tensor.name}", inputs=inputs, outputs=[tensor.name], **fields)
        )
        return tensor.name

    def float_output(self, tensor: str, perm: tuple[int, ...] | None = None) -> str:
        """A Dequantize and the float32 output port behind it."""
        shape = self.program.tensors[tensor].shape
        perm = perm or tuple(range(len(shape)))
        name = self.name("output")
        self.program.add(p.Tensor(name, tuple(shape[d] for d in perm), Dtype.F32, region=Region.IO))
        self.program.ops.append(p.Dequantize(name=f"node_{name}", inputs=[tensor], outputs=[name], perm=perm))
        self.program.outputs.append(name)
        return name

    def finish(self, *outputs: str) -> p.Program:
        """The program; `outputs` become quantized output ports."""
        for name in outputs:
            self.program.tensors[name].region = Region.IO
            self.program.outputs.append(name)
        return self.program


@dataclass(frozen=True)
class Case:
    """A program of one operator and samples for it; `about` names the seed and what is special."""

    program: p.Program
    samples: list[dict[str, np.ndarray]]
    about: str


class Random:
    """Random parameters. A third of all cases is directed: powers of two as scales, which makes
    multipliers powers of two and results exact .5 ties of both parities and signs."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.directed = seed % 3 == 0

    def int(self, low: int, high: int) -> int:
        """Uniform in [low, high]."""
        return int(self.rng.integers(low, high, endpoint=True))

    def zero(self) -> int:
        """A zero point: any, often one at an end or an odd one."""
        return int(self.rng.choice([self.int(-128, 127), -128, 127, 0, 1, -1, 3]))

    def scale(self, about: float = 1.0) -> np.float32:
        """A scale near `about`; a power of two in directed cases."""
        if self.directed:
            return np.float32(2.0 ** np.round(np.log2(about) + self.rng.uniform(-1, 1)))
        return np.float32(about * np.exp(self.rng.uniform(-1, 1)))

    def quant(self, about: float = 1.0) -> p.Quant:
        return p.Quant(self.scale(about), self.zero())

    def clamp(self) -> dict[str, int]:
        """lo and hi: mostly the full range, else a narrower one, down to a single value."""
        if self.rng.random() < 0.6:
            return {"lo": -128, "hi": 127}
        lo, hi = sorted((self.int(-128, 127), self.int(-128, 127)))
        return {"lo": lo, "hi": hi}

    def int8(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-128, 128, shape).astype(np.int8)

    def weights(self, *shape: int) -> np.ndarray:
        """int8 weights, -128 among them; small ones in directed cases, so that ties are frequent."""
        bound = self.int(1, 4) if self.directed else 128
        return self.rng.integers(-bound, min(bound, 127) + 1, shape).astype(np.int8)

    def weight_scale(self, channels: int) -> np.ndarray:
        return np.array([self.scale(2.0**-7) for _ in range(channels)], np.float32)

    def samples(self, program: p.Program, count: int = 3) -> list[dict[str, np.ndarray]]:
        """int8 inputs: noise, then all lowest, then all highest."""
        shapes = {name: program.tensors[name].shape for name in program.inputs}
        noise = [{name: self.int8(*shape) for name, shape in shapes.items()} for _ in range(count)]
        ends = [{name: np.full(shape, v, np.int8) for name, shape in shapes.items()} for v in (-128, 127)]
        return noise + ends


def _bias(r: Random, channels: int, depth: int) -> np.ndarray:
    """Of the size of an accumulator; now and then large, so that |acc| passes 2^24 or nears the proven bound."""
    large = r.rng.random(channels) < 0.2
    usual = r.rng.integers(-depth * 1000, depth * 1000 + 1, channels)
    return np.where(large, r.rng.integers(-(2**30), 2**30, channels), usual).astype(np.int32)


def _accumulated(r: Random, x: p.Quant, weight_scale: np.ndarray, depth: int) -> p.Quant:
    """An output scale at which accumulators over `depth` products spread over the int8 range."""
    spread = float(x.scale) * float(np.median(weight_scale)) * np.sqrt(depth)
    return r.quant(spread * (1.0 if r.directed else 40.0))


def _window(r: Random, h: int, w: int, most: int = 4) -> dict[str, Any]:
    """Kernel, strides, dilations and uneven pads that fit an image of h x w, and the output's size."""
    while True:
        kernel = (r.int(1, most), r.int(1, most))
        strides = (r.int(1, 3), r.int(1, 3))
        dilations = (r.int(1, 2), r.int(1, 2))
        pads = tuple(r.int(0, kernel[i % 2] - 1) for i in range(4))
        room_h = h + pads[0] + pads[2] - span(1, 1, dilations[0], kernel[0])
        room_w = w + pads[1] + pads[3] - span(1, 1, dilations[1], kernel[1])
        if room_h >= 0 and room_w >= 0:
            out = (room_h // strides[0] + 1, room_w // strides[1] + 1)
            return {"kernel": kernel, "strides": strides, "dilations": dilations, "pads": pads, "out": out}


def conv2d(r: Random) -> p.Program:
    b, groups = Build(), r.int(1, 3)
    n, h, w, depth, size = r.int(1, 2), r.int(1, 9), r.int(1, 9), r.int(1, 19), r.int(1, 17)
    win = _window(r, h, w)
    kernel, out = win.pop("kernel"), win.pop("out")
    qx, sw = r.quant(0.1), r.weight_scale(groups * size)
    x = b.input((n, h, w, groups * depth), qx)
    wt = b.constant(r.weights(groups * size, *kernel, depth))
    taps = kernel[0] * kernel[1] * depth
    y = b.op(
        p.Conv2D, [x, wt], (n, *out, groups * size), _accumulated(r, qx, sw, taps),
        bias=_bias(r, groups * size, taps), weight_scale=sw, groups=groups, **win, **r.clamp(),
    )  # fmt: skip
    return b.finish(y)


def depthwise_conv2d(r: Random) -> p.Program:
    b, n, h, w, c, mult = Build(), r.int(1, 2), r.int(1, 11), r.int(1, 11), r.int(1, 35), r.int(1, 3)
    win = _window(r, h, w, most=5)
    kernel, out = win.pop("kernel"), win.pop("out")
    qx, sw = r.quant(0.1), r.weight_scale(c * mult)
    x = b.input((n, h, w, c), qx)
    wt = b.constant(r.weights(*kernel, c * mult))
    taps = kernel[0] * kernel[1]
    y = b.op(
        p.DepthwiseConv2D, [x, wt], (n, *out, c * mult), _accumulated(r, qx, sw, taps),
        bias=_bias(r, c * mult, taps), weight_scale=sw, **win, **r.clamp(),
    )  # fmt: skip
    return b.finish(y)


def dense(r: Random) -> p.Program:
    b, k, o = Build(), r.int(1, 300), r.int(1, 40)
    lead = tuple(r.int(1, 5) for _ in range(r.int(0, 3)))
    qx, sw = r.quant(0.1), r.weight_scale(o)
    x = b.input((*lead, k), qx)
    wt = b.constant(r.weights(o, k))
    y = b.op(
        p.Dense,
        [x, wt],
        (*lead, o),
        _accumulated(r, qx, sw, k),
        bias=_bias(r, o, k),
        weight_scale=sw,
        **r.clamp(),
    )
    return b.finish(y)


def matmul(r: Random) -> p.Program:
    return _product(r, p.MatMul)


def matmul_transposed(r: Random) -> p.Program:
    return _product(r, p.MatMulTransposed)


def _product(r: Random, op: type[p.MatMul]) -> p.Program:
    b, m, k, n = Build(), r.int(1, 20), r.int(1, 50), r.int(1, 20)
    factor = (n, k) if op is p.MatMulTransposed else (k, n)
    batch = tuple(r.int(1, 3) for _ in range(r.int(0, 2)))
    shared = r.rng.random() < 0.4
    qa, qb = r.quant(0.1), r.quant(0.1)
    a = b.input((*batch, m, k), qa)
    c = b.input((*(1 for _ in batch), *factor) if shared else (*batch, *factor), qb)
    about = float(qa.scale) * float(qb.scale) * np.sqrt(k) * 40
    return b.finish(b.op(op, [a, c], (*batch, m, n), r.quant(about), **r.clamp()))


def _operands(r: Random, b: Build) -> tuple[list[str], tuple[int, ...]]:
    """Two operands that broadcast, one of them sometimes constant, and the result's shape."""
    shape = tuple(r.int(1, 9) for _ in range(r.int(1, 4)))
    other = tuple(1 if r.rng.random() < 0.3 else n for n in shape)[r.int(0, len(shape) - 1) :]
    if r.rng.random() < 0.5:
        other = shape
    second = (
        b.constant(r.int8(*other), r.quant(0.1)) if r.rng.random() < 0.3 else b.input(other, r.quant(0.1))
    )
    names = [b.input(shape, r.quant(0.1)), second]
    return names[:: r.int(0, 1) * 2 - 1], shape


def add(r: Random) -> p.Program:
    b = Build()
    names, shape = _operands(r, b)
    return b.finish(b.op(p.Add, names, shape, r.quant(0.2), subtract=bool(r.int(0, 1)), **r.clamp()))


def mul(r: Random) -> p.Program:
    b = Build()
    names, shape = _operands(r, b)
    return b.finish(b.op(p.Mul, names, shape, r.quant(1.0), **r.clamp()))


def _pool(r: Random, b: Build) -> tuple[str, tuple[int, ...], dict[str, Any]]:
    """An input, the output's shape and a window; now and then one position more, as ceil_mode gives.
    Every window holds a position of the input."""
    n, c = r.int(1, 2), r.int(1, 35)
    while True:
        h, w = r.int(1, 10), r.int(1, 10)
        win = _window(r, h, w)
        out = list(win.pop("out"))
        for i, size in enumerate((h, w)):
            room = (
                size + win["pads"][i] + win["pads"][i + 2] - span(1, 1, win["dilations"][i], win["kernel"][i])
            )
            out[i] += int(room % win["strides"][i] != 0 and r.rng.random() < 0.5)
        if divisors((h, w), out=tuple(out), count_include_pad=False, **win).min() > 0:
            return b.input((n, h, w, c), r.quant(0.1)), (n, *out, c), win


def max_pool(r: Random) -> p.Program:
    b = Build()
    x, shape, win = _pool(r, b)
    return b.finish(b.op(p.MaxPool, [x], shape, b.program.tensors[x].quant, **win))


def average_pool(r: Random) -> p.Program:
    b = Build()
    x, shape, win = _pool(r, b)
    qx = b.program.tensors[x].quant
    same = r.rng.random() < 0.4  # one scale on both sides: where a rounded 1/n would differ
    q = p.Quant(qx.scale, r.zero()) if same else r.quant(0.05)
    include = bool(r.int(0, 1))
    return b.finish(b.op(p.AveragePool, [x], shape, q, count_include_pad=include, **win, **r.clamp()))


def global_average_pool(r: Random) -> p.Program:
    b, n, h, w, c = Build(), r.int(1, 2), r.int(1, 20), r.int(1, 20), r.int(1, 35)
    qx = r.quant(0.1)
    x = b.input((n, h, w, c), qx)
    q = p.Quant(qx.scale, r.zero()) if r.rng.random() < 0.4 else r.quant(0.02)
    return b.finish(b.op(p.AveragePool, [x], (n, 1, 1, c), q, kernel=(h, w), strides=(h, w), **r.clamp()))


def lut(r: Random) -> p.Program:
    b, shape = Build(), tuple(r.int(1, 9) for _ in range(r.int(1, 4)))
    return b.finish(b.op(p.Lut, [b.input(shape, r.quant())], shape, r.quant(), table=r.int8(256)))


def prelu(r: Random) -> p.Program:
    b, shape = Build(), tuple(r.int(1, 9) for _ in range(r.int(1, 4)))
    slope = np.array(
        [r.rng.choice([0.0, r.rng.uniform(-2, 2), 0.25, -0.5, 1.0]) for _ in range(shape[-1])], np.float32
    )
    return b.finish(
        b.op(p.PRelu, [b.input(shape, r.quant(0.2))], shape, r.quant(0.2), slope=slope, **r.clamp())
    )


def exp_table(scale: np.float32, length: int) -> np.ndarray:
    """uint32[256]: `exp(-scale * d)` scaled so that `length` of them fit in 31 bits, the largest at most 2^24."""
    top = min(2**24, (2**31 - 1) // length)
    return np.rint(np.exp(-np.float64(scale) * np.arange(256)) * top).astype(np.uint32)


def softmax(r: Random) -> p.Program:
    """In directed cases a row of equal values gives `1 / N` of a whole number of half steps: a tie."""
    b, lead = Build(), tuple(r.int(1, 5) for _ in range(r.int(0, 3)))
    qx = r.quant(0.1)
    if r.directed:
        length = 2 ** r.int(1, 6)
        q = quant(1 / (length * (r.int(0, 60) + 0.5)), r.zero())
    else:
        length = r.int(1, 200)
        q = quant(1 / 256, -128) if r.rng.random() < 0.5 else r.quant(1 / 256)
    shape, table = (*lead, length), exp_table(qx.scale, length)
    return b.finish(b.op(p.Softmax, [b.input(shape, qx)], shape, q, table=table, **r.clamp()))


def layer_norm(r: Random) -> p.Program:
    """In directed cases gains and offsets are whole numbers of half steps: rows of equal values, and many rows of
    two elements, give exact ties."""
    b, lead = Build(), tuple(r.int(1, 5) for _ in range(r.int(0, 3)))
    qx, qy = r.quant(0.05), r.quant(0.03)
    n = 2 ** r.int(1, 6) if r.directed else r.int(1, 300)
    epsilon = r.rng.choice([2.0**-96, 1e-5 * (n / float(qx.scale)) ** 2, 4.0**10])
    if r.directed:
        gain, offset = (r.rng.integers(-9, 10, n) / 2 * 2.0 ** r.int(-1, 4) for _ in range(2))
    else:
        gain = r.rng.normal(1, 0.5, n) / float(qy.scale) * (r.rng.random(n) < 0.9)
        offset = r.rng.normal(0, 0.5, n) / float(qy.scale) * (r.rng.random(n) < 0.8)
    x = b.input((*lead, n), qx)
    norm = {"epsilon": np.float32(epsilon), "gain": gain.astype(np.float32), "offset": offset.astype(np.float32)}
    return b.finish(b.op(p.LayerNorm, [x], (*lead, n), qy, **norm, **r.clamp()))


def _moved(r: Random, b: Build) -> tuple[str, tuple[int, ...], p.Quant]:
    shape, q = tuple(r.int(1, 7) for _ in range(r.int(1, 5))), r.quant()
    return b.input(shape, q), shape, q


def reshape(r: Random) -> p.Program:
    b = Build()
    x, shape, q = _moved(r, b)
    new = (shape[0], int(np.prod(shape[1:]))) if r.int(0, 1) else (1, *shape[::-1])
    return b.finish(b.op(p.Reshape, [x], new, q))


def transpose(r: Random) -> p.Program:
    b = Build()
    x, shape, q = _moved(r, b)
    perm = tuple(int(d) for d in r.rng.permutation(len(shape)))
    return b.finish(b.op(p.Transpose, [x], tuple(shape[d] for d in perm), q, perm=perm))


def slice_(r: Random) -> p.Program:
    b = Build()
    x, shape, q = _moved(r, b)
    starts, steps, sizes = [], [], []
    for n in shape:
        step, start = r.int(1, 3) * (r.int(0, 1) * 2 - 1), r.int(0, n - 1)
        most = (n - 1 - start) // step if step > 0 else start // -step
        starts.append(start), steps.append(step), sizes.append(r.int(1, most + 1))
    return b.finish(b.op(p.Slice, [x], tuple(sizes), q, starts=tuple(starts), steps=tuple(steps)))


def pad(r: Random) -> p.Program:
    b = Build()
    x, shape, q = _moved(r, b)
    before = tuple(r.int(0, 3) for _ in shape)
    new = tuple(n + lo + r.int(0, 3) for n, lo in zip(shape, before, strict=True))
    return b.finish(b.op(p.Pad, [x], new, q, before=before, value=r.int(-128, 127)))


def concat(r: Random) -> p.Program:
    b = Build()
    x, shape, q = _moved(r, b)
    axis, sizes = r.int(0, len(shape) - 1), [r.int(1, 5) for _ in range(r.int(0, 3))]
    others = [b.input((*shape[:axis], n, *shape[axis + 1 :]), q) for n in sizes]
    new = (*shape[:axis], shape[axis] + sum(sizes), *shape[axis + 1 :])
    return b.finish(b.op(p.Concat, [x, *others], new, q, axis=axis))


def resize_nearest(r: Random) -> p.Program:
    b, n, h, w, c = Build(), r.int(1, 2), r.int(1, 6), r.int(1, 6), r.int(1, 6)
    q = r.quant()
    rows, cols = r.rng.integers(0, h, r.int(1, 9)), r.rng.integers(0, w, r.int(1, 9))
    x = b.input((n, h, w, c), q)
    return b.finish(b.op(p.ResizeNearest, [x], (n, len(rows), len(cols), c), q, rows=rows, cols=cols))


OPERATORS: dict[str, Callable[[Random], p.Program]] = {
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "dense": dense,
    "matmul": matmul,
    "matmul_transposed": matmul_transposed,
    "add": add,
    "mul": mul,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "global_average_pool": global_average_pool,
    "lut": lut,
    "prelu": prelu,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "reshape": reshape,
    "transpose": transpose,
    "slice": slice_,
    "pad": pad,
    "concat": concat,
    "resize_nearest": resize_nearest,
}
"""One random program per operator: name -> function of a `Random`."""


def cases(operator: str, seeds: range) -> Iterator[Case]:
    """Programs of one operator with samples, one per seed."""
    for seed in seeds:
        r = Random(seed)
        program = OPERATORS[operator](r)
        yield Case(program, r.samples(program), f"{operator}, seed {seed}, {program.ops[0]}")
