# SPDX-License-Identifier: Apache-2.0
"""What users feed: `.npz`, `.npy`, folders of images, arrays.

A `Dataset` is opened once and streamed as often as needed, a batch at a time; no more than a batch
of any array is in memory (labels excepted). Nothing here executes what a file contains: pickled
objects are refused before they are read.

DATA is *raw* where preprocessing is given or a file records it (`Preprocessing`): the model then sees
`f32(f32(x - mean) / std)` in its own layout.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from edgekit.errors import DataError
from edgekit.format.schema import SCALE_MAX, SCALE_MIN

Layout = Literal["nchw", "nhwc"]
DataSource = str | PathLike[str] | np.ndarray | Mapping[str, np.ndarray]

SINGLE_INPUT = "x"
"""Key of the only input in an `.npz`, besides the input's own name."""
LABELS = "y"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp"})

_MAX_LABEL_BYTES = 2**27
_MAX_WHOLE_BYTES = 2**30
"""Largest Fortran-ordered member of an `.npz`: such an array cannot be streamed."""
_BOMB_BYTES = 2**34
_BOMB_RATIO = 200
"""A member that unpacks to more than `_BOMB_BYTES` and `_BOMB_RATIO` times its size is refused."""


@dataclass(frozen=True)
class InputSpec:
    """A model input: ONNX's name, shape with batch dimension, and its layout where it is an image."""

    name: str
    shape: tuple[int, ...]
    layout: Layout | None = None

    @property
    def batch(self) -> int:
        """Samples that one execution takes."""
        return self.shape[0] if self.shape else 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample in the model's own layout."""
        return self.shape[1:]

    @property
    def channel_axis(self) -> int:
        """The dimension of `shape` that holds channels."""
        if len(self.shape) <= 2:
            return len(self.shape) - 1
        return len(self.shape) - 1 if self.own_layout == "nhwc" else 1

    @property
    def own_layout(self) -> Layout:
        """`layout`, or the likely one: few channels in front or at the end, else nchw."""
        if self.layout is not None:
            return self.layout
        few = {1, 2, 3, 4}
        if len(self.shape) == 4 and self.shape[3] in few and self.shape[1] not in few:
            return "nhwc"
        return "nchw"

    @property
    def ambiguous(self) -> bool:
        """Whether neither `layout` nor the shape of an image tells which dimension holds its channels."""
        return self.layout is None and len(self.shape) == 4 and len(set(self.shape[1:])) == 1 and self.shape[1] > 1

    def told_layout(self) -> Layout:
        """`own_layout`, where that is more than a guess.

        Raises:
            DataError: it is not.
        """
        if self.ambiguous:
            raise DataError(
                f"input '{self.name}' {list(self.shape)}: neither its shape nor the model tells nchw from nhwc; give data "
                "in its own layout without --input-layout, and one number for --input-mean and --input-std"
            )
        return self.own_layout


