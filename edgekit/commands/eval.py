# SPDX-License-Identifier: Apache-2.0
"""Accuracy on labelled data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.commands import Progress, no_progress
from edgekit.data import DataSource, Preprocessing
from edgekit.engines import Engine, Feed, Sample, open_engine
from edgekit.errors import DataError, InputError


@dataclass(frozen=True)
class Evaluation:
    """The value of a metric over `samples` samples: a share for top1, an area for auc, a mean for mse."""

    metric: str
    value: float
    samples: int


def evaluate(
    model: Path,
    data: DataSource,
    metric: str = "top1",
    preprocessing: Preprocessing | None = None,
    *,
    kernels: str = "auto",
    threads: int = 1,
    samples: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Runs labelled data through a `.ekm` (C runtime) or a float `.onnx` (ONNX Runtime).

    Args:
        metric: `top1`: the largest value of the first output is at the label. `auc`: area under the ROC
            curve of a score against labels 0 and 1, where the score is output index 1, or the mean squared
            difference of output and input where their shapes match. `mse`: mean squared difference of the
            first output and the labels, or the input where there are no labels of the output's size.
        samples: use at most this many.

    Raises:
        DataError: no labels, or data that does not fit the model or the metric.
        InputError: unknown metric.
    """
    if metric not in METRICS:
        raise InputError(f"--metric {metric}: unknown; use one of {', '.join(METRICS)}")
    engine = open_engine(Path(model), kernels, threads)
    feed = engine.open(data, preprocessing or Preprocessing(), samples)
    if feed.labels is None and metric != "mse":
        raise DataError(f"{_named(data)}: holds no labels 'y', which {metric} needs")
    try:
        value = METRICS[metric](engine, feed, progress or no_progress)
    except _Unfit as error:
        raise DataError(f"{_named(data)}: {error}") from error
    return Evaluation(metric, float(value), feed.samples)


class _Unfit(DataError):
    """The data does not fit the metric; whoever opened it adds its name."""


def _top1(engine: Engine, feed: Feed, progress: Progress) -> float:
    labels = _class_labels(feed)
    hits = done = 0
    for sample in feed:
        output = _first(engine.run(sample.arrays))
        scores = _by_sample(output, sample)
        highest = scores.argmax(axis=1)
        if labels[done : done + sample.count].max() >= scores.shape[1]:
            raise _Unfit(f"label {labels[done : done + sample.count].max()} but the model has {scores.shape[1]} classes")
        hits += int((highest == labels[done : done + sample.count]).sum())
        done += sample.count
        progress("evaluating", done, feed.samples)
    return hits / done


def _auc(engine: Engine, feed: Feed, progress: Progress) -> float:
    labels = _class_labels(feed)
    if set(np.unique(labels)) != {0, 1}:
        raise _Unfit("auc needs labels 0 and 1, both of them")
    scores: list[np.ndarray] = []
    done = 0
    for sample in feed:
        output = _first(engine.run(sample.arrays))
        array = next(iter(sample.arrays.values()))
        if output.size == array.size and output.shape == array.shape:
            difference = output.astype(np.float64) - engine.real_input(sample.arrays)
            score = _by_sample(difference**2, sample).mean(axis=1)
        else:
            rows = _by_sample(output, sample)
            if rows.shape[1] < 2:
                raise _Unfit("auc takes the score from output index 1, but the model has one output value")
            score = rows[:, 1].astype(np.float64)
        scores.append(score)
        done += sample.count
        progress("evaluating", done, feed.samples)
    return area_under_curve(np.concatenate(scores), labels)


def _mse(engine: Engine, feed: Feed, progress: Progress) -> float:
    total, count, done = 0.0, 0, 0
    for sample in feed:
        output = _by_sample(_first(engine.run(sample.arrays)).astype(np.float64), sample)
        wanted = None if feed.labels is None else feed.labels[done : done + sample.count]
        if wanted is None or wanted.size != output.size:  # classes of an autoencoder's data are no target
            wanted = _by_sample(engine.real_input(sample.arrays), sample)
        if wanted.size != output.size:
            raise _Unfit(f"mse compares arrays of one size; labels or input have {wanted.size} values, the output {output.size}")
        total += float(((output - wanted.reshape(output.shape)) ** 2).sum())
        count += output.size
        done += sample.count
        progress("evaluating", done, feed.samples)
    return total / count


METRICS: dict[str, Callable[[Engine, Feed, Progress], float]] = {"top1": _top1, "auc": _auc, "mse": _mse}


def _by_sample(array: np.ndarray, sample: Sample) -> np.ndarray:
    """The values of each real sample as a row."""
    if array.size % sample.size:
        raise _Unfit(f"{array.size} values of the model do not divide among {sample.size} samples, which the metric needs")
    return array.reshape(sample.size, -1)[: sample.count]


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """The ROC AUC by the rank-sum statistic (Mann and Whitney, 1947); equal scores share their rank."""
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[group.reshape(-1)]
    positive = labels == 1
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def _class_labels(feed: Feed) -> np.ndarray:
    labels = feed.labels
    assert labels is not None
    labels = labels.reshape(len(labels), -1)
    with np.errstate(invalid="ignore"):  # NaN and what is too large become other numbers
        classes = labels.astype(np.int64)
    if labels.shape[1] != 1 or not np.array_equal(labels, classes) or classes.min() < 0:
        raise _Unfit("labels 'y' must be one class number per sample, 0 or more")
    return classes[:, 0]


def _first(outputs: dict[str, np.ndarray]) -> np.ndarray:
    return next(iter(outputs.values()))


def _named(data: DataSource) -> str:
    return str(data) if isinstance(data, (str, Path)) else "data"
