# SPDX-License-Identifier: Apache-2.0
"""edgekit and its peers on the networks of the zoo, interleaved in one run.

    python benchmarks/compare.py [--nets resnet8,dscnn] [--peers openvino,ncnn] [--threads 1,2] [-o results/compare]

installs each peer in an environment of its own, lets each make its int8 model in its own way, then runs them all in turn:
a process per peer, of which all but one stand still; rounds A B C, B C A, C A B; the peak of the processor's multiply-add
instructions measured in every round, too. Before that, each peer is started several times in fresh processes. Results are
written after each network, as OUTPUT.json and, from that, OUTPUT.md. Whoever cannot be installed, or refuses a network, is
listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import from_c, report, zoo  # noqa: E402
from edgekit.bench.client import Client, PeerError  # noqa: E402
from edgekit.bench.environments import ADAPTERS, PEERS, install  # noqa: E402
from edgekit.bench.isolated import Isolated, Server  # noqa: E402
from edgekit.bench.rounds import Contender, interleave  # noqa: E402
from edgekit.building.cache import cache_folder  # noqa: E402
from edgekit.data import npz_bytes  # noqa: E402

SEED = 4
CALIBRATION_SAMPLES = 8
STARTS = ("load_us", "first_run_us", "engine_kb", "memory_kb", "library_bytes")


class Engine(Protocol):
    """What takes part: a peer, or edgekit."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def recipes(self) -> tuple[str, ...]: ...
    @property
    def transformer_recipes(self) -> tuple[str, ...]: ...
    @property
    def stamp(self) -> str | None: ...
    def maker(self) -> Client: ...
    def runner(self, threads: int) -> Server: ...


@dataclass(frozen=True)
class Edgekit:
    """This checkout in this interpreter; `target` is what weights are packed for."""

    target: str | None = None
    name: str = "edgekit"
    title: str = "edgekit"
    note: str = "`edgekit convert`, ranges from the data, int8 ports in NHWC; through a bound runner from Python."
    transformer_recipes: tuple[str, ...] = ()
    stamp: str | None = None
    """Its models are made anew each time: this checkout changes."""

    @property
    def recipes(self) -> tuple[str, ...]:
        return (self.target or "int8",)

    def maker(self) -> Client:
        return Client(self.title, Path(sys.executable), ADAPTERS / "edgekit.py", [ROOT])

    def runner(self, threads: int) -> Server:
        return self.maker()


@dataclass(frozen=True)
class EdgekitFromC(Edgekit):
    """The same runtime, called by a program in C, on the file that edgekit has made for Python."""

    name: str = report.OWN_FROM_C
    title: str = "edgekit, from C"
    note: str = "the same, by `benchmarks/from_c.c` instead of Python."
    program: Path = Path("from_c")

    def runner(self, threads: int) -> Server:
        return from_c.Program(self.title, self.program)


