# SPDX-License-Identifier: Apache-2.0
"""Operators that move values and compute none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from edgekit.importer.context import Context, OnnxNode, permuted
from edgekit.importer.registry import Unsupported, handler

FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
)


def _reshape(ctx: Context, node: OnnxNode) -> None:
    """The output's static shape says it all."""
    ctx.give(node.output, "Reshape", [ctx.take(node.inputs[0])])


handler("Reshape", becomes="Reshape")(_reshape)
handler("Flatten", becomes="Reshape")(_reshape)
handler("Squeeze", becomes="Reshape")(_reshape)
handler("Unsqueeze", becomes="Reshape")(_reshape)


@handler("Identity", becomes="nothing")
def identity(ctx: Context, node: OnnxNode) -> None:
    ctx.alias(node.output, ctx.take(node.inputs[0]))


@handler("Dropout", becomes="nothing", restrictions="inference mode")
def dropout(ctx: Context, node: OnnxNode) -> None:
    training = ctx.constant(node.input(2))
    if (len(node.outputs) > 1 and node.outputs[1]) or (training is not None and training.any()):
        raise Unsupported("it is in training mode", "export the model in inference mode (model.eval())")
    identity(ctx, node)


@handler("Cast", becomes="nothing", restrictions="float to float")
def cast(ctx: Context, node: OnnxNode) -> None:
    if node.attrs.get("to") not in FLOATS:
        name = onnx.TensorProto.DataType.Name(int(node.attrs.get("to", 0)))
        raise Unsupported(f"it turns computed values into {name}", "keep the data path in float32")
    identity(ctx, node)


@handler("Transpose", becomes="Transpose")
def transpose(ctx: Context, node: OnnxNode) -> None:
    x, y = node.inputs[0], node.output
    perm = tuple(node.attrs.get("perm", range(ctx.rank(x))[::-1]))
    if sorted(perm) != list(range(ctx.rank(x))):
        raise Unsupported(
            f"perm {list(perm)} does not fit {ctx.rank(x)} dimensions", "export the model again"
        )
    if list(perm) == sorted(perm):
        identity(ctx, node)
        return
    ctx.give(y, "Transpose", [ctx.take(x)], {"perm": perm})


@handler("Concat", becomes="Concat")
def concat(ctx: Context, node: OnnxNode) -> None:
    inputs = [t for t in node.inputs if 0 not in ctx.shape(t)]
    if len(inputs) == 1:
        ctx.alias(node.output, ctx.take(inputs[0]))
        return
    axis = int(node.attrs["axis"]) % ctx.rank(node.output)
    ctx.give(node.output, "Concat", [ctx.take(t) for t in inputs], {"axis": axis})


@handler("Split", becomes="Slice, one per output", restrictions="sizes are constant")
def split(ctx: Context, node: OnnxNode) -> None:
    """The outputs' static shapes are the sizes, however they were given."""
    x = node.inputs[0]
    axis = int(node.attrs.get("axis", 0)) % ctx.rank(x)
    start = 0
    sizes = _split_sizes(ctx, node, ctx.shape(x)[axis])
    for output, size in zip(node.outputs, sizes, strict=True):
        if output:
            starts = [0] * ctx.rank(x)
            starts[axis] = start
            _give_slice(ctx, x, output, starts, [1] * ctx.rank(x))
        start += size


def _split_sizes(ctx: Context, node: OnnxNode, total: int) -> list[int]:
    if node.opset >= 13 and node.input(1):
        return [int(s) for s in ctx.require_constant(node.inputs[1], "split sizes")]
    if node.opset < 13 and "split" in node.attrs:
        return list(node.attrs["split"])
    size = math.ceil(total / len(node.outputs))
    return [size] * len(node.outputs)


def _give_slice(ctx: Context, x: str, y: str, starts: Sequence[int], steps: Sequence[int]) -> None:
    if ctx.shape(x) == ctx.shape(y) and all(step > 0 for step in steps):
        ctx.alias(y, ctx.take(x))
        return
    ctx.give(y, "Slice", [ctx.take(x)], {"starts": tuple(starts), "steps": tuple(steps)})


@handler("Slice", becomes="Slice", restrictions="starts, ends, axes and steps are constants")
def slice_(ctx: Context, node: OnnxNode) -> None:
    x, y = node.inputs[0], node.output
    starts, steps = [0] * ctx.rank(x), [1] * ctx.rank(x)
    for axis, start, end, step in zip(*_slice_arguments(ctx, node), strict=True):
        size = ctx.shape(x)[axis]
        # slice.indices clamps exactly as ONNX does, with end = -size - 1 for "to the first" going down.
        starts[axis], _, steps[axis] = slice(start, end, step).indices(size)
    _give_slice(ctx, x, y, starts, steps)


