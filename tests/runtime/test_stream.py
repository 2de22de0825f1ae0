# SPDX-License-Identifier: Apache-2.0
"""Streams of samples through a pipeline: bits and errors as of one run after the other, however cut."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.errors import DataError, InputError
from edgekit.runtime import pipeline
from edgekit.runtime.model import MAX_THREADS, Model
from edgekit.runtime.pipeline import balanced_cuts, measured_cuts


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    output = tmp_path_factory.mktemp("stream") / "digits.ekm"
    edgekit.convert(
        digits / "digits.onnx",
        output,
        calibration=digits / "digits_calib.npz",
        input_layout="nhwc",
        input_std=16,
    )
    return edgekit.load(output)


@pytest.fixture(scope="module")
def images(digits: Path) -> np.ndarray:
    """Raw test images, uint8 [40,8,8,1]."""
    return np.load(digits / "digits_test.npz")["x"][:40]


@pytest.fixture(scope="module")
def ops(model: Model) -> int:
    return len(model.inspect()["ops"])


def logits(outputs: Iterator[dict[str, np.ndarray]]) -> np.ndarray:
    return np.concatenate([each["logits"] for each in outputs])


# ---- Cuts ------------------------------------------------------------------------------------------


def slowest(costs: list[int], cuts: list[int]) -> int:
    return max(sum(costs[a:b]) for a, b in itertools.pairwise([*cuts, len(costs)]))


def test_cuts_make_the_slowest_stage_as_fast_as_it_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        costs = (rng.integers(0, 50, int(rng.integers(1, 9))) * rng.integers(0, 2)).tolist()
        stages = int(rng.integers(1, 12))
        cuts = balanced_cuts(costs, stages)
        assert cuts[0] == 0 and all(a < b for a, b in itertools.pairwise(cuts)) and cuts[-1] < len(costs)
        assert len(cuts) <= stages
        others = (
            [0, *more]
            for n in range(min(stages, len(costs)))
            for more in itertools.combinations(range(1, len(costs)), n)
        )
        assert slowest(costs, cuts) == min(slowest(costs, other) for other in others), f"seed {seed}, {costs}"


def test_measured_cuts_are_cuts_of_the_program(model: Model, images: np.ndarray, ops: int) -> None:
    for stages in (1, 2, ops, 64):
        cuts = measured_cuts(model, images[0], stages)
        assert cuts[0] == 0 and all(a < b for a, b in itertools.pairwise(cuts))
        assert len(cuts) <= min(stages, ops) and cuts[-1] < ops


# ---- Streams ---------------------------------------------------------------------------------------


def test_any_number_of_stages_gives_the_bits_of_run(model: Model, images: np.ndarray, ops: int) -> None:
    expected = model.run(images)["logits"]
    for stages in (1, 2, 3, ops, ops + 5, 64):
        np.testing.assert_array_equal(logits(model.stream(images, stages)), expected, f"{stages} stages")


def test_any_cuts_and_kernels_give_the_bits_of_run(model: Model, images: np.ndarray, ops: int) -> None:
    expected = model.run(images)["logits"]
    for kernels in ("scalar", "auto"):
        for cut in range(1, ops + 2):
            got = logits(model.stream(images, kernels=kernels, cuts=[0, cut]))
            np.testing.assert_array_equal(got, expected, f"{kernels}, cut at {cut}")
        every = logits(model.stream(images, kernels=kernels, cuts=np.arange(ops)))
        np.testing.assert_array_equal(every, expected, kernels)


def test_short_streams(model: Model, images: np.ndarray) -> None:
    assert list(model.stream([])) == []
    for count in range(1, 6):
        np.testing.assert_array_equal(
            logits(model.stream(images[:count], 3)), model.run(images)["logits"][:count], f"{count} samples"
        )


def test_samples_are_taken_as_there_is_room(model: Model, images: np.ndarray) -> None:
    taken: list[int] = []

    def samples() -> Iterator[np.ndarray]:
        for number in itertools.count():
            taken.append(number)
            yield images[number % len(images)]

    outputs = model.stream(samples(), cuts=[0, 2, 3])
    assert taken == []
    for number in range(9):
        np.testing.assert_array_equal(next(outputs)["logits"], model.run(images[number])["logits"])
        assert len(taken) == number + 2 * 3
    outputs.close()  # with samples under way


def threads() -> set[str]:
    """The numbers of this process's threads."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("no /proc/self/task to count threads in")
    return {task.name for task in tasks.iterdir()}


