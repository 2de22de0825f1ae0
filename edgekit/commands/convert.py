# SPDX-License-Identifier: Apache-2.0
"""From a trained ONNX model to a `.ekm` file: joins the stages of the pipeline."""

from __future__ import annotations

import operator
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.commands import Progress, no_progress
from edgekit.errors import InputError
from edgekit.files import check_destination

if TYPE_CHECKING:

    from edgekit.data import DataSource, Preprocessing
    from edgekit.format.writer import Packing
    from edgekit.program import Program
    from edgekit.tuning import Table

IO = ("float", "int8")
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Converted:
    """What `convert` made.

    Attributes:
        model: the file; None where none was asked for.
        data: its bytes.
        bytes, weight_bytes, arena_bytes: sizes of the file, of the weights in it, of the activations.
        macs: multiply-accumulates of one inference.
        ops: number of operators.
        bits, target: as asked for.
        warnings: what the user should know, one line each.
        before, after: with pruning, the model's figures before and after.
    """

    model: Path | None
    data: bytes = field(repr=False)
    bytes: int
    weight_bytes: int
    arena_bytes: int
    macs: int
    ops: int
    bits: int
    target: str
    warnings: list[str]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `edgekit convert --json`."""
        hidden = {"data"} | ({"before", "after"} if self.before is None else set())
        return {key: value for key, value in vars(self).items() if key not in hidden}


def convert(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    bits: int = 8,
    calibration: DataSource | None = None,
    method: str = "auto",
    target: str | None = None,
    input_layout: str | None = None,
    input_mean: str | float | Sequence[float] | None = None,
    input_std: str | float | Sequence[float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | Sequence[str] | None = None,
    io: str = "float",
    io_layout: str | None = None,
    prune: float | None = None,
    sparsity: float | None = None,
    data: DataSource | None = None,
    strip: bool = False,
    tuned: str | os.PathLike[str] | None = None,
    samples: int | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Imports, simplifies, calibrates, quantizes, plans memory, packs, and writes one flat file.

        edgekit.convert("net.onnx", "net.ekm", calibration="images.npz", input_layout="nhwc", input_std=255)

    Args:
        model: the trained float model, ONNX opset 9 or newer.
        output: the `.ekm` to write, completely or not at all; `MODEL.ekm` beside the model where None.
        bits: 8.
        calibration: samples as `edgekit.data.open_data` takes them; labels are not looked at. Without
            them ranges come from the model itself or from synthetic input, with a warning.
        method: `auto`, `minmax`, `percentile`, `mse` or `entropy`.
        target: pack weights for one of `edgekit targets`; the file runs everywhere, with the same bits.
        input_layout, input_mean, input_std: DATA is raw, and the model sees f32(f32(x - mean) / std) in its
            own layout. Recorded in the file, so that raw uint8 or int8 data can be fed to it.
        input_shapes: input name -> shape, or texts `name=1,3,224,224`, for symbolic dimensions.
        io: `float`, or `int8` to keep inputs and outputs quantized.
        io_layout: layout of image inputs and outputs of the file; ONNX's own where None.
        prune: first remove this share of the channels of every prunable group.
        sparsity: first set this share of the weights to zero; zeros are not stored.
        data: labelled data; with `prune` or `sparsity`, accuracy before and after.
        strip: leave out the debug names.
        tuned: a table of `edgekit tune`. The file then says which kernels were measured to be faster than a runtime's own
            choice; layers that are not in the table keep that. The bits do not change.
        samples: use at most this many calibration samples.
        progress: called as work goes on.

    Raises:
        InputError: the model, the data or an option cannot be used; the message says what to do.
    """
    source = Path(model)
    if not source.name:
        raise InputError(f"{source}: not a file; give the path of an .onnx file")
    destination = source.with_suffix(".ekm") if output is None else Path(output)
    _check_options(bits, io, io_layout, destination)
    check_destination(destination, source, calibration, data, tuned)
    if data is not None and prune is None and sparsity is None:
        raise InputError("--data: compares accuracy before and after --prune or --sparsity; give one of them too")

    from edgekit.calibrate import METHODS
    from edgekit.data import Preprocessing

    if samples is not None and (not isinstance(samples, Integral) or samples < 1):
        raise InputError(f"--samples {samples}: use an integer of 1 or more")
    for option, share in (("--prune", prune), ("--sparsity", sparsity)):
        if share is not None and not isinstance(share, Real):
            raise InputError(f"{option} {share}: use a share, such as 0.5")
    if method not in METHODS:
        raise InputError(f"--method {method}: not a calibration method; use one of {', '.join(METHODS)}")
    report = progress or no_progress
    preprocessing = Preprocessing.parse(input_layout, _numbers(input_mean), _numbers(input_std))
    shapes = parse_shapes(input_shapes)
    options: dict[str, Any] = {
        "method": method, "target": target, "samples": samples, "strip": strip,
        "tuned": None if tuned is None else _table(Path(tuned)),
        "io": io, "io_layout": "nhwc" if io_layout == "nhwc" else "onnx",
    }  # fmt: skip
    if prune is None and sparsity is None:
        return convert_preprocessed(source, destination, calibration, preprocessing, report, shapes, **options)
    return _convert_pruned(
        source, destination, prune, sparsity, calibration, data, preprocessing, report, shapes, **options
    )


