# SPDX-License-Identifier: Apache-2.0
"""What a `.ekm` file holds, in numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.format import schema
from edgekit.format.reader import feature_names, read, read_header
from edgekit.format.schema import Encoding, Opcode, RawLayout, Region, Section
from edgekit.plan.liveness import lower_bound, timeline
from edgekit.program import Accumulate, MatMul, Op, Program, Quantize, Tensor, lifetimes


def summarize(data: bytes) -> dict[str, Any]:
    """The fields of `edgekit inspect --json`, but for those that only the runtime knows.

    An input that takes raw data has `raw_dtype`, `raw_shape`, `raw_layout`, `raw_mean` and `raw_std`; another one
    None in them.

    `weight_bytes` counts weight tensors as stored, with the indexes of sparse ones; `constant_bytes` the
    whole WEIGHTS section, in which start values, multipliers and tables stand beside them.

    `choices` of an operator: kernel -> the one that the file wants in its place.

    Raises:
        FormatError: the file is damaged or cannot be read by this version.
    """
    header = read_header(data)
    program = read(data)
    stored = _stored(data, header, program)
    weights = {op.inputs[1] for op in program.ops if isinstance(op, Accumulate)}
    features = int(header["required_features"])
    choices: dict[int, dict[str, str]] = {}
    for choice in program.choices:
        choices.setdefault(choice.op, {})[choice.instead_of] = choice.kernel
    return {
        "name": program.name,
        "format_version": f"{header['version_major']}.{header['version_minor']}",
        "features": feature_names(features).split(", ") if features else [],
        "bytes": len(data),
        "sections": {s.name: int(header["section"][2 * s + 1]) for s in Section},
        "weight_bytes": sum(stored[name]["bytes"] for name in weights),
        "constant_bytes": int(header["section"][2 * Section.WEIGHTS + 1]),
        "arena_bytes": program.arena_bytes,
        "arena_lower_bound_bytes": lower_bound(program),
        "macs": sum(macs(program, op) for op in program.ops),
        "inputs": [_port(program, name) for name in program.inputs],
        "outputs": [_port(program, name) for name in program.outputs],
        "ops": [
            {**_op(program, op, live, stored), "choices": choices.get(number, {})}
            for number, (op, live) in enumerate(zip(program.ops, timeline(program), strict=True))
        ],
        "tensors": list(stored.values()),
    }


def macs(program: Program, op: Op) -> int:
    """Multiply-accumulates of one operator; padding counts like input."""
    y = program.tensors[op.outputs[0]]
    if isinstance(op, MatMul):
        return y.size * program.tensors[op.inputs[0]].shape[-1]
    if not isinstance(op, Accumulate):
        return 0
    w = program.tensors[op.inputs[1]].shape
    taps = w[:2] if op.opcode == Opcode.DEPTHWISE_CONV2D else w[1:]
    return y.size * math.prod(taps)


def _stored(data: bytes, header: np.ndarray, program: Program) -> dict[str, dict[str, Any]]:
    """Every tensor as the file records it, by name, in file order."""
    offset, size = header["section"][2 * Section.TENSORS : 2 * Section.TENSORS + 2].tolist()
    records = np.frombuffer(data[offset : offset + size], schema.TENSOR.dtype)
    lives = lifetimes(program)
    return {
        t.name: _tensor(t, record, lives[t.name])
        for t, record in zip(program.tensors.values(), records, strict=True)
    }


def _tensor(tensor: Tensor, record: np.ndarray, life: tuple[int, int]) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.name.lower(),
        "shape": list(tensor.shape),
        "region": tensor.region.name.lower(),
        "encoding": Encoding(int(record["encoding"])).name.lower(),
        "tile": [int(record["tile_n"]), int(record["tile_k"])],
        "offset": int(record["offset"]),
        "bytes": int(record["bytes"]),
        "first_op": life[0],
        "last_op": life[1],
        "scale": float(tensor.quant.scale) if tensor.quant else None,
        "zero_point": tensor.quant.zero_point if tensor.quant else None,
    }


def _port(program: Program, name: str) -> dict[str, Any]:
    tensor = program.tensors[name]
    raw = preprocessing(program).get(name, dict.fromkeys(("dtype", "shape", "layout", "mean", "std")))
    return {
        "name": name,
        "dtype": tensor.dtype.name.lower(),
        "shape": list(tensor.shape),
        **{f"raw_{key}": value for key, value in raw.items()},
    }


def preprocessing(program: Program) -> dict[str, dict[str, Any]]:
    """What is recorded of raw data, by input: `dtype`, `shape`, `layout` or None, `mean` and `std`, one number or one
    per channel, as the shortest decimals that are the same binary32 numbers."""
    return {op.inputs[0]: _raw(program, op) for op in program.ops if isinstance(op, Quantize) and op.raw_table is not None}


def _raw(program: Program, op: Quantize) -> dict[str, Any]:
    assert op.raw_dtype is not None and op.raw_perm is not None and op.raw_mean is not None and op.raw_std is not None
    shape = program.tensors[op.outputs[0]].shape
    return {
        "dtype": op.raw_dtype.name.lower(),
        "shape": [shape[i] for i in np.argsort(op.raw_perm)],
        "layout": None if op.raw_layout == RawLayout.NONE else op.raw_layout.name.lower(),
        "mean": [float(str(value)) for value in op.raw_mean],
        "std": [float(str(value)) for value in op.raw_std],
    }


def _op(program: Program, op: Op, live: int, stored: dict[str, dict[str, Any]]) -> dict[str, Any]:
    constants = [name for name in op.inputs if program.tensors[name].region == Region.READONLY]
    return {
        "name": op.name,
        "op": op.opcode.name.lower(),
        "inputs": op.inputs,
        "outputs": op.outputs,
        "shape": list(program.tensors[op.outputs[0]].shape),
        "macs": macs(program, op),
        "weight_bytes": sum(stored[name]["bytes"] for name in constants),
        "live_bytes": live,
    }
