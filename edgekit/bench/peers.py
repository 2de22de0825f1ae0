# SPDX-License-Identifier: Apache-2.0
"""What `bench` can time: each engine loads a file, holds a fixed input, and runs it once when called."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.environments import PEERS, Peer
from edgekit.data import npz_bytes
from edgekit.engines import onnx_session
from edgekit.errors import InputError, first_line
from edgekit.runtime.model import Model

Run = Callable[[], object]

SEED = 20
CALIBRATION = 8
"""Samples of noise from which a peer takes its ranges."""


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
        held.append(noise(_shape(port), _dtype(port)))
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


@dataclass(frozen=True)
class IsolatedModel:
    """A float ONNX model and the peer that runs it, in int8 as that peer makes it, in its own environment."""

    peer: Peer
    model: Path

    def prepare(self, stack: ExitStack) -> tuple[Path, Path]:
        """The peer's model and the input for it, in a folder that `stack` removes. Noise calibrates: it tells the
        time, not how accurate the result is.

        Raises:
            PeerError: the peer refuses the model.
            ModelError: ONNX Runtime does.
        """
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-bench-")))
        ports = [(port.name, _shape(port), _dtype(port)) for port in onnx_session(self.model).get_inputs()]
        if any(dtype != np.float32 for _, _, dtype in ports):
            raise InputError(f"--vs {self.peer.name}: {self.model} has inputs that are not float32")
        one = {name: noise(shape, dtype) for name, shape, dtype in ports}
        many = {name: noise((CALIBRATION, *shape), dtype) for name, shape, dtype in ports}
        (folder / "input.npz").write_bytes(npz_bytes(one))
        (folder / "samples.npz").write_bytes(npz_bytes(many))
        with self.peer.maker() as maker:
            made = maker.request(
                "prepare", model=str(self.model.resolve()), samples=str(folder / "samples.npz"),
                folder=str(folder / "model"), recipe=self.peer.recipes[0],
            )  # fmt: skip
        return Path(made["file"]), folder / "input.npz"


def peer(spec: str, model: Path, threads: int) -> tuple[str, Callable[[], Run] | IsolatedModel]:
    """Name and loader of a peer as `--vs` spells it: ENGINE or ENGINE:FILE.

    Raises:
        InputError: the engine is unknown, not installed, or needs a file.
    """
    engine, _, file = spec.partition(":")
    if engine == "edgekit" and file:
        return engine, lambda: open_edgekit(Path(file), threads, "auto")
    if engine == "onnxruntime":
        return engine, lambda: open_onnxruntime(Path(file) if file else model, threads)
    if engine == "litert" and Path(file).suffix != ".onnx":
        if not file:
            raise InputError("--vs litert: needs a model, litert:FILE.tflite, or litert:FILE.onnx to make one")
        _litert()
        return engine, lambda: open_litert(Path(file), threads)
    if engine in PEERS:
        return engine, _isolated(PEERS[engine], Path(file) if file else model)
    others = ", ".join(f"{name}[:FILE.onnx]" for name in PEERS if name not in ("onnxruntime", "litert"))
    raise InputError(
        f"--vs {spec or repr(spec)}: {'unknown' if engine else 'names no'} engine; use onnxruntime[:FILE.onnx], litert:FILE.tflite, edgekit:FILE.ekm, {others}"
    )


def _isolated(peer: Peer, model: Path) -> IsolatedModel:
    if model.suffix != ".onnx":
        beside = model.with_suffix(".onnx")
        float_model = beside if beside.is_file() else "FILE.onnx"
        raise InputError(
            f"--vs {peer.name}: {model} is edgekit's; a peer makes its own int8 model of the float one: give "
            f"--vs {peer.name}:{float_model}"
        )
    if not model.is_file():
        raise InputError(f"{model}: no such file")
    if not peer.installed:
        raise InputError(
            f"--vs {peer.name}: {peer.title} is not installed: python -m edgekit.bench.environments {peer.name}"
        )
    return IsolatedModel(peer, model)


def _litert() -> Any:
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError:
            continue
    raise InputError("--vs litert: LiteRT is not installed: pip install 'edgekit[bench]'")


def _shape(port: Any) -> tuple[int, ...]:
    """Of an input in ONNX Runtime; one of what is symbolic."""
    return tuple(n if isinstance(n, int) else 1 for n in port.shape)


def _dtype(port: Any) -> np.dtype:
    """numpy's for `tensor(float)`."""
    name = port.type.removeprefix("tensor(").removesuffix(")")
    if name == "string":
        raise InputError("ONNX Runtime: the model takes text, which is not timed; use a model that takes numbers")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def noise(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(max(limits.min, -128), min(limits.max, 255), shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)