def convert_preprocessed(
    source: Path,
    destination: Path,
    calibration: DataSource | None,
    preprocessing: Preprocessing,
    report: Progress,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    target: str | None = None,
    strip: bool = False,
    tuned: tuple[Path, Table] | None = None,
    **options: Any,
) -> Converted:
    """The pipeline itself.

    Args:
        tuned: a table and its name.
        options: those of `quantize_model`.
    """
    from edgekit import importer
    from edgekit.blas import one_thread
    from edgekit.format import writer
    from edgekit.format.summary import summarize
    from edgekit.memory import give_back
    from edgekit.plan import plan
    from edgekit.quantize import quantize_model

    packing = _packing(target)
    report("importing", 0, 0)
    imported = importer.load(source, input_shapes=shapes)
    give_back()
    report("importing", 1, 1)
    warnings = list(imported.warnings)
    with one_thread():
        program = quantize_model(
            imported,
            calibration,
            preprocessing=preprocessing,
            warnings=warnings,
            progress=lambda done, total: report("calibrating", done, total),
            **options,
        )
    give_back()
    plan(program)
    if tuned is not None:
        warnings += _choose(program, *tuned)
    written = writer.write(program, destination, strip_debug=strip, packing=packing)
    summary = summarize(written)
    return Converted(
        model=destination,
        data=written,
        bytes=len(written),
        weight_bytes=summary["weight_bytes"],
        arena_bytes=program.arena_bytes,
        macs=summary["macs"],
        ops=len(program.ops),
        bits=8,
        target=target or "any",
        warnings=warnings,
    )


def _convert_pruned(
    source: Path,
    destination: Path,
    channels: float | None,
    sparsity: float | None,
    calibration: DataSource | None,
    data: DataSource | None,
    preprocessing: Preprocessing,
    report: Progress,
    shapes: Mapping[str, Sequence[int]],
    **options: Any,
) -> Converted:
    """Converts the model as it is and pruned, and keeps the second with the figures of both."""
    from edgekit.atomic import write_atomically
    from edgekit.commands.prune import compare_sizes, prune_into

    with tempfile.TemporaryDirectory(prefix="edgekit-convert-") as work:
        before, after = Path(work) / "before.onnx", Path(work) / "after.onnx"
        notes = prune_into(source, before, after, channels, sparsity, calibration, preprocessing, shapes, report)
        files = [
            convert_preprocessed(path, path.with_suffix(".ekm"), calibration, preprocessing, report, **options)
            for path in (before, after)
        ]
        labelled = None if options["io"] == "int8" else data
        figures = compare_sizes((before, after), files, labelled, preprocessing, report)
    write_atomically(destination, files[1].data)
    warnings = list(dict.fromkeys([*notes, *files[1].warnings]))
    return replace(files[1], model=destination, warnings=warnings, before=figures[0], after=figures[1])


def parse_shapes(texts: Mapping[str, Sequence[int]] | Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """`name=1,3,224,224`, as often as there are inputs, as a dict.

    Raises:
        InputError: a text is not of that form.
    """
    if isinstance(texts, Mapping):
        try:
            return {name: tuple(operator.index(n) for n in shape) for name, shape in texts.items()}
        except TypeError:
            raise InputError(f"input shapes {dict(texts)}: give integers, as in {{'image': (1, 3, 224, 224)}}") from None
    if texts is not None and not all(isinstance(text, str) for text in texts):
        raise InputError(f"input shapes {texts!r}: give a dict, or texts 'NAME=1,3,224,224'")
    shapes: dict[str, tuple[int, ...]] = {}
    for text in [texts] if isinstance(texts, str) else texts or ():
        name, equals, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not equals or not name or not shape or min(shape) < 1:
            raise InputError(f"--input-shape {text}: write NAME=1,3,224,224 with positive numbers")
        shapes[name] = shape
    return shapes


def _check_options(bits: int, io: str, io_layout: str | None, output: Path) -> None:
    """Refuses early what could only fail after minutes of work."""
    if bits != 8:
        raise InputError(f"--bits {bits}: this version converts to 8 bits")
    if io not in IO:
        raise InputError(f"--io {io}: use {' or '.join(IO)}")
    if io_layout is not None and io_layout not in LAYOUTS:
        raise InputError(f"--io-layout {io_layout}: use {' or '.join(LAYOUTS)}")
    if output.suffix != ".ekm":
        raise InputError(f"{output}: a converted model is written as .ekm; name it so")


def _numbers(value: str | float | Sequence[float] | None) -> str | None:
    """Numbers as `Preprocessing.parse` reads them."""
    if value is None or isinstance(value, str):
        return value
    values = value if isinstance(value, Iterable) else [value]
    try:
        return ",".join(repr(float(v)) for v in values)
    except (TypeError, ValueError):
        raise InputError(f"input mean or std {value!r}: give a number, or one per channel") from None


def _table(path: Path) -> tuple[Path, Table]:
    from edgekit.tuning import Table

    return path, Table.read(path)


def _choose(program: Program, path: Path, table: Table) -> list[str]:
    """Writes the choices of a table into a program; returns what the user should know.

    Raises:
        InputError: the table is of other networks.
    """
    from edgekit.program import Accumulate

    missing = table.missing(program)
    if len(missing) == len(program.ops):
        raise InputError(f"--tuned {path}: has none of the layers of this model; run `edgekit tune` on it")
    program.choices = table.choices(program)
    # Some operators have no kernel, and so are in no table.
    lacking = [op for op in missing if isinstance(op, Accumulate)]
    if not lacking:
        return []
    return [f"{path}: has no measure of {len(lacking)} layers, the first '{lacking[0].name}'; they keep the default kernels"]


def _packing(target: str | None) -> Packing:
    """How the kernels of a target like their weights.

    Raises:
        InputError: there is no such target.
    """
    from edgekit.commands.build import weight_packing
    from edgekit.format.writer import Packing

    return Packing() if target is None else weight_packing(target)