# ---- Networks and models ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """A network and what is fed to it.

    Attributes:
        samples, inputs: `.npz` files to calibrate with and to run on.
        expected: the float model's first output for `inputs`.
    """

    name: str
    model: Path
    macs: int
    transformer: bool
    samples: Path
    inputs: Path
    expected: np.ndarray

    @classmethod
    def make(cls, name: str, folder: Path) -> Net:
        """From the zoo; input is noise."""
        path = folder / f"{name}.onnx"
        path.unlink(missing_ok=True)  # the generator may have changed
        return cls.of(name, zoo.make(name, folder), folder)

    @classmethod
    def of(cls, name: str, path: Path, folder: Path) -> Net:
        model = onnx.load(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(SEED)
        shapes = {port.name: tuple(port.shape) for port in session.get_inputs()}
        samples, inputs = folder / f"{name}_samples.npz", folder / f"{name}_input.npz"
        noise = {k: rng.standard_normal((CALIBRATION_SAMPLES, *s), np.float32) for k, s in shapes.items()}
        samples.write_bytes(npz_bytes(noise))
        arrays = {k: rng.standard_normal(s, np.float32) for k, s in shapes.items()}
        inputs.write_bytes(npz_bytes(arrays))
        kinds = [node.op_type for node in model.graph.node]
        expected = session.run(None, arrays)[0].ravel().astype(np.float64)
        return cls(name, path, zoo.macs(model), "LayerNormalization" in kinds, samples, inputs, expected)


def recipes_for(engine: Engine, net: Net) -> tuple[str, ...]:
    return engine.recipes + (engine.transformer_recipes if net.transformer else ())


def made(engine: Engine, net: Net, recipe: str, folder: Path) -> dict[str, Any]:
    """The engine's model: `file` and `bytes`. One that the same version made of the same network is kept.

    Raises:
        PeerError: it refuses.
    """
    home = folder / net.name / f"{engine.name}-{recipe}"
    record = home / "made.json"
    stamp = [engine.stamp, zoo.digest(net.model)]
    if engine.stamp is not None and record.exists():
        known = json.loads(record.read_text())
        if known["stamp"] == stamp:
            answer: dict[str, Any] = known["answer"]
            return answer
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    with engine.maker() as maker:
        answer = maker.request("prepare", model=str(net.model), samples=str(net.samples), folder=str(home), recipe=recipe)
    record.write_text(json.dumps({"stamp": stamp, "answer": answer}))
    return answer


# ---- Measuring --------------------------------------------------------------------------------------------


@dataclass
class Peaks:
    """The multiply-add instructions of this processor as a contender: GMAC/s on one core, by round."""

    program: Path | None
    rounds: list[dict[str, float]] = field(default_factory=list)

    def round(self) -> None:
        if self.program is not None:
            done = subprocess.run([str(self.program)], capture_output=True, text=True, check=True)
            self.rounds.append(json.loads(done.stdout))

    def medians(self) -> dict[str, float]:
        names = self.rounds[0] if self.rounds else {}
        return {name: median(each[name] for each in self.rounds) for name in names}


def build_peaks(folder: Path) -> Path:
    """Compiles peaks.c.

    Raises:
        PeerError: there is no C compiler.
    """
    program = folder / "peaks"
    command = [os.environ.get("CC", "cc"), "-O2", "-std=gnu11", str(ROOT / "benchmarks" / "peaks.c"), "-o", str(program)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"peaks.c: {getattr(error, 'stderr', '') or error}") from error
    return program


def cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    """Of the angle between two outputs; None where there is none."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if a.shape == b.shape and norms > 0 else None


@dataclass
class Entry:
    """An engine with one of its recipes on one network."""

    engine: Engine
    recipe: str
    model: dict[str, Any]
    starts: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    def open(self, net: Net, threads: int) -> Isolated:
        """In a fresh process; has run once."""
        peer = Isolated(self.engine.runner(threads))
        try:
            peer.start(Path(self.model["file"]), threads, net.inputs)
        except BaseException:
            peer.close()
            raise
        return peer


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    threads: tuple[int, ...]
    rounds: int
    round_seconds: float
    starts: int


def measure(net: Net, engines: Iterable[Engine], plan: Plan, folder: Path, peaks: Path | None) -> dict[str, Any]:
    """One network: what `report` says of it."""
    result: dict[str, Any] = {"macs": net.macs, "engines": {}, "failed": {}, "peaks": {}}
    entries: dict[str, Entry] = {}
    for engine in engines:
        for recipe in recipes_for(engine, net):
            key = report.key(engine.name, recipe, engine.recipes[0])
            try:
                own = entries.get(report.OWN) if engine.name == report.OWN_FROM_C else None
                entries[key] = Entry(engine, recipe, own.model if own else made(engine, net, recipe, folder))
            except PeerError as error:
                result["failed"][key] = str(error)
    _start(net, entries, plan, result["failed"])
    for threads in plan.threads:
        result["peaks"][str(threads)] = _time(net, entries, threads, plan, peaks, result["failed"])
    for key, entry in entries.items():
        result["engines"][key] = {
            "engine": entry.engine.name,
            "recipe": entry.recipe,
            "model_bytes": entry.model["bytes"],
            "start": {name: median(facts[name] for facts in entry.starts) for name in STARTS},
            "version": entry.starts[0]["version"],
            **entry.result,
        }
    return result


def _start(net: Net, entries: dict[str, Entry], plan: Plan, failed: dict[str, str]) -> None:
    """Starts each several times in turn; drops who cannot."""
    for _ in range(plan.starts):
        for key in list(entries):
            try:
                with entries[key].open(net, plan.threads[0]) as peer:
                    entries[key].starts.append(peer.facts)
                    entries[key].result["cosine"] = cosine(peer.output(), net.expected)
            except PeerError as error:
                failed[key] = str(error)
                del entries[key]


