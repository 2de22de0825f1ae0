# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the exported model: a copy that also outputs every 8-bit tensor, and the model as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.atomic import write_atomically
from edgekit.errors import CheckError, first_line
from edgekit.export import Exported, spell
from edgekit.format.schema import Dtype
from edgekit.program import Program, Quantize
from edgekit.reference import io
from edgekit.verify.backends.base import Arrays, Backend, Observation, Sample, Subject


class OnnxRuntime(Backend):
    name = "onnxruntime"

    def __init__(self, subject: Subject) -> None:
        self._program = subject.program

    def available(self) -> str | None:
        return None if find_spec("onnxruntime") else "onnxruntime is not installed: pip install onnxruntime"

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        exported = spell(self._program)
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            default = _session(exported.model, Path(folder) / "model.onnx")
            tapped = _session(tap(exported), Path(folder) / "tapped.onnx")
            for sample in samples:
                feed = real_inputs(self._program, sample)
                shown = dict(zip((o.name for o in tapped.get_outputs()), tapped.run(None, feed), strict=True))
                names = [o.name for o in default.get_outputs()]
                yield Observation(
                    self._tensors(exported, shown),
                    {
                        "tapped copy": self._outputs({name: shown[name] for name in names}),
                        "default session": self._outputs(
                            dict(zip(names, default.run(None, feed), strict=True))
                        ),
                    },
                )

    def _tensors(self, exported: Exported, shown: Arrays) -> Arrays:
        """The program's tensors in the program's layout: `onnx_array = tensor.transpose(perm)`."""
        tensors = {}
        for tensor in self._program.quantized():
            placement = exported.placements[tensor.name]
            tensors[tensor.name] = shown[placement.name].transpose(np.argsort(placement.perm))
        return tensors

    def _outputs(self, outputs: Arrays) -> Arrays:
        """Outputs as the program declares them; where those are int8, the float interface is undone exactly."""
        return {name: _as_declared(self._program, name, array) for name, array in outputs.items()}


def tap(exported: Exported) -> onnx.ModelProto:
    """A copy of the exported model that also outputs every 8-bit tensor of the program."""
    copy = onnx.ModelProto()
    copy.CopyFrom(exported.model)
    for name in sorted({p.name for p in exported.placements.values()}):
        copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT8, None))
    return copy


def real_inputs(program: Program, sample: Sample) -> Arrays:
    """The float32 inputs that stand for `sample`.

    Raw or quantized data becomes the real numbers of its int8 values; quantizing those gives the same
    values back, because `f32(f32(d * s) / s)` is within 2^-15 of the integer d below 2^8.
    """
    quantize = {op.inputs[0]: op for op in program.ops if isinstance(op, Quantize)}
    feed = {}
    for name in program.inputs:
        array, op = sample[name], quantize.get(name)
        if array.dtype == np.float32:
            feed[name] = array
        elif op is not None:
            assert op.raw_table is not None and op.raw_perm is not None
            q = io.look_up_raw(array, op.raw_table, op.table_axis, op.raw_perm)
            feed[name] = _real(program, op.outputs[0], q).transpose(np.argsort(op.perm))
        else:
            feed[name] = _real(program, name, array)
    return feed


def _real(program: Program, tensor: str, q: np.ndarray) -> np.ndarray:
    quant = program.tensors[tensor].quant
    assert quant is not None
    return io.dequantize(q, quant.scale, quant.zero_point, tuple(range(q.ndim)))


def _as_declared(program: Program, name: str, array: np.ndarray) -> np.ndarray:
    tensor = program.tensors[name]
    if tensor.dtype == Dtype.F32:
        return array
    assert tensor.quant is not None
    return io.quantize(array, tensor.quant.scale, tensor.quant.zero_point, tuple(range(array.ndim)))


def _session(model: onnx.ModelProto, path: Path) -> Any:
    """A default session of the model stored at `path`: no option is set, as any user would open it."""
    import onnxruntime

    write_atomically(path, model.SerializeToString())
    try:
        return onnxruntime.InferenceSession(str(path))
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = first_line(error)
        raise CheckError(
            f"onnxruntime {onnxruntime.__version__} cannot open the exported model: {reason}"
        ) from error
