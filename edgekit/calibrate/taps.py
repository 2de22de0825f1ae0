# SPDX-License-Identifier: Apache-2.0
"""Runs the float model in ONNX Runtime and shows its inner tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from edgekit.errors import ModelError, first_line
from edgekit.importer.session import shown

TAP_BYTES = 512 * 2**20
"""Inner tensors of one execution that may be held at once; more are tapped in several passes."""


class Taps:
    """The float model with inner tensors as outputs.

    Args:
        model: the float model.
        sizes: ONNX tensors to show, model inputs included -> number of elements, to bound memory.
    """

    def __init__(self, model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
        fed = {i.name for i in model.graph.input}
        self._inputs = [n for n in sizes if n in fed]
        self._groups = list(_chunks([n for n in sizes if n not in fed], sizes)) or [[]]
        self._model = model
        self._open: tuple[int, onnxruntime.InferenceSession] | None = None

    @property
    def passes(self) -> int:
        """How often the data has to be streamed."""
        return len(self._groups)

    def run(self, index: int, inputs: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Executes pass `index` on one batch; name and array of each of its tensors.

        Raises:
            ModelError: ONNX Runtime refuses the model or fails on the batch.
        """
        if index == 0:
            for name in self._inputs:
                yield name, inputs[name]
        group = self._groups[index]
        if not group:
            return
        session = self._session(index)
        try:
            arrays = session.run(group, inputs)
        except Exception as error:  # the runtime's exceptions share no base class
            raise ModelError(f"the float model fails in ONNX Runtime: {first_line(error)}") from error
        yield from zip(group, arrays, strict=True)

    def _session(self, index: int) -> onnxruntime.InferenceSession:
        if self._open is None or self._open[0] != index:
            self._open = None  # the memory of one session at a time
            with shown(self._model, self._groups[index]) as model:
                self._open = index, _session(model)
        return self._open[1]


def _chunks(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    held = 0
    for name in names:
        size = 4 * sizes.get(name, 0)
        if group and held + size > TAP_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Threads that wait for the next layer by spinning take the processor from the histograms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime refuses the float model: {first_line(error)}") from error