@dataclass(frozen=True)
class Preprocessing:
    """How raw data becomes the model's input.

    Attributes:
        layout: dimension order of raw images; None where it is the model's own.
        mean, std: one number or one per channel; std is positive.
        dtype: element type of the raw data on the device; None to take that of calibration data.
        perm: as a file records it: dimension i of the model's input is raw dimension perm[i]. None where
            `layout` says so.
        axis: as a file records it: the dimension of the model's input along which mean and std run. None where
            there is one of them, or the input itself tells.
    """

    layout: Layout | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    dtype: Literal["uint8", "int8"] | None = None
    perm: tuple[int, ...] | None = None
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.layout not in (None, "nchw", "nhwc"):
            raise DataError(f"--input-layout {self.layout}: not a layout; use nchw or nhwc")
        if self.dtype not in (None, "uint8", "int8"):
            raise DataError(f"raw input type {self.dtype}: use uint8 or int8")
        for option, values in (("--input-mean", self.mean), ("--input-std", self.std)):
            if values is not None and not (len(values) and np.all(np.isfinite(_float32(values)))):
                raise DataError(f"{option} {_listed(_float32(values))}: must be finite numbers")
        if self.std is not None and not all(SCALE_MIN <= std <= SCALE_MAX for std in _float32(self.std).tolist()):
            raise DataError(f"--input-std {_listed(_float32(self.std))}: must be positive, from 2^-96 to 2^64")

    @classmethod
    def parse(
        cls, layout: str | None = None, mean: str | None = None, std: str | None = None
    ) -> Preprocessing:
        """From option texts; `mean` and `std` are numbers separated by commas."""
        return cls(layout, _numbers("--input-mean", mean), _numbers("--input-std", std))  # type: ignore[arg-type]

    @property
    def given(self) -> bool:
        """Whether DATA is raw."""
        return self.layout is not None or self.mean is not None or self.std is not None

    def applies_to(self, spec: InputSpec, inputs: int) -> bool:
        """A model's only input is preprocessed; of several, those with the rank of an image."""
        return self.given and (inputs == 1 or len(spec.shape) == 4)

    def raw_perm(self, spec: InputSpec) -> tuple[int, ...]:
        """Model dimension i is raw dimension `raw_perm[i]`, batch included."""
        if self.perm is not None:
            return self.perm
        if len(spec.shape) != 4 or self.layout is None or self.layout == spec.told_layout():
            return tuple(range(len(spec.shape)))
        return (0, 3, 1, 2) if spec.own_layout == "nchw" else (0, 2, 3, 1)

    def raw_layout(self, spec: InputSpec) -> Layout | None:
        """The layout of raw data for an image; None for another input, and where nothing tells it."""
        if len(spec.shape) != 4:
            return None
        return self.layout or (None if spec.ambiguous else spec.own_layout)

    def check_agrees(self, recorded: Preprocessing, spec: InputSpec) -> None:
        """Holds what is given to what a file records for that input.

        Raises:
            DataError: layout, mean or std is given and another one is recorded.
        """
        if self.layout is not None and len(spec.shape) == 4 and self.layout != recorded.layout:
            raise _contradiction("--input-layout", self.layout, recorded.layout or "none, but the model's own")
        given = Preprocessing(None, self.mean, self.std, axis=recorded.axis).per_channel(spec)
        known = recorded.per_channel(spec)
        for option, values, a, b in zip(("--input-mean", "--input-std"), (self.mean, self.std), given, known, strict=True):
            if values is not None and np.any(a != b):  # one number is compared with all
                raise _contradiction(option, _listed(_float32(values)), _listed(b))

    def channel_axis(self, spec: InputSpec) -> int:
        """The dimension of the model's input along which mean and std run."""
        return spec.channel_axis if self.axis is None else self.axis

    def per_channel(self, spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
        """mean, std: float32[1], or float32[C] where either differs by channel."""
        channels = spec.shape[self.channel_axis(spec)] if spec.shape else 1
        arrays = []
        for option, values, default in (("--input-mean", self.mean, 0.0), ("--input-std", self.std, 1.0)):
            array = np.asarray(values if values is not None else (default,), np.float32).reshape(-1)
            if array.size not in (1, channels):
                raise DataError(
                    f"{option}: {array.size} values, but input '{spec.name}' {list(spec.shape)} has "
                    f"{channels} channels; give one number or one per channel"
                )
            if array.size > 1 and self.axis is None:
                spec.told_layout()
            arrays.append(array)
        mean, std = np.broadcast_arrays(*arrays)
        return mean.copy(), std.copy()

    def normalize(self, x: np.ndarray, spec: InputSpec) -> np.ndarray:
        """f32(f32(x - mean) / std) of an array in the model's own layout."""
        mean, std = self.per_channel(spec)
        shape = [1] * x.ndim
        if shape:
            shape[self.channel_axis(spec)] = -1
        x = _float32(x)
        with np.errstate(over="ignore"):
            if self.mean is not None:
                x = x - mean.reshape(shape)
            return x / std.reshape(shape) if self.std is not None else x


@dataclass(frozen=True)
class Batch:
    """One execution's inputs, float32 in the model's own shape; the first `count` samples are real,
    the others repeat the last one to fill a fixed batch of `size`. `first` is the index of sample 0."""

    inputs: dict[str, np.ndarray]
    first: int
    count: int
    size: int


def real_part(array: np.ndarray, size: int, count: int) -> np.ndarray:
    """What of an execution's tensor belongs to the first `count` of `size` samples, where that can be told."""
    array = np.atleast_1d(array)
    return array if count == size or len(array) % size else array[: len(array) // size * count]


class Dataset:
    """Samples for every input of a model."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        arrays: Mapping[str, _Array],
        labels: np.ndarray | None,
        preprocessing: Preprocessing,
        limit: int | None = None,
        recorded: Mapping[str, Preprocessing] | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.labels = labels
        self._arrays = dict(arrays)
        self._recorded = dict(recorded or {})
        self._preprocessing = {s.name: self._in_force(s, preprocessing) for s in self.specs}
        self._size = self.specs[0].batch if self.specs else 1
        total = _common_length(arrays, self.specs)
        self.samples = total if limit is None else min(total, limit)
        self._plans = {s.name: self._plan(s) for s in self.specs}
        if labels is not None:
            self.labels = labels[: self.samples]

    def dtype(self, name: str) -> np.dtype:
        """Element type of the stored array for input `name`."""
        return self._arrays[name].dtype

    @property
    def raw(self) -> frozenset[str]:
        """The inputs whose stored array is raw data of the recorded element type."""
        return frozenset(name for name, known in self._recorded.items() if self.dtype(name) == known.dtype)

    @property
    def executions(self) -> int:
        """How many batches all samples make."""
        return -(-self.samples // self._size)

    def batches(self, as_stored: Collection[str] = ()) -> Iterator[Batch]:
        """All samples in order as the model's own float32 inputs.

        Args:
            as_stored: inputs that keep the stored element type, in the layout that is recorded for raw data
                or else the stored one; singleton dimensions are added.

        Raises:
            DataError: a sample holds NaN or Inf, or becomes that in float32.
        """
        for first, count, chunk in self._chunks():
            arrays = {
                s.name: self._stored(s, chunk[s.name]) if s.name in as_stored else self._to_model(s, chunk[s.name], first)
                for s in self.specs
            }
            yield Batch(arrays, first, count, self._size)

    def raw_batches(self) -> Iterator[Batch]:
        """`batches` with all inputs as stored."""
        return self.batches([s.name for s in self.specs])

    def _in_force(self, spec: InputSpec, given: Preprocessing) -> Preprocessing | None:
        """How the array of an input becomes the model's own; None where it is that already. What is given and
        what is recorded agree, see `Preprocessing.check_agrees`."""
        array, known = self._arrays[spec.name], self._recorded.get(spec.name)
        applies = given.applies_to(spec, len(self.specs))
        if known is None:
            return given if applies else None
        if applies or array.dtype == known.dtype:
            return known
        if array.dtype.kind == "f":
            return None
        raise DataError(f"{array.where}: input '{spec.name}' takes raw {known.dtype} or float32, the data is {array.dtype}; convert it")

    def _plan(self, spec: InputSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(shape of a raw sample, permutation from raw batch to model batch)."""
        array = self._arrays[spec.name]
        active = self._preprocessing[spec.name]
        layout = array.layout or (active.layout if active else None)
        if active:
            active.per_channel(spec)  # refuses a wrong number of channels early
        perm = active.raw_perm(spec) if active and array.layout is None else Preprocessing(layout).raw_perm(spec)
        raw = tuple(spec.shape[perm.index(i)] for i in range(1, len(perm)))
        if _squeeze(array.shape[1:]) != _squeeze(raw):
            fixed = active is not None and active is self._recorded.get(spec.name)
            raise DataError(_shape_message(array, spec, raw, layout, fixed))
        return raw, perm

    def _chunks(self) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
        readers = {}
        for spec in self.specs:
            array = self._arrays[spec.name]
            same = spec.batch == self._size
            total = self.samples if same else min(self.executions * spec.batch, array.shape[0])
            readers[spec.name] = array.chunks(spec.batch, total)
        for first in range(0, self.samples, self._size):
            count = min(self._size, self.samples - first)
            chunk = {s.name: fill(next(readers[s.name]), s.batch) for s in self.specs}
            yield first, count, chunk

    def _stored(self, spec: InputSpec, chunk: np.ndarray) -> np.ndarray:
        raw, perm = self._plans[spec.name]
        x = chunk.reshape(spec.batch, *raw)
        known = self._recorded.get(spec.name)
        return x if known is None else x.transpose(perm).transpose(np.argsort(known.raw_perm(spec)))

    def _to_model(self, spec: InputSpec, chunk: np.ndarray, first: int) -> np.ndarray:
        raw, perm = self._plans[spec.name]
        given = chunk.reshape(spec.batch, *raw).transpose(perm) if spec.shape else chunk.reshape(())
        preprocessing = self._preprocessing[spec.name]
        x = np.asarray(_float32(preprocessing.normalize(given, spec) if preprocessing else given), order="C")
        if not np.isfinite(x).all():
            bad = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
            what, remedy = _unfit(given[bad])
            raise DataError(
                f"{self._arrays[spec.name].where}: sample {first + sum(bad[:1])} holds {what} (input '{spec.name}', "
                f"element {list(bad[1:])}); {remedy}"
            )
        return x


def open_data(
    source: DataSource,
    specs: Sequence[InputSpec],
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    recorded: Mapping[str, Preprocessing] | None = None,
) -> Dataset:
    """Opens DATA for a model.

    Args:
        source: path of an `.npz`, `.npy` or folder of images; an array; a dict of arrays.
        specs: the model's inputs.
        preprocessing: given where DATA is raw.
        limit: use at most this many samples.
        recorded: input -> what the model's file says of its raw data. An array of that element type is raw, a
            float array the model's own input; where `preprocessing` is given any array is raw.

    Raises:
        DataError: missing, damaged or hostile file; arrays that do not fit the inputs.
    """
    if limit is not None and limit < 1:
        raise DataError(f"samples must be 1 or more, not {limit}")
    preprocessing = preprocessing or Preprocessing()
    where = str(source) if isinstance(source, (str, PathLike)) else "data"
    if isinstance(source, (str, PathLike)):
        arrays = _open_path(Path(source), specs)
    else:
        named = source if isinstance(source, Mapping) else {SINGLE_INPUT: source}
        arrays = {k: _Memory(where, k, np.asarray(v)) for k, v in named.items()}
    labels = arrays.pop(LABELS, None) if LABELS not in {s.name for s in specs} else None
    chosen = _match(arrays, specs, where)
    dataset = Dataset(specs, chosen, None, preprocessing, limit, recorded)
    if labels is not None:
        dataset.labels = _read_labels(labels, _common_length(chosen, specs))[: dataset.samples]
    return dataset


# ---- Arrays of samples -------------------------------------------------------------------------


class _Array:
    """An array with a leading sample axis that can be streamed from the start, repeatedly."""

    layout: Layout | None = None

    def __init__(self, file: str, key: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.where = f"{file}, array '{key}'" if key else file
        self.file, self.key, self.shape, self.dtype = file, key, shape, dtype
        if dtype.hasobject:
            raise DataError(f"{self.where}: holds Python objects, which are never loaded; save plain numbers")
        if dtype.kind not in "biuf":
            raise DataError(f"{self.where}: element type {dtype} is not a real number")
        if not shape:
            raise DataError(f"{self.where}: is a single number; an array needs a leading sample axis")
        if shape[0] == 0:
            raise DataError(f"{self.where}: holds no samples; give data with at least one")

    def chunks(self, size: int, total: int) -> Iterator[np.ndarray]:
        """Arrays of `size` samples, the last one shorter, `total` samples in all."""
        raise NotImplementedError


class _Memory(_Array):
    """An array in memory or memory-mapped."""

    def __init__(self, file: str, key: str, data: np.ndarray) -> None:
        super().__init__(file, key, data.shape, data.dtype)
        self._data = data

    def chunks(self, size: int, total: int) -> Iterator[np.ndarray]:
        for i in range(0, total, size):
            yield self._data[i : min(i + size, total)]


class _ZipMember(_Array):
    """An array of an `.npz`, unpacked a batch at a time."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._path, self._member = path, info.filename
        with self._open() as stream:
            shape, fortran, dtype = _npy_header(stream, f"{path}, array '{info.filename[:-4]}'")
        super().__init__(str(path), info.filename[:-4], shape, dtype)
        declared = math.prod(shape) * dtype.itemsize
        if info.file_size < declared:
            raise DataError(
                f"{self.where}: declares shape {list(shape)} but is shorter than that; save it again"
            )
        if info.file_size > _BOMB_BYTES and info.file_size > _BOMB_RATIO * max(info.compress_size, 1):
            raise DataError(
                f"{self.where}: unpacks to {info.file_size} bytes from {info.compress_size}; refused"
            )
        if fortran and declared > _MAX_WHOLE_BYTES:
            raise DataError(
                f"{self.where}: is in Fortran order and too large; save np.ascontiguousarray(...)"
            )
        self._fortran = fortran

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with (
            _reading(self._path),
            zipfile.ZipFile(self._path) as archive,
            archive.open(self._member) as stream,
        ):
            yield stream

    def chunks(self, size: int, total: int) -> Iterator[np.ndarray]:
        with self._open() as stream:
            _npy_header(stream, self.where)
            if self._fortran:
                whole = self._read(stream, self.shape[::-1]).T
                yield from _Memory(self.file, self.key, whole).chunks(size, total)
                return
            for i in range(0, total, size):
                yield self._read(stream, (min(size, total - i), *self.shape[1:]))

    def _read(self, stream: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
        out = bytearray(math.prod(shape) * self.dtype.itemsize)
        done = 0
        while done < len(out):
            piece = stream.read(min(len(out) - done, 1 << 24))
            if not piece:
                raise DataError(f"{self.where}: is truncated; save it again")
            out[done : done + len(piece)] = piece
            done += len(piece)
        return np.frombuffer(out, self.dtype).reshape(shape)


class _Images(_Array):
    """Image files of one size, decoded when their turn comes: uint8 [N,H,W,C]."""

    layout: Layout | None = "nhwc"

    def __init__(self, folder: Path, files: Sequence[Path], height: int, width: int, channels: int) -> None:
        super().__init__(str(folder), "", (len(files), height, width, channels), np.dtype(np.uint8))
        self._files = files

    def chunks(self, size: int, total: int) -> Iterator[np.ndarray]:
        for i in range(0, total, size):
            yield np.stack([self._decode(f) for f in self._files[i : min(i + size, total)]])

    def _decode(self, path: Path) -> np.ndarray:
        image_module = _pillow()
        _, height, width, channels = self.shape
        try:
            with image_module.open(path) as image:
                if image.width * image.height > 2**26:
                    raise DataError(f"{path}: {image.width} x {image.height} pixels; at most 2^26 are read")
                image = image.convert("L" if channels == 1 else "RGB")
                if image.size != (width, height):
                    image = image.resize((width, height), image_module.Resampling.BILINEAR)
                return np.asarray(image, np.uint8).reshape(height, width, channels)
        except DataError:
            raise
        except Exception as error:  # a decoder of foreign formats: whatever it raises means the same here
            raise DataError(f"{path}: cannot be read as an image ({error}); replace or remove it") from error


# ---- Opening -----------------------------------------------------------------------------------


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An `.npz` archive; `numpy.savez` takes names as keywords, of which it has some itself."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return stream.getvalue()


def _open_path(path: Path, specs: Sequence[InputSpec]) -> dict[str, _Array]:
    if path.is_dir():
        return _open_folder(path, specs)
    if not path.is_file():
        raise DataError(f"{path}: {'not a' if path.exists() else 'no such'} file or folder; give .npz, .npy or a folder of images")
    if path.suffix == ".npz":
        return _open_npz(path)
    if path.suffix == ".npy":
        return {SINGLE_INPUT: _open_npy(path)}
    raise DataError(f"{path}: not .npz, .npy or a folder of images")


def _open_npz(path: Path) -> dict[str, _Array]:
    with _reading(path), zipfile.ZipFile(path) as archive:
        members = [i for i in archive.infolist() if i.filename.endswith(".npy")]
    if not members:
        raise DataError(f"{path}: holds no arrays; make it with numpy.savez")
    return {i.filename[:-4]: _ZipMember(path, i) for i in members}


def _open_npy(path: Path) -> _Array:
    with _reading(path):
        with path.open("rb") as stream:
            _, _, dtype = _npy_header(stream, str(path))
        if dtype.hasobject:
            raise DataError(f"{path}: holds Python objects, which are never loaded; save plain numbers")
        return _Memory(str(path), "", np.load(path, mmap_mode="r", allow_pickle=False))


def _open_folder(path: Path, specs: Sequence[InputSpec]) -> dict[str, _Array]:
    """Images of a folder; where they are in subfolders, these are the classes in sorted order."""
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    if not files:
        raise DataError(f"{path}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(specs) != 1 or len(specs[0].shape) != 4:
        raise DataError(f"{path}: is a folder of images, but the model does not take one image; give an .npz")
    _pillow()
    _, a, b, c = specs[0].shape
    height, width, channels = (b, c, a) if specs[0].own_layout == "nchw" else (a, b, c)
    if channels not in (1, 3):
        raise DataError(f"{path}: images have 1 or 3 channels, input '{specs[0].name}' has {channels}")
    arrays: dict[str, _Array] = {SINGLE_INPUT: _Images(path, files, height, width, channels)}
    classes = sorted({f.parent for f in files})
    if path not in classes and all(f.parent.parent == path for f in files):
        labels = np.array([classes.index(f.parent) for f in files])
        arrays[LABELS] = _Memory(str(path), LABELS, labels)
    return arrays


def _match(arrays: dict[str, _Array], specs: Sequence[InputSpec], where: str) -> dict[str, _Array]:
    """The array for each input."""
    if len(specs) == 1 and specs[0].name not in arrays and SINGLE_INPUT in arrays:
        return {specs[0].name: arrays[SINGLE_INPUT]}
    missing = [s.name for s in specs if s.name not in arrays]
    if missing:
        hint = f" (or '{SINGLE_INPUT}')" if len(specs) == 1 else ""
        raise DataError(
            f"{where}: no array '{missing[0]}'{hint} for the model's input; the arrays are "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    return {s.name: arrays[s.name] for s in specs}


def _common_length(arrays: Mapping[str, _Array], specs: Sequence[InputSpec]) -> int:
    """The number of samples: that of the first input, where inputs take different numbers at a time."""
    lengths = {s.name: arrays[s.name].shape[0] for s in specs}
    same_batch = len({s.batch for s in specs}) <= 1
    counts = {s.name: lengths[s.name] if same_batch else -(-lengths[s.name] // s.batch) for s in specs}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{arrays[s.name].where}: {lengths[s.name]}, {s.batch} at a time" for s in specs)
        raise DataError(f"inputs have different numbers of samples: {found}")
    return next(iter(lengths.values()), 0)


def _read_labels(array: _Array, samples: int) -> np.ndarray:
    if array.shape[0] != samples:
        raise DataError(f"{array.where}: {array.shape[0]} labels for {samples} samples")
    if math.prod(array.shape) * array.dtype.itemsize > _MAX_LABEL_BYTES:
        raise DataError(f"{array.where}: shape {list(array.shape)} is too large for labels")
    return np.concatenate(list(array.chunks(1 << 16, samples)))


# ---- Helpers -----------------------------------------------------------------------------------


def _float32(x: Any) -> np.ndarray:
    """float32; numbers beyond it become infinite, which callers look for."""
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(np.float32)


def _npy_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype; the stream then stands at the first element."""
    readers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = readers[version](stream)
    except KeyError:
        raise DataError(f"{where}: .npy version is not supported; save it with a current NumPy") from None
    except (ValueError, EOFError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{where}: not a NumPy array ({reason})") from None
    if any(d < 0 for d in shape):
        raise DataError(f"{where}: negative dimension in shape {list(shape)}")
    return shape, fortran, dtype


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What reading a damaged or inaccessible file raises, as one line naming it."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile and zlib raise many kinds on damaged archives
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: damaged or not what its name says ({reason})") from error


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading images needs Pillow: pip install 'edgekit[images]'") from None
    return Image


def fill(chunk: np.ndarray, batch: int) -> np.ndarray:
    """`chunk`, not empty, brought to a multiple of `batch` samples by repeating its last one."""
    missing = -chunk.shape[0] % batch
    return chunk if missing == 0 else np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])


def _squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(d for d in shape if d != 1)


def _shape_message(array: _Array, spec: InputSpec, raw: tuple[int, ...], layout: str | None, fixed: bool) -> str:
    """What is wrong and what to do; `fixed` where the model's file records the layout."""
    in_layout = f" in layout {layout}" if layout else ""
    message = (
        f"{array.where}: samples have shape {list(array.shape[1:])}, but input '{spec.name}' takes "
        f"{list(raw)}{in_layout}"
    )
    if _squeeze(array.shape) == _squeeze(raw):
        return message + "; add a leading sample axis"
    for other in () if spec.ambiguous else ("nhwc", "nchw"):
        perm = Preprocessing(other).raw_perm(spec)
        turned = tuple(spec.shape[perm.index(i)] for i in range(1, len(perm)))
        if other != layout and _squeeze(array.shape[1:]) == _squeeze(turned):
            remedy = "transpose the data, or convert the model again" if fixed else "it fits"
            return message + f"; {remedy} with --input-layout {other}"
    return message + "; reshape the data"


def _contradiction(option: str, given: str, known: str) -> DataError:
    return DataError(f"{option} {given}: the file records {known}; leave the option out, or convert again with it")


def _unfit(value: np.generic) -> tuple[str, str]:
    """What a number is that the model cannot take, and what to do about it."""
    if not np.isfinite(value):
        return "NaN or Inf", "remove or repair that sample"
    if not np.isfinite(_float32(value)):
        return f"{value}, beyond float32", "scale the data"
    return f"{value}, beyond float32 after --input-mean and --input-std", "check these"


def _listed(values: np.ndarray) -> str:
    """Shortest texts that read back as the same binary32 numbers."""
    return ",".join(str(v).removesuffix(".0") for v in values)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(t) for t in text.split(","))
    except ValueError:
        raise DataError(f"{option} {text}: give a number, or one per channel separated by commas") from None
