# SPDX-License-Identifier: Apache-2.0
"""ncnn: pnnx makes the float model; this file quantizes it, as the wheel has no `ncnn2table` and `ncnn2int8`.

What those do is done here: weights by their largest value in each output channel (in the whole matrix for Gemm),
activations by the largest value that calibration shows at the input of a convolution or InnerProduct (`method=kl` would
only choose smaller scales; the time is the same), and a convolution whose output only convolutions read hands it over as
int8.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = "7767517"
FLOAT_TAG, INT8_TAG = 0, 0x000D4B38
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
REQUANTIZED = 100
"""Added to a convolution's `int8_scale_term` where its output stays int8."""


def version() -> str:
    import ncnn  # noqa: F401

    return metadata.version("ncnn")


# ---- The two files of a model ---------------------------------------------------------------------------


@dataclass
class Layer:
    """A line of the .param file and its stretch of the .bin file.

    Attributes:
        params: parameter number -> its text.
        pieces: its weights in order; each is preceded by a tag where `tagged` says so.
    """

    type: str
    name: str
    bottoms: list[str]
    tops: list[str]
    params: dict[int, str]
    pieces: list[np.ndarray]
    tagged: list[bool]

    def number(self, key: int, default: int = 0) -> int:
        return int(self.params.get(key, default))

    def line(self) -> str:
        blobs = [str(len(self.bottoms)), str(len(self.tops)), *self.bottoms, *self.tops]
        return " ".join([self.type, self.name, *blobs, *(f"{key}={value}" for key, value in self.params.items())])


def piece_sizes(layer: Layer) -> list[tuple[int, bool]]:
    """How many floats each piece of a layer's weights has, and whether a tag precedes it.

    Raises:
        ValueError: this file does not know the type; then the sizes of what follows would be guesses.
    """
    number, kind = layer.number, layer.type
    if kind in CONVOLUTIONS:
        return [(number(6), True)] + [(number(0), False)] * number(5)
    if kind == "InnerProduct":
        return [(number(2), True)] + [(number(0), False)] * number(1)
    if kind == "Gemm":
        m, n, k, form = number(7), number(8), number(9), number(10)
        c = {-1: 0, 0: 1, 1: m, 2: m, 3: m * n, 4: n}[form]
        sizes = [(m * k, True)] * number(4) + [(n * k, True)] * number(5)
        return sizes + [(c, True)] * (number(6) and form != -1)
    if kind == "LayerNorm":
        return [(number(0), False)] * (2 * number(2, 1))
    if kind == "MemoryData":
        return [(int(np.prod([number(i) or 1 for i in (0, 1, 11, 2)])), number(21, 1) == 0)]
    without = (
        "Input", "Split", "ReLU", "Clip", "BinaryOp", "UnaryOp", "Pooling", "Softmax", "Reshape", "Permute", "Concat", "Slice",
        "MatMul", "GELU", "Crop", "Squeeze", "Swish", "Sigmoid", "Flatten", "Padding", "HardSwish", "HardSigmoid", "Dropout",
        "ExpandDims", "Reduction", "Eltwise", "Noop", "TanH",
    )  # fmt: skip
    if kind not in without:
        raise ValueError(f"ncnn layer {kind} ({layer.name}) is not one that can be quantized here")
    return []


