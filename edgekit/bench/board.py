# SPDX-License-Identifier: Apache-2.0
"""Latency on a remote board, by its own clock: what passes over the network is not measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.bench.measure import ROUNDS, Timing
from edgekit.bench.peers import noise
from edgekit.bench.profile import OperatorTime, table
from edgekit.bench.server import MIN_READINGS
from edgekit.commands import Progress
from edgekit.format.reader import read
from edgekit.program import Program
from edgekit.remote import Board
from edgekit.runtime.model import Model, OpTime
from edgekit.serving import Client, Prepared, Reply, Show
from edgekit.verify.backends.base import Sample

_PROFILE_RUNS = 50


@dataclass(frozen=True)
class BoardTiming:
    """What was measured, and on what.

    Attributes:
        kernels: the fastest set that was allowed.
        profile: each operator's time, if asked for.
    """

    timing: Timing
    board: str
    target: str
    processors: int
    kernels: str
    profile: list[OperatorTime] | None


def bench_on(
    url: str,
    model: Path,
    *,
    threads: int = 1,
    kernels: str = "auto",
    seconds: float = 1.0,
    profile: bool = False,
    progress: Progress | None = None,
) -> BoardTiming:
    """Times a `.ekm` on the board at `url`, as `bench` does here: rounds of calls, each timed on its own.

    Args:
        seconds: measuring time, warm-up excluded.

    Raises:
        InputError: the model or an option cannot be used.
        BoardError: the board cannot be reached or used.
    """
    program = read(model)
    sample = {port.name: noise(port.shape, port.dtype) for port in Model(model).inputs}
    with Board(url) as board, board.serve() as client:
        bits = board.kernel_bits(kernels)
        load = client.load_file(program, board.put(model))
        instance = client.prepare(bits, threads, repack=True)
        first = client.run(instance, sample).nanoseconds
        times = _measure(client, instance, seconds, progress) / 1e3
        timing = Timing(
            engine="edgekit",
            median_us=float(np.median(times)),
            min_us=float(times.min()),
            p99_us=float(np.percentile(times, 99)),
            load_us=(load + instance.nanoseconds) / 1e3,
            first_run_us=first / 1e3,
            calls=len(times),
        )
        operators = table(model, _profile(client, instance, program, sample)) if profile else None
        used = board.best if kernels == "auto" else kernels
        return BoardTiming(timing, url, board.target.name, board.capabilities.processors, used, operators)


def _measure(client: Client, instance: Prepared, seconds: float, progress: Progress | None) -> np.ndarray:
    """Nanoseconds of every timed call."""
    calls = MIN_READINGS
    while (taken := float(client.time(instance, calls).sum())) < seconds / ROUNDS * 1e9:
        calls *= 2
    calls = max(MIN_READINGS, int(calls * seconds / ROUNDS * 1e9 / taken))
    rounds = []
    for i in range(ROUNDS):
        rounds.append(client.time(instance, calls + 1)[1:])  # the first brings code and weights back into the caches
        if progress:
            progress("measuring", i + 1, ROUNDS)
    return np.concatenate(rounds)


def _profile(client: Client, instance: Prepared, program: Program, sample: Sample) -> list[OpTime]:
    """The median time of each operator."""
    runs = [op_times(instance, program, client.run(instance, sample, Show.TIMES)) for _ in range(_PROFILE_RUNS)]
    medians = np.median([[row.nanoseconds for row in rows] for rows in runs], axis=0)
    return [replace(row, nanoseconds=int(median)) for row, median in zip(runs[0], medians, strict=True)]


def op_times(instance: Prepared, program: Program, reply: Reply) -> list[OpTime]:
    """The operators of a run that shows times."""
    index = {name: i for i, name in enumerate(program.tensors)}
    kernels = dict(zip(instance.ops, instance.kernels, strict=True))
    return [
        OpTime(number, op.opcode, kernels.get(number) or "none", int.from_bytes(reply.tensors[index[op.outputs[0]]], "little"))
        for number, op in enumerate(program.ops)
    ]
