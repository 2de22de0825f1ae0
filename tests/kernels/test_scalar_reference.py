# SPDX-License-Identifier: Apache-2.0
"""The scalar kernels against the NumPy reference: the whole output buffer, bit for bit.

The reference computes the whole tensor; the part that the case's range names replaces the output
buffer's old content, and everything else must be untouched.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit import reference as ref
from edgekit.reference import add, conv, io, layer_norm, lut, matmul, move, mul, pool, prelu, softmax
from kernels.cases import GENERATORS, case
from kernels.harness import Case, Kernel, Machine, compare, first_seed, isolated, scalar_of

VALUES = int(float(os.environ.get("EDGEKIT_KERNEL_VALUES", "1e7")))
SEED = first_seed()


def strided(flat: np.ndarray, shape: Any, strides: Any) -> np.ndarray:
    """A view of a flat array; strides in elements."""
    return np.lib.stride_tricks.as_strided(flat, tuple(shape), tuple(s * flat.itemsize for s in strides))


def image(flat: np.ndarray, i: dict[str, int]) -> np.ndarray:
    """An ek_image as an array [N,H,W,C]."""
    return strided(flat, (i["n"], i["h"], i["w"], i["c"]), (i["n_stride"], i["h_stride"], i["w_stride"], 1))


def clamp(f: dict[str, Any]) -> dict[str, int]:
    """Keyword arguments of the reference."""
    return {"y_zero": f["clamp"]["zero"], "lo": f["clamp"]["lo"], "hi": f["clamp"]["hi"]}


def geometry(f: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the reference's windows."""
    return {
        "out": (f["out"]["h"], f["out"]["w"]),
        "strides": (f["stride_h"], f["stride_w"]),
        "dilations": (f["dilation_h"], f["dilation_w"]),
        "pads": (f["pad_top"], f["pad_left"], f.get("pad_bottom", 0), f.get("pad_right", 0)),
    }


def put_image(c: Case, result: np.ndarray) -> np.ndarray:
    """The output buffer with the range of `result` written into it."""
    expected = c.output.copy()
    out, (row, row_end, col, col_end, ch, ch_end) = image(expected, c.fields["out"]), c.range
    n, h = np.divmod(np.arange(row, row_end), c.fields["out"]["h"])
    out[n, h, col:col_end, ch:ch_end] = result[n, h, col:col_end, ch:ch_end]
    return expected


def put_rows(c: Case, result: np.ndarray) -> np.ndarray:
    """The same for contiguous outputs of rows times channels."""
    expected, (row, row_end, _, _, ch, ch_end) = c.output.copy(), c.range
    flat = result.reshape(-1, result.shape[-1])
    expected.reshape(flat.shape)[row:row_end, ch:ch_end] = flat[row:row_end, ch:ch_end]
    return expected


def put_leading(c: Case, result: np.ndarray) -> np.ndarray:
    """The same for ranges over the first dimension of a contiguous output."""
    expected, (row, row_end) = c.output.copy(), c.range[:2]
    expected.reshape(result.shape)[row:row_end] = result[row:row_end]
    return expected