def read_model(param: Path) -> list[Layer]:
    """A float32 model, `NAME.param` beside `NAME.bin`."""
    lines = param.read_text().splitlines()
    if lines[0] != MAGIC:
        raise ValueError(f"{param}: not an ncnn model")
    content = param.with_suffix(".bin").read_bytes()
    offset, layers = 0, []
    for line in lines[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        ends = int(inputs), int(inputs) + int(outputs)
        params = {int(key): value for key, _, value in (text.partition("=") for text in rest[ends[1] :])}
        layer = Layer(kind, name, rest[: ends[0]], rest[ends[0] : ends[1]], params, [], [])
        for count, tagged in piece_sizes(layer):
            if tagged and int.from_bytes(content[offset : offset + 4], "little") != FLOAT_TAG:
                raise ValueError(f"{param}: the weights of {name} are not float32")
            offset += 4 * tagged
            layer.pieces.append(np.frombuffer(content, np.float32, count, offset))
            layer.tagged.append(tagged)
            offset += 4 * count
        layers.append(layer)
    if offset != len(content):
        raise ValueError(f"{param}: {len(content) - offset} bytes of weights belong to no layer")
    return layers


def write_model(layers: list[Layer], param: Path) -> None:
    blobs = {name for layer in layers for name in (*layer.bottoms, *layer.tops)}
    lines = [MAGIC, f"{len(layers)} {len(blobs)}", *(layer.line() for layer in layers)]
    param.write_text("\n".join(lines) + "\n")
    with param.with_suffix(".bin").open("wb") as file:
        for layer in layers:
            for piece, tagged in zip(layer.pieces, layer.tagged, strict=True):
                if tagged:
                    file.write((INT8_TAG if piece.dtype == np.int8 else FLOAT_TAG).to_bytes(4, "little"))
                file.write(piece.tobytes() + bytes(-piece.nbytes % 4))


# ---- Quantization ---------------------------------------------------------------------------------------


def scales_of(weights: np.ndarray) -> np.ndarray:
    """Per row: what takes the largest value to 127."""
    largest = np.abs(weights).max(axis=1)
    return np.where(largest == 0, 1, 127 / np.where(largest == 0, 1, largest)).astype(np.float32)


def rounded(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Half away from zero, as ncnn rounds."""
    scaled = weights * scales[:, None]
    return np.clip(np.trunc(scaled + np.copysign(0.5, scaled)), -127, 127).astype(np.int8)


def quantize(layers: list[Layer], largest: dict[str, float]) -> None:
    """Makes convolutions, InnerProduct and Gemm int8, in place.

    Args:
        largest: blob -> the largest absolute value there.
    """
    for layer in layers:
        if layer.type == "Gemm" and layer.number(5) == 1 and layer.number(4) == 0:
            _quantize_gemm(layer)
        elif layer.type in (*CONVOLUTIONS, "InnerProduct"):
            rows = layer.number(7, 1) if layer.type == "ConvolutionDepthWise" else layer.number(0)
            weights = layer.pieces[0].reshape(rows, -1)
            scales = scales_of(weights)
            layer.pieces[0] = rounded(weights, scales).ravel()
            layer.pieces += [scales, np.array([127 / max(largest[layer.bottoms[0]], 1e-9)], np.float32)]
            layer.tagged += [False, False]
            layer.params[8] = "1" if layer.type == "ConvolutionDepthWise" else "2"
    for layer in layers:
        if layer.type in CONVOLUTIONS and (scale := _scale_of_readers(layers, layer.tops[0])) is not None:
            layer.params[8] = str(layer.number(8) + REQUANTIZED)
            layer.pieces.append(scale)
            layer.tagged.append(False)


def _quantize_gemm(layer: Layer) -> None:
    """Constant B; A is quantized as it comes."""
    n, k = layer.number(8), layer.number(9)
    weights = layer.pieces[0].reshape(n, k) if layer.number(3) else layer.pieces[0].reshape(k, n).T
    scale = scales_of(weights.reshape(1, -1))
    layer.pieces[0] = rounded(weights.reshape(1, -1), scale).ravel()
    layer.pieces.append(scale)
    layer.tagged.append(False)
    layer.params[3], layer.params[18] = "1", "2"


def _scale_of_readers(layers: list[Layer], blob: str) -> np.ndarray | None:
    """The scale at which all that read a blob, perhaps through a Split, take it as int8; None if one does not."""
    readers = [layer for layer in layers if blob in layer.bottoms]
    if [layer.type for layer in readers] == ["Split"]:
        readers = [layer for layer in layers if set(layer.bottoms) & set(readers[0].tops)]
    if not readers or any(layer.type not in CONVOLUTIONS for layer in readers):
        return None
    first = readers[0]
    return first.pieces[2 + first.number(5)]  # behind weights, bias and the scales of the weights


def _rows(samples: dict[str, np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The inputs of each sample in order, without batch."""
    for row in zip(*samples.values(), strict=True):
        yield [np.ascontiguousarray(array[0]) for array in row]


def measure(param: Path, blobs: list[str], samples: dict[str, np.ndarray]) -> dict[str, float]:
    """Blob -> the largest absolute value there over the samples."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.opt.lightmode = False  # keeps every blob: one pass serves all
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    largest = dict.fromkeys(blobs, 0.0)
    for row in _rows(samples):
        extractor = net.create_extractor()
        for i, array in enumerate(row):
            extractor.input(f"in{i}", ncnn.Mat(array).clone())
        for blob in blobs:
            failed, mat = extractor.extract(blob)
            if failed:
                raise ValueError(f"ncnn cannot compute {blob}")
            largest[blob] = max(largest[blob], float(np.abs(np.array(mat)).max()))
    return largest


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    import ncnn  # noqa: F401

    source = folder / "float.onnx"
    shutil.copyfile(model, source)
    program = metadata.distribution("pnnx").locate_file("pnnx/pnnx")
    done = subprocess.run(
        [str(program), source.name, "fp16=0"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    param = folder / "float.ncnn.param"
    if done.returncode != 0 or not param.exists():
        raise ValueError(f"pnnx: {(done.stdout.strip() or str(done.returncode)).splitlines()[-1]}")
    layers = read_model(param)
    blobs = sorted({layer.bottoms[0] for layer in layers if layer.type in (*CONVOLUTIONS, "InnerProduct")})
    quantize(layers, measure(param, blobs, samples))
    path = folder / "int8.param"
    write_model(layers, path)
    for made in folder.glob("float*"):
        made.unlink()
    return path


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        import ncnn

        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        if self._net.load_param(str(path)) or self._net.load_model(str(path.with_suffix(".bin"))):
            raise ValueError(f"ncnn refuses {path.name}")
        self._inputs = [ncnn.Mat(array).clone() for array in next(_rows({name: array[None] for name, array in inputs.items()}))]
        self._output: Any = None

    def run(self) -> None:
        extractor = self._net.create_extractor()
        for i, mat in enumerate(self._inputs):
            extractor.input(f"in{i}", mat)
        failed, self._output = extractor.extract("out0")
        if failed:
            raise ValueError("ncnn cannot run the model")

    def output(self) -> np.ndarray:
        return np.array(self._output, np.float32)


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