def _slice_arguments(ctx: Context, node: OnnxNode) -> tuple[list[int], ...]:
    """axes, starts, ends, steps; attributes before opset 10, inputs since."""
    if node.opset < 10:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        axes = list(node.attrs.get("axes", range(len(starts))))
        steps = [1] * len(starts)
    else:
        roles = ("starts", "ends", "axes", "steps")
        given = [
            ctx.require_constant(t, r) if t else None for t, r in zip(node.inputs[1:], roles, strict=False)
        ]
        given += [None] * (4 - len(given))
        starts, ends = ([int(v) for v in data.reshape(-1)] for data in given[:2] if data is not None)
        axes = list(range(len(starts))) if given[2] is None else [int(v) for v in given[2].reshape(-1)]
        steps = [1] * len(starts) if given[3] is None else [int(v) for v in given[3].reshape(-1)]
    rank = ctx.rank(node.inputs[0])
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(not -rank <= a < rank for a in axes):
        raise Unsupported("starts, ends, axes and steps do not fit", "export the model again")
    if 0 in steps:
        raise Unsupported("a step is 0", "export the model again")
    return [a % rank for a in axes], starts, ends, steps


@handler(
    "Pad",
    becomes="Pad; Slice where a pad is negative",
    restrictions="mode constant; pads and value are constants",
)
def pad(ctx: Context, node: OnnxNode) -> None:
    x, y = node.inputs[0], node.output
    mode = node.attrs.get("mode", "constant")
    if mode != "constant":
        raise Unsupported(f"mode '{mode}' is not supported", "pad with zeros (mode='constant')")
    before, after, value = _pad_arguments(ctx, node)
    inside = [n + min(b, 0) + min(a, 0) for n, b, a in zip(ctx.shape(x), before, after, strict=True)]
    if min(inside, default=1) < 1:
        raise Unsupported("negative pads leave nothing", "export the model again")
    cropped = tuple(inside) != ctx.shape(x)
    before_pad, after_pad = (tuple(max(n, 0) for n in side) for side in (before, after))
    slice_attrs = {"starts": tuple(max(-b, 0) for b in before), "steps": (1,) * len(before)}
    pad_attrs = {"before": before_pad, "after": after_pad, "value": value}
    if cropped and not any(before_pad + after_pad):
        ctx.give(y, "Slice", [ctx.take(x)], slice_attrs)
    elif any(before_pad + after_pad):
        source = ctx.step("Slice", [ctx.take(x)], inside, slice_attrs) if cropped else ctx.take(x)
        ctx.give(y, "Pad", [source], pad_attrs)
    else:
        ctx.alias(y, ctx.take(x))


def _pad_arguments(ctx: Context, node: OnnxNode) -> tuple[list[int], list[int], float]:
    """Pads before and after, per dimension, and the value; attributes before opset 11, inputs since."""
    rank = ctx.rank(node.inputs[0])
    axes = list(range(rank))
    if node.opset < 11:
        pads, value = list(node.attrs["pads"]), float(node.attrs.get("value", 0.0))
    else:
        pads = [int(p) for p in ctx.require_constant(node.inputs[1], "pads").reshape(-1)]
        value = 0.0
        if node.input(2):
            value = float(ctx.require_constant(node.inputs[2], "value").reshape(-1)[0])
        if node.input(3):
            axes = [int(a) % rank for a in ctx.require_constant(node.inputs[3], "axes").reshape(-1)]
    if len(pads) != 2 * len(axes):
        raise Unsupported(f"{len(pads)} pads for {len(axes)} dimensions", "export the model again")
    if not math.isfinite(value):
        raise Unsupported(f"it pads with {value}", "pad with a finite number, or use the pads of MaxPool")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    return before, after, value


