# SPDX-License-Identifier: Apache-2.0
"""Brings opset, types and input shapes to what edgekit computes with: float32, static."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from edgekit.errors import ModelError
from edgekit.importer.check import (
    FLOAT_TYPES,
    MAX_OPSET,
    MAX_RANK,
    MAX_TENSOR_ELEMENTS,
    all_tensors,
    element_count,
    opset_of,
)
from edgekit.importer.session import newest_opset

OTHER_FLOATS = tuple(t for t in FLOAT_TYPES if t != TensorProto.FLOAT)
INTEGERS = (
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16,
    TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64, TensorProto.UINT64,
)  # fmt: skip
SETTLED_OPSET = 21
"""Up to here every ONNX Runtime of the last years is complete."""
TYPE_ATTRIBUTES = ("to", "dtype", "stash_type", "output_dtype")


def to_float32(path: Path, model: onnx.ModelProto, warnings: list[str]) -> None:
    """Turns a half, bfloat16 or double precision model into float32, and integer inputs that are only
    cast to float into float inputs.

    Raises:
        ModelError: a weight does not fit binary32, or an input has a type that cannot be used.
    """
    for port in model.graph.input:
        _accept_integers(path, model.graph, port, warnings)
    found = sorted({t.data_type for _, t in all_tensors(model) if t.data_type in OTHER_FLOATS})
    found += [
        p.type.tensor_type.elem_type
        for p in model.graph.input
        if p.type.tensor_type.elem_type in OTHER_FLOATS
    ]
    for name, tensor in all_tensors(model):
        if tensor.data_type in OTHER_FLOATS:
            _convert_tensor(path, name, tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in TYPE_ATTRIBUTES and attribute.i in OTHER_FLOATS:
                attribute.i = TensorProto.FLOAT
    for port in (*model.graph.input, *model.graph.output):
        if port.type.tensor_type.elem_type in OTHER_FLOATS:
            port.type.tensor_type.elem_type = TensorProto.FLOAT
    if found:
        names = ", ".join(sorted({TensorProto.DataType.Name(t).lower() for t in found}))
        warnings.append(f"{path}: {names} data is converted to float32")


def _convert_tensor(path: Path, name: str, tensor: TensorProto) -> None:
    with np.errstate(over="ignore"):
        before = onnx.numpy_helper.to_array(tensor)
        after = before.astype(np.float32)
    if np.isinf(after).any() and not np.isinf(before.astype(np.float64)).any():
        raise ModelError(f"{path}: {name} holds numbers beyond float32; scale the model's weights")
    tensor.CopyFrom(onnx.numpy_helper.from_array(after, tensor.name))


def _accept_integers(
    path: Path, graph: onnx.GraphProto, port: onnx.ValueInfoProto, warnings: list[str]
) -> None:
    """An integer input is fine where every reader casts it to float first: the casts go."""
    element = port.type.tensor_type.elem_type
    if element in FLOAT_TYPES:
        return
    type_name = TensorProto.DataType.Name(element).lower()
    readers = [n for n in graph.node if port.name in n.input]
    casts = readers and all(
        n.op_type == "Cast" and any(a.name == "to" and a.i in FLOAT_TYPES for a in n.attribute)
        for n in readers
    )
    if element not in INTEGERS or not casts:
        raise ModelError(
            f"{path}: input '{port.name}' is {type_name}; export the model with a float32 input, "
            "raw integer data is handled by --input-mean and --input-std"
        )
    port.type.tensor_type.elem_type = TensorProto.FLOAT
    warnings.append(
        f"{path}: input '{port.name}' is {type_name} and cast to float at once; it becomes a float32 input"
    )


def lower_opset(path: Path, model: onnx.ModelProto) -> None:
    """Declares the oldest opset, from SETTLED_OPSET on, in which the model means the same.

    ONNX Runtime lags behind ONNX, and it expands operators that ONNX defines by others (Swish) in the
    opset that brought them only.

    Raises:
        ModelError: a node needs a definition that ONNX Runtime does not have yet.
    """
    declared = opset_of(model)
    if declared <= SETTLED_OPSET:
        return
    newest, needed = newest_opset(MAX_OPSET), SETTLED_OPSET
    for node in model.graph.node:
        if node.domain or not onnx.defs.has(node.op_type, declared, ""):
            continue
        since = onnx.defs.get_schema(node.op_type, declared, "").since_version
        needed = max(needed, since)
        if since > newest:
            raise ModelError(
                f"{path}: node '{node.name}' ({node.op_type}) has its meaning of opset {since}, ONNX Runtime "
                f"{onnxruntime.__version__} knows opset {newest}; export the model with opset_version=17"
            )
    for opset in model.opset_import:
        opset.version = needed if opset.domain == "" else opset.version


def pin_inputs(
    path: Path, graph: onnx.GraphProto, input_shapes: Mapping[str, Sequence[int]], warnings: list[str]
) -> None:
    """Gives every input a static shape and forgets all other shapes.

    Raises:
        ModelError: a dimension stays open, or `input_shapes` does not fit the model.
    """
    names = [p.name for p in graph.input]
    for name in input_shapes:
        if name not in names:
            raise ModelError(
                f"{path}: no input '{name}' to give a shape to; the inputs are {', '.join(names)}"
            )
    for port in graph.input:
        shape = _pinned(path, port, input_shapes.get(port.name), warnings)
        if element_count(shape) > MAX_TENSOR_ELEMENTS:
            raise ModelError(
                f"{path}: input '{port.name}' of shape {shape} exceeds {MAX_TENSOR_ELEMENTS} elements"
            )
        _set_shape(port, shape)
    del graph.value_info[:]
    for port in graph.output:
        port.type.tensor_type.ClearField("shape")


def _pinned(
    path: Path, port: onnx.ValueInfoProto, wanted: Sequence[int] | None, warnings: list[str]
) -> list[int]:
    declared = port.type.tensor_type.shape.dim if port.type.tensor_type.HasField("shape") else None
    if declared is not None and len(declared) > MAX_RANK:
        raise ModelError(f"{path}: input '{port.name}' has {len(declared)} dimensions, more than {MAX_RANK}")
    dims = (
        None
        if declared is None
        else [d.dim_value if d.HasField("dim_value") else d.dim_param for d in declared]
    )
    if wanted is not None:
        _check_wanted(path, port.name, list(wanted), dims)
        return [int(n) for n in wanted]
    if dims is None:
        raise ModelError(
            f"{path}: input '{port.name}' has no shape; give it, as in --input-shape {port.name}=1,3,224,224"
        )
    if len(dims) > 1 and isinstance(dims[0], str):
        warnings.append(f"{path}: batch dimension '{dims[0]}' of input '{port.name}' is set to 1")
        dims[0] = 1
    open_dims = [d for d in dims if isinstance(d, str) or d <= 0]
    if open_dims:
        spelled = ",".join(str(d) if isinstance(d, int) and d > 0 else "N" for d in dims)
        raise ModelError(
            f"{path}: dimension {open_dims[0]!r} of input '{port.name}' is not a positive number; "
            f"give the shape, as in --input-shape {port.name}={spelled} with numbers for N"
        )
    return dims


def _check_wanted(path: Path, name: str, wanted: list[int], dims: list[int | str] | None) -> None:
    text = ",".join(map(str, wanted))
    if not wanted or any(n < 1 for n in wanted) or len(wanted) > MAX_RANK:
        raise ModelError(f"{path}: shape {text} for input '{name}' must be positive numbers")
    if dims is None:
        return
    fits = len(dims) == len(wanted) and all(
        isinstance(d, str) or d <= 0 or d == n for d, n in zip(dims, wanted, strict=True)
    )
    if not fits:
        declared = ",".join(str(d) if d != "" else "?" for d in dims)
        raise ModelError(
            f"{path}: shape {text} for input '{name}' contradicts the model's {declared}; "
            "only symbolic dimensions can be given"
        )


def _set_shape(port: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    dims = port.type.tensor_type.shape
    dims.Clear()
    for n in shape:
        dims.dim.add().dim_value = n
    if not shape:
        port.type.tensor_type.shape.SetInParent()
