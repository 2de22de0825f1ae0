# SPDX-License-Identifier: Apache-2.0
"""Random valid programs of every operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgekit.format.schema import Dtype, Region
from edgekit.program import (
    Add,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dequantize,
    LayerNorm,
    Lut,
    MatMul,
    MatMulTransposed,
    MaxPool,
    Mul,
    Op,
    Pad,
    PRelu,
    Program,
    Quant,
    Quantize,
    Reshape,
    ResizeNearest,
    Slice,
    Softmax,
    Tensor,
    Transpose,
)

Shape = tuple[int, ...]


class Builder:
    """Grows a program operator by operator; every choice comes from `rng`."""

    def __init__(self, rng: np.random.Generator, name: str = "random") -> None:
        self.rng = rng
        self.program = Program(name)
        self.counter = 0

    def fresh(self, stem: str) -> str:
        self.counter += 1
        return f"net/{stem}_{self.counter}"

    def quant(self) -> Quant:
        return Quant(np.float32(self.rng.uniform(0.002, 0.3)), int(self.rng.integers(-128, 128)))

    def tensor(self, shape: Shape, quant: Quant | None = None, **fields: object) -> Tensor:
        shape = tuple(int(d) for d in shape)
        return self.program.add(Tensor(self.fresh("t"), shape, quant=quant or self.quant(), **fields))

    def constant(self, shape: Shape, quant: Quant | None, zeros: float = 0.0) -> Tensor:
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        data[self.rng.random(shape) < zeros] = 0
        name = self.fresh("w")
        return self.program.add(Tensor(name, shape, quant=quant, region=Region.READONLY, data=data))

    def clamp(self) -> dict[str, int]:
        lo, hi = sorted(self.rng.integers(-128, 128, 2).tolist()) if self.rng.random() < 0.3 else (-128, 127)
        return {"lo": lo, "hi": hi}

    def emit(self, cls: type[Op], inputs: list[Tensor], shape: Shape, quant: Quant | None = None, **fields) -> Tensor:
        y = self.tensor(shape, quant)
        self.program.ops.append(cls(self.fresh(cls.__name__), [t.name for t in inputs], [y.name], **fields))
        return y

    # ---- Ports -----------------------------------------------------------------------------------

    def input(self, name: str, shape: Shape, quantized: bool = False) -> Tensor:
        """An input port and, unless `quantized`, the operator behind it. `shape` is the tensor's."""
        self.program.inputs.append(name)
        if quantized:
            return self.program.add(Tensor(name, shape, quant=self.quant(), region=Region.IO))
        perm = tuple(self.rng.permutation(len(shape)).tolist())
        declared = tuple(shape[i] for i in np.argsort(perm))
        port = self.program.add(Tensor(name, declared, Dtype.F32, region=Region.IO))
        fields: dict[str, object] = {"perm": perm}
        if self.rng.random() < 0.5 and shape:
            axis = int(self.rng.integers(len(shape)))
            count = int(self.rng.choice([1, shape[axis]]))
            table = self.rng.integers(-128, 128, (count, 256)).astype(np.int8)
            fields |= {
                "raw_perm": tuple(self.rng.permutation(len(shape)).tolist()),
                "raw_dtype": Dtype.U8 if self.rng.random() < 0.5 else Dtype.I8,
                "raw_table": table,
                "raw_mean": table[:, 0].astype(np.float32),
                "raw_std": np.exp2(table[:, 1] / np.float32(8)),
                "table_axis": axis,
            }
        return self.emit(Quantize, [port], shape, **fields)

    def output(self, name: str, x: Tensor) -> None:
        """A float32 output port and the operator in front of it."""
        perm = tuple(self.rng.permutation(len(x.shape)).tolist())
        shape = tuple(x.shape[i] for i in perm)
        port = self.program.add(Tensor(name, shape, Dtype.F32, region=Region.IO))
        self.program.ops.append(Dequantize(self.fresh("out"), [x.name], [port.name], perm=perm))
        self.program.outputs.append(name)

    def finish(self) -> Program:
        """Numbers the ports; the plan is left to the caller."""
        for index, name in enumerate([*self.program.inputs, *self.program.outputs]):
            self.program.tensors[name].offset = index
        return self.program

    # ---- Operators on one tensor -------------------------------------------------------------------

    def window(self, x: Tensor, pooling: bool = False) -> tuple[tuple[int, int], Shape, dict[str, tuple[int, ...]]]:
        """Kernel, output rows and columns, and the other fields of a window that fits `x`; of a pooling
        one that never sees padding alone."""
        pick = lambda low, high: int(self.rng.integers(low, high))  # noqa: E731
        _, h, w, _ = x.shape
        kernel, strides = (pick(1, 4), pick(1, 4)), (pick(1, 3), pick(1, 3))
        pads = tuple(int(v) for v in self.rng.integers(0, 2, 4))
        if pooling:
            pads = tuple(min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads))
        reach = [size + pads[i] + pads[i + 2] for i, size in enumerate((h, w))]
        kernel = tuple(min(k, r) for k, r in zip(kernel, reach, strict=True))
        dilations = tuple(
            2 if 2 * (k - 1) < r and size > 1 and pick(0, 2) else 1
            for k, r, size in zip(kernel, reach, (h, w), strict=True)
        )
        out = tuple(
            (r - (k - 1) * d - 1) // s + 1
            for r, k, d, s in zip(reach, kernel, dilations, strides, strict=True)
        )
        return kernel, out, {"strides": strides, "dilations": dilations, "pads": pads}

    def accumulate(self, x: Tensor, channels: int) -> dict[str, object]:
        scale = self.rng.uniform(0.001, 0.1, channels).astype(np.float32)
        return {"bias": self.rng.integers(-(2**30), 2**30, channels).astype(np.int32), "weight_scale": scale}

    def conv2d(self, x: Tensor) -> Tensor:
        kernel, out, fields = self.window(x)
        n, _, _, c = x.shape
        groups = int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        o = groups * int(self.rng.integers(1, 9))
        w = self.constant((o, *kernel, c // groups), None, float(self.rng.choice([0, 0.5, 0.8, 1.0])))
        more = self.accumulate(x, o) | self.clamp()
        return self.emit(Conv2D, [x, w], (n, *out, o), groups=groups, **fields, **more)

    def depthwise(self, x: Tensor) -> Tensor:
        kernel, out, fields = self.window(x)
        n, _, _, c = x.shape
        o = c * int(self.rng.integers(1, 3))
        w = self.constant((*kernel, o), None, float(self.rng.choice([0, 0.8])))
        return self.emit(DepthwiseConv2D, [x, w], (n, *out, o), **fields, **self.accumulate(x, o), **self.clamp())

    def dense(self, x: Tensor) -> Tensor:
        o = int(self.rng.integers(1, 70))
        w = self.constant((o, x.shape[-1]), None, float(self.rng.choice([0, 0.8])))
        return self.emit(Dense, [x, w], (*x.shape[:-1], o), **self.accumulate(x, o), **self.clamp())

    def matmul(self, x: Tensor) -> Tensor:
        perm = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
        other = self.emit(Transpose, [x], tuple(x.shape[i] for i in perm), x.quant, perm=perm)
        return self.emit(MatMul, [x, other], (*x.shape[:-1], x.shape[-2]), **self.clamp())

    def matmul_transposed(self, x: Tensor) -> Tensor:
        return self.emit(MatMulTransposed, [x, x], (*x.shape[:-1], x.shape[-2]), **self.clamp())

    def add(self, x: Tensor) -> Tensor:
        b = self.constant(x.shape[-1:], self.quant()) if self.rng.random() < 0.5 else x
        operands = [x, b] if self.rng.random() < 0.5 else [b, x]
        return self.emit(Add, operands, x.shape, subtract=bool(self.rng.random() < 0.5), **self.clamp())

    def mul(self, x: Tensor) -> Tensor:
        b = self.constant((1,) * len(x.shape), self.quant())
        return self.emit(Mul, [x, b], x.shape, **self.clamp())

    def max_pool(self, x: Tensor) -> Tensor:
        kernel, out, fields = self.window(x, pooling=True)
        return self.emit(MaxPool, [x], (x.shape[0], *out, x.shape[3]), x.quant, kernel=kernel, **fields)

    def average_pool(self, x: Tensor) -> Tensor:
        kernel, out, fields = self.window(x, pooling=True)
        fields |= self.clamp() | {"count_include_pad": bool(self.rng.random() < 0.5)}
        return self.emit(AveragePool, [x], (x.shape[0], *out, x.shape[3]), kernel=kernel, **fields)

    def lut(self, x: Tensor) -> Tensor:
        return self.emit(Lut, [x], x.shape, table=self.rng.integers(-128, 128, 256).astype(np.int8))

    def prelu(self, x: Tensor) -> Tensor:
        slope = self.rng.normal(0, 0.3, x.shape[-1]).astype(np.float32)
        slope[self.rng.random(len(slope)) < 0.3] = 0
        return self.emit(PRelu, [x], x.shape, slope=slope, **self.clamp())

    def softmax(self, x: Tensor) -> Tensor:
        top = min(2**24, (2**31 - 1) // x.shape[-1])
        table = np.floor(top * np.exp(-0.1 * np.arange(256))).astype(np.uint32)
        return self.emit(Softmax, [x], x.shape, table=table, **self.clamp())

    def layer_norm(self, x: Tensor) -> Tensor:
        gain, offset = (self.rng.normal(0, 40, x.shape[-1:]).astype(np.float32) for _ in range(2))
        epsilon = np.float32(self.rng.lognormal(0, 9))
        return self.emit(LayerNorm, [x], x.shape, epsilon=epsilon, gain=gain, offset=offset, **self.clamp())

    def reshape(self, x: Tensor) -> Tensor:
        return self.emit(Reshape, [x], (1, x.size) if len(x.shape) == 4 else (1, 1, *x.shape)[-4:], x.quant)

    def transpose(self, x: Tensor) -> Tensor:
        perm = tuple(self.rng.permutation(len(x.shape)).tolist())
        return self.emit(Transpose, [x], tuple(x.shape[i] for i in perm), x.quant, perm=perm)

    def slice(self, x: Tensor) -> Tensor:
        steps = [int(s) for s in self.rng.choice([1, 2, -1], len(x.shape))]
        starts = tuple(size - 1 if step < 0 else 0 for size, step in zip(x.shape, steps, strict=True))
        shape = tuple(-(-size // abs(step)) for size, step in zip(x.shape, steps, strict=True))
        return self.emit(Slice, [x], shape, x.quant, starts=starts, steps=tuple(steps))

    def slice_to(self, x: Tensor, count: int) -> Tensor:
        """The first `count` of the last dimension."""
        zeros, ones = (0,) * len(x.shape), (1,) * len(x.shape)
        return self.emit(Slice, [x], (*x.shape[:-1], count), x.quant, starts=zeros, steps=ones)

    def pad(self, x: Tensor) -> Tensor:
        before = tuple(int(v) for v in self.rng.integers(0, 3, len(x.shape)))
        shape = tuple(b + size + 1 for b, size in zip(before, x.shape, strict=True))
        return self.emit(Pad, [x], shape, x.quant, before=before, value=int(self.rng.integers(-128, 128)))

    def concat(self, x: Tensor) -> Tensor:
        axis = int(self.rng.integers(len(x.shape)))
        shape = tuple(2 * size if d == axis else size for d, size in enumerate(x.shape))
        return self.emit(Concat, [x, x], shape, x.quant, axis=axis)

    def resize(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        rows, cols = (np.arange(2 * size, dtype=np.uint16) // 2 for size in (h, w))
        return self.emit(ResizeNearest, [x], (n, 2 * h, 2 * w, c), x.quant, rows=rows, cols=cols)

    def any(self, x: Tensor) -> Tensor:
        """One random operator that takes `x` and keeps it small."""
        anything = [
            self.dense, self.add, self.mul, self.lut, self.prelu, self.softmax, self.layer_norm,
            self.reshape, self.transpose, self.slice, self.pad,
        ]  # fmt: skip
        images = [self.conv2d, self.depthwise, self.max_pool, self.average_pool]
        if x.size < 2000:
            anything += [self.concat, *([self.matmul, self.matmul_transposed] if len(x.shape) >= 2 else [])]
            images.append(self.resize)
        steps: list[Callable[[Tensor], Tensor]] = anything + (2 * images if len(x.shape) == 4 else [])
        return steps[int(self.rng.integers(len(steps)))](x)


def random_program(rng: np.random.Generator, ops: int = 12) -> Program:
    """One or two inputs, `ops` random operators on random earlier tensors, one or two outputs."""
    builder = Builder(rng)
    live = [
        builder.input(f"in{i}", tuple(rng.integers(1, 7, 4).tolist()), quantized=bool(rng.random() < 0.2))
        for i in range(int(rng.integers(1, 3)))
    ]
    for _ in range(ops):
        x = live[-1] if rng.random() < 0.7 else live[int(rng.integers(len(live)))]
        live.append(builder.any(x))
        same = [t for t in live[:-1] if t.shape == live[-1].shape]
        if same and rng.random() < 0.5:
            other = same[int(rng.integers(len(same)))]
            live.append(builder.emit(Add, [other, live[-1]], other.shape, **builder.clamp()))
    builder.output("out0", live[-1])
    if len(live) > 3 and rng.random() < 0.5:
        builder.output("out1", live[len(live) // 2])
    return builder.finish()


def every_operator(rng: np.random.Generator) -> Program:
    """One program with all operators, all of them once at least."""
    b = Builder(rng, "every operator")
    x = b.input("image", (1, 6, 5, 4))
    y = b.conv2d(x)
    for step in (b.depthwise, b.prelu, b.resize, b.max_pool, b.average_pool, b.pad, b.slice, b.concat, b.mul, b.lut):
        y = step(y)
    y = b.add(b.reshape(b.transpose(y)))
    y = b.matmul_transposed(b.matmul(y))
    y = b.layer_norm(y)
    b.output("scores", b.softmax(b.dense(y)))
    assert math.prod(y.shape) < 10**6
    return b.finish()