@handler("Expand", becomes="Concat", restrictions="a dimension grows at most 64-fold")
def expand(ctx: Context, node: OnnxNode) -> None:
    shape = ctx.shape(node.output)
    source = (1,) * (len(shape) - ctx.rank(node.inputs[0])) + ctx.shape(node.inputs[0])
    _repeat(ctx, node, source, [o // i for i, o in zip(source, shape, strict=True)])


@handler("Tile", becomes="Concat", restrictions="at most 64 repeats of a dimension")
def tile(ctx: Context, node: OnnxNode) -> None:
    source = ctx.shape(node.inputs[0])
    _repeat(ctx, node, source, [o // i for i, o in zip(source, ctx.shape(node.output), strict=True)])


MAX_REPEATS = 64


def _repeat(ctx: Context, node: OnnxNode, source: Sequence[int], repeats: Sequence[int]) -> None:
    value, shape = ctx.take(node.inputs[0], shape=source), list(source)
    axes = [i for i, n in enumerate(repeats) if n > 1]
    if not axes:
        ctx.alias(node.output, value)
        return
    last = axes[-1]
    value = repeated(ctx, value, shape, [n if i != last else 1 for i, n in enumerate(repeats)])
    _check_repeats(repeats[last])
    ctx.give(node.output, "Concat", [value] * repeats[last], {"axis": last})


def repeated(ctx: Context, value: str, shape: Sequence[int], repeats: Sequence[int]) -> str:
    """Concatenates copies of `value`, one dimension after the other."""
    sizes = list(shape)
    for axis, count in enumerate(repeats):
        if count > 1:
            _check_repeats(count)
            sizes[axis] *= count
            value = ctx.step("Concat", [value] * count, sizes, {"axis": axis})
    return value


def _check_repeats(count: int) -> None:
    if count > MAX_REPEATS:
        raise Unsupported(f"it repeats a dimension {count} times", f"repeat at most {MAX_REPEATS} times")


@handler("DepthToSpace", becomes="Reshape, Transpose, Reshape")
def depth_to_space(ctx: Context, node: OnnxNode) -> None:
    """Mode DCR: depth is (block, block, channel); CRD: (channel, block, block)."""
    n, c, h, w = ctx.shape(node.inputs[0])
    b = int(node.attrs["blocksize"])
    if node.attrs.get("mode", "DCR") == "DCR":
        split_shape, perm = (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2)
    else:
        split_shape, perm = (n, c // (b * b), b, b, h, w), (0, 1, 4, 2, 5, 3)
    _shuffle(ctx, node, split_shape, perm)


@handler("SpaceToDepth", becomes="Reshape, Transpose, Reshape")
def space_to_depth(ctx: Context, node: OnnxNode) -> None:
    n, c, h, w = ctx.shape(node.inputs[0])
    b = int(node.attrs["blocksize"])
    _shuffle(ctx, node, (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4))


def _shuffle(ctx: Context, node: OnnxNode, split_shape: Sequence[int], perm: Sequence[int]) -> None:
    value = ctx.take(node.inputs[0], shape=split_shape)
    moved = ctx.step("Transpose", [value], permuted(split_shape, tuple(perm)), {"perm": tuple(perm)})
    ctx.give(node.output, "Reshape", [moved])


@handler(
    "Gather", becomes="Slice; Concat of Slices", restrictions="indices are constants, in at most 64 runs"
)
def gather(ctx: Context, node: OnnxNode) -> None:
    x, y = node.inputs[0], node.output
    axis = int(node.attrs.get("axis", 0)) % ctx.rank(x)
    size = ctx.shape(x)[axis]
    indices = ctx.require_constant(node.inputs[1], "indices").reshape(-1)
    if ((indices < -size) | (indices >= size)).any() or not indices.size:
        raise Unsupported("an index is outside the tensor", "export the model again")
    runs = _runs([int(i) % size for i in indices])
    if len(runs) > MAX_REPEATS:
        raise Unsupported(
            f"its indices form {len(runs)} runs", f"gather at most {MAX_REPEATS} evenly spaced runs"
        )
    parts = []
    for start, step, count in runs:
        shape, starts, steps = list(ctx.shape(x)), [0] * ctx.rank(x), [1] * ctx.rank(x)
        shape[axis], starts[axis], steps[axis] = count, start, step
        parts.append(
            ctx.step("Slice", [ctx.take(x)], shape, {"starts": tuple(starts), "steps": tuple(steps)})
        )
    if len(parts) == 1:
        ctx.give(y, "Reshape", parts)
        return
    view = list(ctx.shape(x))
    view[axis] = indices.size
    ctx.give(y, "Concat", parts, {"axis": axis}, shape=view)


def _runs(indices: Sequence[int]) -> list[tuple[int, int, int]]:
    """Cuts indices into (start, step, count) with a step other than 0, greedily."""
    runs: list[tuple[int, int, int]] = []
    i = 0
    while i < len(indices):
        step = indices[i + 1] - indices[i] if i + 1 < len(indices) else 1
        count = 1
        while step and i + count < len(indices) and indices[i + count] - indices[i + count - 1] == step:
            count += 1
        runs.append((indices[i], step or 1, count))
        i += count
    return runs
