# SPDX-License-Identifier: Apache-2.0
"""What is in a `.ekm` file: sizes, ports, tensors, operators, memory plan, cost of each operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError, FormatError
from edgekit.format import reader, schema
from edgekit.format.schema import Dtype, Encoding, Opcode, Region, Section
from edgekit.plan import lower_bound
from edgekit.program import Accumulate, Conv2D, MatMul, Op, Program, tensor_bytes


def inspect(source: str | Path | bytes) -> dict[str, Any]:
    """The fields of `edgekit inspect --json`.

    Raises:
        FormatError: the file cannot be read, or is damaged.
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    try:
        program = reader.read(data)
    except FormatError as error:
        if isinstance(source, bytes):
            raise
        raise FormatError(f"{source}: {error}") from None
    header = reader.read_header(data)
    return {
        "model": None if isinstance(source, bytes) else str(source),
        "name": program.name,
        "format_version": f"{header['version_major']}.{header['version_minor']}",
        "features": _features(int(header["required_features"])),
        **summarize(program, data),
        "scratch_bytes": scratch_bytes(data).get("scalar"),
        "scratch_bytes_by_kernels": scratch_bytes(data),
        "inputs": [_port(program, name) for name in program.inputs],
        "outputs": [_port(program, name) for name in program.outputs],
        "ops": [_op(program, op) for op in program.ops],
        "tensors": _tensors(program, data),
    }


def summarize(program: Program, data: bytes) -> dict[str, Any]:
    """Sizes and cost of a program and the file that holds it.

    `weight_bytes` counts the constant tensors as stored, indexes of sparse ones included; biases,
    multipliers and tables count towards `bytes` alone. `arena_lower_bound_bytes` is the largest sum over
    operators of the unpadded bytes that must be live there, in place where that is allowed.
    """
    return {
        "bytes": len(data),
        "weight_bytes": sum(_stored_weights(data).values()),
        "arena_bytes": program.arena_bytes,
        "arena_lower_bound_bytes": lower_bound(program),
        "macs": sum(macs(program, op) for op in program.ops),
    }


def macs(program: Program, op: Op) -> int:
    """Multiply-accumulates of one inference: products that are summed up, biases not counted."""
    out = program.tensors[op.outputs[0]]
    if isinstance(op, Conv2D):
        return out.size * int(np.prod(program.tensors[op.inputs[1]].shape[1:]))
    if op.opcode == Opcode.DEPTHWISE_CONV2D:
        return out.size * int(np.prod(program.tensors[op.inputs[1]].shape[:2]))
    if isinstance(op, Accumulate):
        return out.size * program.tensors[op.inputs[1]].shape[-1]
    if isinstance(op, MatMul):
        return out.size * program.tensors[op.inputs[0]].shape[-1]
    return 0


def scratch_bytes(data: bytes) -> dict[str, int]:
    """Kernel set -> scratch of one thread, for the sets of this processor; empty where the runtime is not built."""
    try:
        from edgekit.runtime import kernels
        from edgekit.runtime.model import Model
    except EdgekitError:
        return {}
    model = Model(data)
    return {name: model.scratch_needed(name) for name in kernels.available()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def _features(bits: int) -> list[str]:
    return [feature.name.lower() for feature in schema.Feature if bits & feature and feature.name]


def _records(data: bytes) -> np.ndarray:
    """The tensor records of a file that the reader accepted."""
    offset, size = reader.read_header(data)["section"][2 * Section.TENSORS : 2 * Section.TENSORS + 2]
    return np.frombuffer(data, schema.TENSOR.dtype, int(size) // schema.TENSOR.dtype.itemsize, int(offset))


def _stored_weights(data: bytes) -> dict[int, int]:
    """Offset -> stored bytes of the constant tensors; equal ones are stored once."""
    return {int(r["offset"]): int(r["bytes"]) for r in _records(data) if r["region"] == Region.READONLY}


def _port(program: Program, name: str) -> dict[str, Any]:
    tensor = program.tensors[name]
    return {"name": name, "dtype": _dtype(tensor.dtype), "shape": list(tensor.shape)}


def _op(program: Program, op: Op) -> dict[str, Any]:
    weights = [program.tensors[name] for name in op.inputs if program.tensors[name].region == Region.READONLY]
    return {
        "name": op.name,
        "op": op.opcode.name.lower(),
        "inputs": list(op.inputs),
        "outputs": list(op.outputs),
        "shape": list(program.tensors[op.outputs[0]].shape),
        "macs": macs(program, op),
        "weight_bytes": sum(map(tensor_bytes, weights)),
        "attributes": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(op).items()
            if key not in ("name", "inputs", "outputs") and isinstance(value, (bool, int, str, tuple))
        },
    }


def _tensors(program: Program, data: bytes) -> list[dict[str, Any]]:
    rows = []
    for tensor, record in zip(program.tensors.values(), _records(data), strict=True):
        rows.append(
            {
                "name": tensor.name,
                "dtype": _dtype(tensor.dtype),
                "shape": list(tensor.shape),
                "region": tensor.region.name.lower(),
                "offset": int(record["offset"]),
                "bytes": int(record["bytes"]),
                "encoding": Encoding(int(record["encoding"])).name.lower(),
                "scale": float(tensor.quant.scale) if tensor.quant else None,
                "zero_point": tensor.quant.zero_point if tensor.quant else None,
                "first_op": int(record["first_op"]),
                "last_op": int(record["last_op"]),
            }
        )
    return rows


def _dtype(dtype: Dtype) -> str:
    return {Dtype.F32: "float32", Dtype.I8: "int8", Dtype.U8: "uint8"}.get(dtype, dtype.name.lower())
