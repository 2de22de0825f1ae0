# SPDX-License-Identifier: Apache-2.0
"""Model inputs and outputs, and what the executor refuses."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit import program as p
from edgekit.errors import DataError
from edgekit.format.schema import Dtype
from edgekit.reference.executor import raw_shape, run
from tests.support import Build, quant

NHWC_OF_NCHW = (0, 2, 3, 1)


def image_program(**raw: object) -> p.Program:
    """float NCHW in, float NCHW out; nothing in between."""
    b = Build()
    x = b.float_input((1, 3, 2, 4), quant(0.5, -7), perm=NHWC_OF_NCHW, **raw)
    b.float_output(x, perm=(0, 3, 1, 2))
    return b.finish()


def test_layout_changes_at_the_interface_and_back() -> None:
    program = image_program()
    x = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4) / 2
    outputs, tensors = run(program, {program.inputs[0]: x}, taps=True)
    np.testing.assert_array_equal(outputs[program.outputs[0]], x)
    (q,) = (tensors[t.name] for t in program.quantized())
    np.testing.assert_array_equal(q, (x.transpose(NHWC_OF_NCHW) * 2 - 7).astype(np.int8))


def test_quantize_divides_and_saturates() -> None:
    """In binary32, 66.15 / 0.7 is 94.5, a tie to 94, and 66.15 * (1 / 0.7) is above it: 95."""
    b = Build()
    x = b.float_input((9,), quant(0.7, 5))
    program = b.finish(x)
    values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 66.15, 0.35, -0.35], np.float32)
    expected = [-128, 127, -128, 127, -128, 5, 94 + 5, 5, 5]
    np.testing.assert_array_equal(run(program, {program.inputs[0]: values})[x], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_raw_data_goes_through_a_table_per_channel(dtype: type) -> None:
    rng = np.random.default_rng(3)
    table = rng.integers(-128, 128, (3, 256)).astype(np.int8)
    program = image_program(
        raw_dtype=Dtype.U8 if dtype == np.uint8 else Dtype.I8,
        raw_perm=(0, 1, 2, 3),
        raw_table=table,
        table_axis=3,
    )
    op = program.ops[0]
    assert raw_shape(program, op) == (1, 2, 4, 3)
    raw = rng.integers(0, 256, (1, 2, 4, 3)).astype(np.uint8).view(dtype)
    _, tensors = run(program, {program.inputs[0]: raw}, taps=True)
    offset = 128 if dtype == np.int8 else 0
    for at in np.ndindex(raw.shape):
        assert tensors[op.outputs[0]][at] == table[at[3], int(raw[at]) + offset]


def test_one_table_serves_all_channels() -> None:
    table = np.arange(256).astype(np.uint8).view(np.int8)[None]
    program = image_program(raw_dtype=Dtype.U8, raw_perm=NHWC_OF_NCHW, raw_table=table)
    raw = np.arange(24, dtype=np.uint8).reshape(1, 3, 2, 4)
    _, tensors = run(program, {program.inputs[0]: raw}, taps=True)
    np.testing.assert_array_equal(tensors[program.ops[0].outputs[0]], raw.transpose(NHWC_OF_NCHW))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((1, 3, 2, 5), np.float32),
            r"float32 \[1, 3, 2, 5\]; the model takes float32 \[1, 3, 2, 4\]",
        ),
        (np.zeros((1, 3, 2, 4), np.float64), "is float64"),
        (np.zeros((1, 3, 2, 4), np.uint8), "is uint8"),
    ],
)
def test_wrong_inputs_are_refused(array: np.ndarray, message: str) -> None:
    program = image_program()
    with pytest.raises(DataError, match=message):
        run(program, {program.inputs[0]: array})


def test_a_missing_input_is_named() -> None:
    with pytest.raises(DataError, match="input 'input0' is missing"):
        run(image_program(), {})
