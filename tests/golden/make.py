# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files of this folder: `python -m tests.golden.make NAME`.

A golden file is made once, when its format version is released, and never again: later readers
must load it and compute the recorded outputs. So this script refuses to overwrite one.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from edgekit.format.reader import read
from edgekit.format.schema import Dtype, RawLayout
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.program import (
    Add,
    AveragePool,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    MaxPool,
    PRelu,
    Program,
    Quant,
    Quantize,
    Reshape,
    Softmax,
)
from edgekit.reference import io
from edgekit.reference.executor import raw_shape, run
from tests.random_programs import Builder, Shape, Tensor

FOLDER = Path(__file__).parent
PACKINGS = {
    "dense": Packing(sparse_below=0),
    "sparse": Packing(sparse_below=2),
    "interleaved": Packing(tile=(4, 4), sparse_below=0),
    "paired": Packing(paired=True, sparse_below=0),
}


def digits_like() -> Program:
    """An 8 x 8 image classifier with a residual connection; weights are random, half of them zero."""
    rng = np.random.default_rng(20260101)
    b = Builder(rng, "digits-like")

    def layer(cls: type, x: Tensor, w_shape: Shape, shape: Shape, **fields: object) -> Tensor:
        w = b.constant(w_shape, None, zeros=0.5)
        depth = w.size // shape[-1]
        scale = np.full(shape[-1], 0.02, np.float32) * rng.uniform(0.8, 1.2, shape[-1]).astype(np.float32)
        bias = rng.integers(-2000, 2000, shape[-1]).astype(np.int32)
        # About 50 steps of output for a typical accumulator.
        quant = Quant(np.float32(x.quant.scale * 0.02 * 73 * 60 * np.sqrt(depth / 2) / 50), -3)
        return b.emit(cls, [x, w], shape, quant, bias=bias, weight_scale=scale, lo=-128, hi=127, **fields)

    x = b.input("image", (1, 8, 8, 1))
    take_raw(b.program)
    x = layer(Conv2D, x, (8, 3, 3, 1), (1, 8, 8, 8), pads=(1, 1, 1, 1))
    y = layer(DepthwiseConv2D, x, (3, 3, 8), (1, 8, 8, 8), pads=(1, 1, 1, 1))
    y = layer(Conv2D, y, (8, 1, 1, 8), (1, 8, 8, 8))
    x = b.emit(Add, [x, y], (1, 8, 8, 8), Quant(np.float32(x.quant.scale + y.quant.scale), 5), lo=-128, hi=127)
    x = b.emit(MaxPool, [x], (1, 4, 4, 8), x.quant, kernel=(2, 2), strides=(2, 2))
    slope = rng.uniform(-0.2, 0.4, 8).astype(np.float32)
    x = b.emit(PRelu, [x], (1, 4, 4, 8), slope=slope, lo=-128, hi=127)
    x = b.emit(AveragePool, [x], (1, 2, 2, 8), x.quant, kernel=(2, 2), strides=(2, 2), lo=-128, hi=127)
    x = b.emit(Reshape, [x], (1, 32), x.quant)
    x = layer(Dense, x, (10, 32), (1, 10))
    table = np.floor(2**24 * np.exp(-float(x.quant.scale) * np.arange(256))).astype(np.uint32)
    x = b.emit(Softmax, [x], (1, 10), Quant(np.float32(1 / 256), -128), table=table)
    b.output("scores", x)
    program = b.finish()
    plan(program)
    return program


def take_raw(program: Program) -> None:
    """Has the input take pixels from 0 to 16, too."""
    op = program.ops[0]
    assert isinstance(op, Quantize)
    quant = program.tensors[op.outputs[0]].quant
    assert quant is not None
    op.raw_dtype, op.raw_perm, op.raw_layout = Dtype.U8, (0, 1, 2, 3), RawLayout.NHWC
    op.raw_mean, op.raw_std = np.array([8], np.float32), np.array([0.3], np.float32)
    real = (np.arange(256, dtype=np.float32) - op.raw_mean) / op.raw_std
    op.raw_table = io.quantize(real[None], quant.scale, quant.zero_point, (0, 1))


def inputs(program: Program) -> list[dict[str, np.ndarray]]:
    """The inputs whose outputs are recorded: float32, then raw."""
    rng = np.random.default_rng(1)
    floats = [rng.normal(0, 10, program.tensors["image"].shape).astype(np.float32) for _ in range(8)]
    op = program.ops[0]
    assert isinstance(op, Quantize)
    raw = [rng.integers(0, 256, raw_shape(program, op)).astype(np.uint8) for _ in range(4)]
    return [{"image": array} for array in (*floats, *raw)]


def preprocessing(program: Program) -> dict[str, object]:
    """What the file records of its raw data."""
    op = program.ops[0]
    assert isinstance(op, Quantize) and op.raw_mean is not None and op.raw_std is not None
    return {"layout": op.raw_layout.name, "mean": op.raw_mean.tolist(), "std": op.raw_std.tolist()}


def digest(program: Program) -> str:
    """SHA-256 of every int8 tensor and every output, over all recorded inputs, by the reference."""
    state = hashlib.sha256()
    for sample in inputs(program):
        outputs, written = run(program, sample, taps=True)
        for op in program.ops:
            state.update(np.ascontiguousarray(written[op.outputs[0]]).tobytes())
        for name in program.outputs:
            state.update(name.encode() + np.ascontiguousarray(outputs[name]).astype("<f4").tobytes())
    return state.hexdigest()


def main(name: str) -> None:
    program = digits_like()
    expected = {
        "digest": digest(program),
        "ops": [op.opcode.name for op in program.ops],
        "preprocessing": preprocessing(program),
    }
    for suffix, packing in PACKINGS.items():
        path = FOLDER / f"{name}_{suffix}.ekm"
        if path.exists():
            sys.exit(f"{path} exists; a golden file stays as it is")
        assert digest(read(write(program, path, packing=packing))) == expected["digest"]
    (FOLDER / f"{name}.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