def wait_for_threads(count: int, before: set[str]) -> None:
    """Until there are so many that were not there before; one that was joined can be listed for another moment."""
    deadline = time.monotonic() + 60
    while len(threads() - before) != count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(threads() - before) == count


@pytest.fixture
def before() -> Iterator[set[str]]:
    """The threads that are there, without any that garbage holds; none is collected meanwhile."""
    gc.collect()
    gc.disable()
    yield threads()
    gc.enable()


def test_an_abandoned_stream_ends_its_threads(model: Model, images: np.ndarray, before: set[str]) -> None:
    outputs = model.stream(itertools.cycle(images), cuts=[0, 1, 2])
    next(outputs)
    wait_for_threads(2, before)
    del outputs
    wait_for_threads(0, before)


@pytest.mark.parametrize("wrong", [0, 1, 5], ids=["first", "second", "sixth"])
def test_a_failed_stream_ends_its_threads(
    model: Model, images: np.ndarray, before: set[str], wrong: int
) -> None:
    samples = [*images[:wrong], np.zeros((8, 8, 2), np.uint8)]
    with pytest.raises(DataError) as kept:
        list(model.stream(samples, cuts=[0, 1, 2]))
    wait_for_threads(0, before)  # though the error and its traceback are still there
    assert kept.value.__traceback__ is not None


def test_a_stream_abandoned_behind_its_error_ends_its_threads(
    model: Model, images: np.ndarray, before: set[str]
) -> None:
    outputs = model.stream([*images[:3], "no array"], cuts=[0, 1, 2])
    next(outputs)  # the sample in error is known by now
    wait_for_threads(2, before)
    del outputs
    wait_for_threads(0, before)


def test_an_end_within_the_model_is_no_end_of_the_samples(
    model: Model, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cuts(*_: object) -> list[int]:
        raise StopIteration

    monkeypatch.setattr(pipeline, "measured_cuts", cuts)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(model.stream(images))


def test_an_error_of_the_source_comes_behind_the_outputs_before_it(model: Model, images: np.ndarray) -> None:
    def samples(count: int) -> Iterator[np.ndarray]:
        yield from images[:count]
        raise OSError("the camera is gone")

    for count in (0, 1, 2, 3, 4, 5, 11):
        outputs, got = model.stream(samples(count), cuts=[0, 2]), []
        with pytest.raises(OSError, match="the camera is gone"):
            for each in outputs:
                got.append(each["logits"])
        assert len(got) == count
        for number, array in enumerate(got):
            np.testing.assert_array_equal(array, model.run(images[number])["logits"])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((3, 8, 8, 1), np.uint8),
        np.zeros((1, 1, 8, 8), np.float32),
        "no array",
    ],
    ids=["shape", "several", "another type", "text"],
)
def test_a_wrong_sample_comes_behind_the_outputs_before_it(
    model: Model, images: np.ndarray, wrong: object
) -> None:
    got = []
    with pytest.raises(DataError):
        for each in model.stream([*images[:5], wrong, *images[5:]], cuts=[0, 1, 2]):
            got.append(each["logits"])
    np.testing.assert_array_equal(np.concatenate(got), model.run(images[:5])["logits"])


def test_options_that_cannot_be(model: Model, images: np.ndarray, root: Path) -> None:
    for options in (
        {"stages": 0}, {"stages": MAX_THREADS + 1}, {"stages": 1.5}, {"kernels": "mmx"}, {"cuts": []}, {"cuts": [1, 2]},
        {"cuts": [0, 3, 3]}, {"cuts": range(MAX_THREADS + 1)},
    ):  # fmt: skip
        with pytest.raises(InputError):
            model.stream(images, **options)
    stateful = edgekit.load(root / "tests" / "fuzz" / "corpus" / "valid" / "counter.ekm")
    assert stateful.state_bytes > 0 and model.state_bytes == 0
    with pytest.raises(InputError, match="keeps state"):
        stateful.stream([])