def _time(
    net: Net, entries: dict[str, Entry], threads: int, plan: Plan, peaks: Path | None, failed: dict[str, str]
) -> dict[str, float]:
    """All in turn; the peaks of the run."""
    limit = Peaks(peaks)
    with ExitStack() as stack:
        peers: dict[str, Isolated] = {}
        for key, entry in entries.items():
            try:
                peer = stack.enter_context(entry.open(net, threads))
                peer.warm_up(plan.round_seconds)
                peers[key] = peer
            except PeerError as error:
                failed[f"{key}, {threads} threads"] = str(error)
        contenders: list[Contender] = [limit, *peers.values()]
        interleave(contenders, plan.rounds)
        own = next((peer for key, peer in peers.items() if entries[key].engine.name == "edgekit"), None)
        for key, peer in peers.items():
            times = peer.times
            entries[key].result.setdefault("threads", {})[str(threads)] = {
                "median_us": times.median_us,
                "min_us": times.min_us,
                "p99_us": times.p99_us,
                "readings": times.count,
                "cores": median(peer.cores),
                "ratio": times.ratio(own.times) if own else None,
                "paired_ratios": times.paired_ratios(own.times) if own else None,
            }
    return limit.medians()


# ---- The run ----------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "processor": fields.get("model name", platform.machine()),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def write(results: dict[str, Any], output: Path) -> None:
    """OUTPUT.json and OUTPUT.md."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    output.with_suffix(".md").write_text(report.markdown(results))


def run(
    engines: Sequence[Engine],
    nets: Iterable[Net],
    plan: Plan,
    folder: Path,
    output: Path,
    skipped: dict[str, str],
    command: str,
) -> dict[str, Any]:
    """Measures and writes; the results.

    Args:
        folder: where models are kept.
        output: OUTPUT.json and OUTPUT.md, written anew after each network.
        skipped: peers that do not take part -> the reason.
        command: what repeats the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    peaks: Path | None = None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            peaks = build_peaks(Path(scratch))
        except PeerError as error:
            skipped = {**skipped, "peaks": str(error)}
        results: dict[str, Any] = {
            "machine": machine(),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "command": command,
            "plan": {"rounds": plan.rounds, "round_seconds": plan.round_seconds, "starts": plan.starts},
            "threads": list(plan.threads),
            "titles": {engine.name: engine.title for engine in engines},
            "notes": {engine.name: engine.note for engine in engines},
            "skipped": skipped,
            "load_average": [],
            "nets": {},
        }
        for net in nets:
            results["nets"][net.name] = measure(net, engines, plan, folder, peaks)
            results["load_average"].append(round(os.getloadavg()[0], 2))
            write(results, output)
            print(report.progress(net.name, results), flush=True)
    return results


def thread_counts(text: str) -> tuple[int, ...]:
    """From numbers separated by commas."""
    return tuple(map(int, text.split(",")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(zoo.ZOO), help="of the zoo, separated by commas")
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas; edgekit always takes part")
    parser.add_argument("--threads", type=thread_counts, default="1,2", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--round-seconds", type=float, default=0.05, help="for each engine; at least three runs")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes of each engine on each network")
    parser.add_argument("--target", help="what edgekit's weights are packed for, x86-64-v4")
    parser.add_argument("--work", type=Path, help="where models are kept")
    parser.add_argument("-o", "--output", type=Path, default=Path("compare"), help="without suffix")
    options = parser.parse_args()
    names, nets = [name for name in options.peers.split(",") if name], options.nets.split(",")
    for name, known in [*((name, PEERS) for name in names), *((name, zoo.ZOO) for name in nets)]:
        if name not in known:
            parser.error(f"{name} is none of {', '.join(known)}")
    plan = Plan(options.threads, options.rounds, options.round_seconds, options.starts)
    if min(plan.rounds, plan.starts, *plan.threads) < 1:
        parser.error("threads, rounds and starts are at least one")
    if not 0 < plan.round_seconds <= 3600:
        parser.error("a round takes more than 0 and at most 3600 seconds")
    work = options.work or cache_folder() / "compare"
    skipped = install(names)
    for name, reason in skipped.items():
        print(f"{name} does not take part: {reason}", file=sys.stderr)
    engines: list[Engine] = [Edgekit(options.target)]
    try:
        engines.append(EdgekitFromC(options.target, program=from_c.build(work)))
    except PeerError as error:
        skipped[report.OWN_FROM_C] = str(error)
    engines += [PEERS[name] for name in names if name not in skipped]
    command = (
        f"python benchmarks/compare.py --nets {options.nets} --peers {options.peers} --threads {','.join(map(str, plan.threads))} "
        f"--rounds {plan.rounds} --round-seconds {plan.round_seconds:g} --starts {plan.starts}"
        + (f" --target {options.target}" if options.target else "")
    )
    run(engines, (Net.make(name, work) for name in nets), plan, work, options.output, skipped, command)


if __name__ == "__main__":
    main()
