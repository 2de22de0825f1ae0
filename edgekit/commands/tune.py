# SPDX-License-Identifier: Apache-2.0
"""`edgekit tune`: measures the kernels that can take each layer of a model, and keeps what was found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.atomic import write_atomically
from edgekit.commands import Progress, no_progress
from edgekit.errors import InputError
from edgekit.files import check_destination

if TYPE_CHECKING:
    from edgekit.tuning import Table
    from edgekit.tuning.measure import Machine


@dataclass(frozen=True)
class TunedLayer:
    """Layers of one shape.

    Attributes:
        layer: what they compute.
        count: how many of them the model has.
        default, tuned: the kernel that the runtime takes by itself, and the one to take.
        us: kernel -> microseconds of one of them, of all that come close to the default.
        gain_us: what all of them gain together.
    """

    layer: str
    count: int
    default: str
    tuned: str
    us: dict[str, float]
    gain_us: float


@dataclass(frozen=True)
class Tuned:
    """What `tune` found.

    Attributes:
        table: the file; `applied` the model with the choices, if it was asked for.
        layers: in the order of the program.
        gain_us: what the layers gain together; an estimate of what the model does.
        default_us, tuned_us: the best whole run without and with the choices, interleaved; `tuned_us` is None where no layer
            gains.
        ratio: the second as a share of the first; 1 where no layer gains.
        kept: the choices are in the table. They are not where the whole model was no faster for them.
    """

    model: Path
    table: Path
    applied: Path | None
    processor: str
    kernels: list[str]
    layers: list[TunedLayer]
    gain_us: float
    default_us: float
    tuned_us: float | None
    ratio: float
    kept: bool

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `edgekit tune --json`."""
        return asdict(self)


def tune(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    kernels: str = "auto",
    seconds: float = 1.0,
    apply: str | os.PathLike[str] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | Sequence[str] | None = None,
    on: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Measures on this machine or a board, with one thread, every kernel that can take each layer, and writes a table of what was
    found, for `convert`. What a model computes stays the same, bit for bit.

        edgekit.commands.tune.tune("net.ekm", apply="net-tuned.ekm")

    Args:
        model: a `.ekm`; or an `.onnx`, which is converted for it without data, as values take no time.
        output: the table, `MODEL.tuned.json` beside the model where None. A table of the same processor, version and
            kernel sets is added to.
        kernels: a kernel set and those that it falls back to, or `auto`.
        seconds: measuring time for each variant of the model.
        apply: where to write the `.ekm` with the choices in it.
        input_shapes: of an `.onnx`, as `convert` takes them.
        on: the address of a board with Linux, as `bench` takes it.
        progress: called as work goes on.

    Raises:
        InputError: the model, the table or an option cannot be used.
        BoardError: the board cannot be reached or used.
    """
    from edgekit.tuning.local import LocalMachine, cpuinfo_name, processor_name

    _destinations(Path(model), output, apply)  # before a board is asked
    arguments = (Path(model), output, seconds, apply, input_shapes, progress or no_progress)
    if on is None:
        return tune_on(LocalMachine(kernels), processor_name(), *arguments)
    from edgekit.remote import Board
    from edgekit.tuning.remote import board_machine

    with tempfile.TemporaryDirectory(prefix="edgekit-tune-") as work, Board(on) as board, board.serve() as client:
        processor = cpuinfo_name(board.cpuinfo) or board.target.name
        return tune_on(board_machine(board, client, kernels, Path(work)), processor, *arguments)


def tune_on(
    machine: Machine,
    processor: str,
    source: Path,
    output: str | os.PathLike[str] | None,
    seconds: float,
    apply: str | os.PathLike[str] | None,
    input_shapes: Mapping[str, Sequence[int]] | Sequence[str] | None,
    progress: Progress,
) -> Tuned:
    """The same on any machine; `processor` names what it has."""
    from edgekit.format import choices
    from edgekit.format.reader import read
    from edgekit.tuning import Table
    from edgekit.tuning.measure import measure

    destination, applied = _destinations(source, output, apply)
    sets = tuple(machine.kernel_sets)
    known = Table.read(destination) if destination.is_file() else Table(processor, sets, ())
    _merged(destination, known, Table(processor, sets, ()))  # one that does not fit is refused before the work
    data = _model(source, input_shapes, progress)
    found = measure(machine, data, seconds, progress)
    layers = [layer if found.gains else replace(layer, kernel=layer.default) for layer, _ in found.layers]
    table = Table(processor, sets, tuple(layers))
    _merged(destination, known, table).write(destination)
    if applied is not None:
        write_atomically(applied, choices.replace(data, table.choices(read(data))))
    shown = [
        TunedLayer(
            layer.layer, count, layer.default, layer.kernel, layer.us,
            count * (layer.us[layer.default] - layer.us[layer.kernel]),
        )
        for layer, count in found.layers
    ]  # fmt: skip
    return Tuned(
        model=source,
        table=destination,
        applied=applied,
        processor=processor,
        kernels=list(sets),
        layers=shown,
        gain_us=sum(layer.gain_us for layer in shown),
        default_us=found.default.min_us,
        tuned_us=None if found.tuned is None else found.tuned.min_us,
        ratio=found.ratio,
        kept=found.gains,
    )


def _destinations(
    source: Path, output: str | os.PathLike[str] | None, apply: str | os.PathLike[str] | None
) -> tuple[Path, Path | None]:
    """Where the table and the model with its choices are written.

    Raises:
        InputError: what could only fail after the measuring.
    """
    if source.suffix not in (".ekm", ".onnx"):
        raise InputError(f"{source}: not a .ekm or .onnx file")
    destination = source.with_suffix(".tuned.json") if output is None else Path(output)
    applied = None if apply is None else Path(apply)
    if destination.suffix != ".json":
        raise InputError(f"{destination}: a table is written as .json; name it so")
    check_destination(destination, source)
    if applied is None:
        return destination, None
    if source.suffix != ".ekm":
        raise InputError(f"--apply: {source} is no .ekm; use `edgekit convert --tuned {destination}`")
    if applied.suffix != ".ekm":
        raise InputError(f"{applied}: a model is written as .ekm; name it so")
    check_destination(applied, source, destination)
    return destination, applied


def _merged(path: Path, known: Table, newer: Table) -> Table:
    try:
        return known.merged(newer)
    except InputError as error:
        raise InputError(f"{path}: {error}; give another name with -o") from None


def _model(
    source: Path, input_shapes: Mapping[str, Sequence[int]] | Sequence[str] | None, progress: Progress
) -> bytes:
    """The `.ekm` file of a model."""
    from edgekit.commands.convert import convert
    from edgekit.format.reader import file_bytes

    if source.suffix == ".ekm":
        if input_shapes:
            raise InputError(f"--input-shape: {source} has its shapes; they are an .onnx's to pin")
        return file_bytes(source)
    with tempfile.TemporaryDirectory(prefix="edgekit-tune-") as work:
        return convert(source, Path(work) / "model.ekm", input_shapes=input_shapes, progress=progress).data
