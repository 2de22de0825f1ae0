# SPDX-License-Identifier: Apache-2.0
"""What `bench` can time: each engine loads a file, holds a fixed input, and runs it once when called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.engines import onnx_session
from edgekit.errors import InputError, first_line
from edgekit.runtime.model import Model

Run = Callable[[], object]

SEED = 20


def open_edgekit(path: Path, threads: int, kernels: str) -> Run:
    """The C runtime; the input is what the model declares, float32 or int8."""
    model = Model(path)
    runner = model.bind(threads, kernels)
    for port in model.inputs:
        runner.inputs[port.name][...] = noise(port.shape, port.dtype)
    return runner


def open_onnxruntime(path: Path, threads: int) -> Run:
    """ONNX Runtime over buffers bound once; a `.ekm` is exported to ONNX first."""
    if path.suffix == ".ekm":
        from edgekit.export import spell
        from edgekit.format import reader

        session = onnx_session(spell(reader.read(path)).model.SerializeToString(), threads)
    else:
        session = onnx_session(path, threads)
    binding = session.io_binding()
    held = []  # the binding does not own its inputs
    for port in session.get_inputs():
        shape = tuple(n if isinstance(n, int) else 1 for n in port.shape)
        held.append(noise(shape, np.dtype(_onnx_dtype(port.type))))
        binding.bind_cpu_input(port.name, held[-1])
    for port in session.get_outputs():
        binding.bind_output(port.name)
    run = session.run_with_iobinding

    def once(run: Any = run, binding: Any = binding, held: Any = held) -> None:
        run(binding)

    return once


def open_litert(path: Path, threads: int) -> Run:
    """LiteRT through ai-edge-litert, or tflite-runtime where that is what is installed."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        interpreter = _litert()(model_path=str(path), num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: LiteRT refuses the model: {first_line(error)}") from error
    interpreter.allocate_tensors()
    for port in interpreter.get_input_details():
        interpreter.set_tensor(port["index"], noise(tuple(port["shape"]), np.dtype(port["dtype"])))
    return interpreter.invoke


def peer(spec: str, model: Path, threads: int) -> tuple[str, Callable[[], Run]]:
    """Name and loader of a peer as `--vs` spells it: ENGINE or ENGINE:FILE.

    Raises:
        InputError: the engine is unknown, not installed, or needs a file.
    """
    engine, _, file = spec.partition(":")
    if engine == "edgekit" and file:
        return engine, lambda: open_edgekit(Path(file), threads, "auto")
    if engine == "onnxruntime":
        return engine, lambda: open_onnxruntime(Path(file) if file else model, threads)
    if engine == "litert":
        if not file:
            raise InputError("--vs litert: needs a model, litert:FILE.tflite")
        _litert()
        return engine, lambda: open_litert(Path(file), threads)
    raise InputError(f"--vs {spec}: unknown engine; use onnxruntime[:FILE.onnx], litert:FILE.tflite or edgekit:FILE.ekm")


def _litert() -> Any:
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError:
            continue
    raise InputError("--vs litert: LiteRT is not installed: pip install 'edgekit[bench]'")


def _onnx_dtype(text: str) -> str:
    """numpy's name for `tensor(float)`."""
    name = text.removeprefix("tensor(").removesuffix(")")
    if name == "string":
        raise InputError("ONNX Runtime: the model takes text, which is not timed; use a model that takes numbers")
    return {"float": "float32", "double": "float64"}.get(name, name)


def noise(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(max(limits.min, -128), min(limits.max, 255), shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)
