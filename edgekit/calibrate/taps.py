# SPDX-License-Identifier: Apache-2.0
"""Runs the float model in ONNX Runtime and shows its inner tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from edgekit.data import Batch
from edgekit.errors import ModelError, first_line
from edgekit.importer.session import FloatModel, Session
from edgekit.memory import give_back
from edgekit.parallel import ahead, processors

TAP_BYTES = 512 * 2**20
"""Inner tensors that may be held at once; what one execution has more is tapped in several passes."""
MAX_AT_ONCE = 8
"""Executions that run at once: one thread that looks at the results keeps up with about as many."""
LARGE_THREADS = 4
"""Of an execution with so large inner tensors that no second one fits beside it. Not as many as there are processors: how
a sum is shared out between threads can decide its last bits."""

Tensors = Iterator[tuple[str, np.ndarray]]
"""Name and array of each tapped tensor of one execution."""


class Taps:
    """The float model with inner tensors as outputs.

    Args:
        model: the float model.
        sizes: ONNX tensors to show, model inputs included -> number of elements, to bound memory.
    """

    def __init__(self, model: onnx.ModelProto | FloatModel, sizes: Mapping[str, int]) -> None:
        self._model = FloatModel.of(model)
        fed = {i.name for i in self._model.light.graph.input}
        self._inputs = [n for n in sizes if n in fed]
        self._groups = list(_chunks([n for n in sizes if n not in fed], sizes)) or [[]]
        fitting = _fitting(max(sum(4 * sizes[n] for n in group) for group in self._groups))
        self._at_once = min(processors(), fitting)
        self._threads = 1 if fitting > 1 else LARGE_THREADS
        self._open: tuple[int, Session] | None = None

    @property
    def passes(self) -> int:
        """How often the data has to be streamed."""
        return len(self._groups)

    def run(self, index: int, inputs: dict[str, np.ndarray]) -> Tensors:
        """Executes pass `index` on one batch.

        Raises:
            ModelError: ONNX Runtime refuses the model or fails on the batch.
        """
        yield from self._named(index, inputs, self._execute(index, inputs))

    def stream(self, index: int, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensors]]:
        """`run` for each batch in their order. Where they fit TAP_BYTES, later ones are executed meanwhile.

        Raises:
            DataError, ModelError: from `batches`, and as `run` does.
        """
        if self._groups[index]:
            self._session(index)  # before threads ask for it

        def execute(batch: Batch) -> list[np.ndarray]:
            return self._execute(index, batch.inputs)

        for batch, arrays in ahead(execute, batches, self._at_once):
            yield batch, self._named(index, batch.inputs, arrays)

    def _named(self, index: int, inputs: dict[str, np.ndarray], arrays: list[np.ndarray]) -> Tensors:
        if index == 0:
            for name in self._inputs:
                yield name, inputs[name]
        arrays.reverse()
        for name in self._groups[index]:
            yield name, arrays.pop()  # the memory of what was looked at is free for the next execution

    def _execute(self, index: int, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if not self._groups[index]:
            return []
        session = self._session(index)
        try:
            return session.run(self._groups[index], inputs)
        except Exception as error:  # the runtime's exceptions share no base class
            raise ModelError(f"the float model fails in ONNX Runtime: {first_line(error)}") from error

    def _session(self, index: int) -> Session:
        if self._open is None or self._open[0] != index:
            self._open = None  # the memory of one session at a time
            self._open = index, _session(self._model, self._groups[index], self._threads)
            give_back()  # what preparing it took, before executions take theirs
        return self._open[1]


def _fitting(size: int) -> int:
    """How many executions with `size` bytes of inner tensors may run at once, if there are processors for them."""
    return max(min(MAX_AT_ONCE, TAP_BYTES // max(size, 1)), 1)


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


def _session(model: FloatModel, outputs: Sequence[str], threads: int) -> Session:
    """A session whose executions have so many threads each."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False  # one block for all tensors of a run, beside the blocks of the first run
    # Threads that wait for the next layer by spinning take the processor from the histograms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return model.session(options, outputs)
    except Exception as error:  # the runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime refuses the float model: {first_line(error)}") from error