def conv2d_reference(c: Case) -> np.ndarray:
    f, m = c.fields, c.weights.matrix
    w = m.reshape(-1, f["kernel_h"], f["kernel_w"], f["in"]["c"] // f["groups"])
    bias = c.arrays["start"] + f["x_zero"] * m.sum(axis=2, dtype=np.int64).reshape(-1)
    y = conv.conv2d(
        image(c.inputs[0], f["in"]), w, bias, c.arrays["multiplier"],
        x_zero=f["x_zero"], groups=f["groups"], **clamp(f), **geometry(f),
    )  # fmt: skip
    return put_image(c, y)


def depthwise_reference(c: Case) -> np.ndarray:
    f, m = c.fields, c.weights.matrix
    w = m.reshape(f["kernel_h"], f["kernel_w"], f["out"]["c"])
    bias = c.arrays["start"] + f["x_zero"] * w.sum(axis=(0, 1), dtype=np.int64)
    y = conv.depthwise_conv2d(
        image(c.inputs[0], f["in"]), w, bias, c.arrays["multiplier"],
        x_zero=f["x_zero"], **clamp(f), **geometry(f),
    )  # fmt: skip
    return put_image(c, y)


def matmul_reference(c: Case) -> np.ndarray:
    f = c.fields
    a = c.inputs[0].reshape(f["batch"], f["m"], f["k"])
    b = c.inputs[1].reshape((-1, f["n"], f["k"]) if f["b_transposed"] else (-1, f["k"], f["n"]))
    b = b.swapaxes(1, 2) if f["b_transposed"] else b
    y = matmul.matmul(a, b, np.float32(f["multiplier"]), a_zero=f["a_zero"], b_zero=f["b_zero"], **clamp(f))
    return put_rows(c, y)


def operands(c: Case) -> list[np.ndarray]:
    """Both inputs of an elementwise operator, broadcast."""
    s = c.fields["shape"]
    return [strided(x, s["dims"], s[n]) for x, n in zip(c.inputs, ("a_stride", "b_stride"), strict=True)]


def add_reference(c: Case) -> np.ndarray:
    f = c.fields
    multipliers = np.float32(f["a_multiplier"]), np.float32(f["b_multiplier"])
    y = add.add(*operands(c), *multipliers, a_zero=f["a_zero"], b_zero=f["b_zero"], **clamp(f))
    return put_rows(c, y)


def mul_reference(c: Case) -> np.ndarray:
    f = c.fields
    y = mul.mul(*operands(c), np.float32(f["multiplier"]), a_zero=f["a_zero"], b_zero=f["b_zero"], **clamp(f))
    return put_rows(c, y)


def lut_reference(c: Case) -> np.ndarray:
    return put_rows(c, lut.lut(c.inputs[0], c.arrays["table"]))


def prelu_reference(c: Case) -> np.ndarray:
    f = c.fields
    x = c.inputs[0].reshape(f["rows"], f["c"])
    y = prelu.prelu(x, np.float32(f["multiplier"]), c.arrays["negative"], x_zero=f["x_zero"], **clamp(f))
    return put_rows(c, y)


def softmax_reference(c: Case) -> np.ndarray:
    f = c.fields
    x = c.inputs[0].reshape(f["rows"], f["c"])
    return put_rows(c, softmax.softmax(x, c.arrays["table"], np.float32(f["inverse_scale"]), **clamp(f)))


def layer_norm_reference(c: Case) -> np.ndarray:
    f = c.fields
    x = c.inputs[0].reshape(f["rows"], f["c"])
    return put_rows(c, layer_norm.layer_norm(x, np.float32(f["epsilon"]), c.arrays["gain"], c.arrays["offset"], **clamp(f)))


def max_pool_reference(c: Case) -> np.ndarray:
    f = c.fields
    kernel = f["kernel_h"], f["kernel_w"]
    return put_image(c, pool.max_pool(image(c.inputs[0], f["in"]), kernel=kernel, **geometry(f)))


def average_pool_reference(c: Case) -> np.ndarray:
    f = c.fields
    kernel = f["kernel_h"], f["kernel_w"]
    include = bool(f["count_include_pad"])
    size = f["in"]["h"], f["in"]["w"]
    n = pool.divisors(size, kernel=kernel, count_include_pad=include, **geometry(f))
    m = pool.average_multiplier(n, np.float32(f["x_scale"]), np.float32(f["y_scale"]))
    y = pool.average_pool(
        image(c.inputs[0], f["in"]), m, x_zero=f["x_zero"], kernel=kernel, **clamp(f), **geometry(f)
    )  # fmt: skip
    return put_image(c, y)


def copy_reference(c: Case) -> np.ndarray:
    f, row, row_end = c.fields, *c.range[:2]
    expected = c.output.copy()
    x = c.inputs[0]
    index = np.indices(f["dims"])[:, row:row_end].reshape(f["rank"], -1)
    to = f["out_offset"] + np.tensordot(f["out_stride"], index, 1)
    expected[to] = x[f["in_offset"] + np.tensordot(f["in_stride"], index, 1)]
    return expected


def pad_reference(c: Case) -> np.ndarray:
    f = c.fields
    x = c.inputs[0].reshape(f["in_dims"])
    return put_leading(c, move.pad(x, tuple(f["before"]), f["value"], tuple(f["out_dims"])))


def resize_reference(c: Case) -> np.ndarray:
    rows, cols = c.arrays["row_index"], c.arrays["col_index"]
    return put_image(c, move.resize_nearest(image(c.inputs[0], c.fields["in"]), rows, cols))


def walked(c: Case) -> np.ndarray:
    """The input of quantize, dequantize and raw in the output's order."""
    return strided(c.inputs[0], c.fields["dims"], c.fields["in_stride"])


def quantize_reference(c: Case) -> np.ndarray:
    f = c.fields
    with np.errstate(over="ignore"):
        real = walked(c) / np.float32(f["scale"])
    k = clamp(f)
    return put_leading(c, ref.rounding.saturate(real, k["y_zero"], k["lo"], k["hi"]))


def dequantize_reference(c: Case) -> np.ndarray:
    f = c.fields
    perm = tuple(range(f["rank"]))
    return put_leading(c, io.dequantize(walked(c), np.float32(f["scale"]), f["clamp"]["zero"], perm))


def raw_reference(c: Case) -> np.ndarray:
    f = c.fields
    bytes_in = walked(c) if f["flip"] == 0 else walked(c).view(np.int8)
    table = c.arrays["table"].reshape(-1, 256)
    return put_leading(c, io.look_up_raw(bytes_in, table, f["table_axis"], tuple(range(f["rank"]))))


REFERENCES: dict[str, Callable[[Case], np.ndarray]] = {
    kind: globals()[f"{kind}_reference"] for kind in GENERATORS
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", GENERATORS)
def test_scalar_kernel(kind: str, kernels: list[Kernel]) -> None:
    """The scalar kernel gives the reference's bits on at least VALUES outputs."""
    scalar = scalar_of(kind, kernels)
    print(f"EDGEKIT_SEED={SEED}")

    def work(note):  # type: ignore[no-untyped-def]
        machine, values, seed = Machine(), 0, SEED
        while values < VALUES:
            note(f"{kind}, case {seed} (EDGEKIT_SEED={SEED})")
            c = case(kind, seed)
            compare(scalar, c, machine.run(scalar, c), REFERENCES[kind](c))
            values += c.values
            seed += 1
        return values, seed - SEED

    values, cases = isolated(work)
    print(f"{scalar}: {values} values in {cases} cases")
