# SPDX-License-Identifier: Apache-2.0
"""Recorded words in place of synthetic ones, from folders that are laid out as those of the Speech Commands data set:

    FOLDER/WORD/SPEAKER_*.wav            a second or less
    FOLDER/_background_noise_/*.wav      of any length

Sound is mono, in 16 bits, at `RATE`.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import TypeVar

import numpy as np
from log_mel import RATE
from words import LABELS

NOISE = "_background_noise_"

T = TypeVar("T", list[Path], np.ndarray)


class Recordings:
    """A part of a data set; what two parts with different shares give is disjoint.

    A class is the folder of its name; "unknown" is every other word, "silence" the noise.

    Args:
        folder: of the data set.
        first, last: where the part begins and ends in each word's files, sorted by name, and in each recording of noise, as shares of
            the whole. As names begin with the speaker, at most one speaker of a word is in both of two parts.
    """

    def __init__(self, folder: Path, first: float, last: float) -> None:
        self._files: dict[str, list[Path]] = {label: [] for label in LABELS}
        for word in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != NOISE):
            label = word.name if word.name in LABELS else "unknown"
            self._files[label] += _part(sorted(word.glob("*.wav")), first, last)
        self._noise = [_part(_read(path), first, last) for path in sorted((folder / NOISE).glob("*.wav"))]

    def clips(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One clip for each label, as `words.clips`; no file twice. What a file lacks in a second is zero.

        Args:
            labels: indices of `LABELS`.

        Returns:
            int16[N, RATE]

        Raises:
            ValueError: a class has fewer files than there are labels of it, or there is no noise of a second.
        """
        sounds = np.zeros((len(labels), RATE), np.int16)
        for label in np.unique(labels):
            places = np.flatnonzero(labels == label)
            for place, sound in zip(places, self._of(LABELS[label], len(places), rng), strict=True):
                sounds[place, : len(sound)] = sound[:RATE]
        return sounds

    def _of(self, label: str, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        if label == "silence":
            return [self._silence(rng) for _ in range(count)]
        files = self._files[label]
        if len(files) < count:
            raise ValueError(f"{count} clips of {label!r} are asked for, and {len(files)} there")
        return [_read(files[i]) for i in rng.permutation(len(files))[:count]]

    def _silence(self, rng: np.random.Generator) -> np.ndarray:
        """A second of noise from anywhere, at most as loud as it was recorded."""
        long = [noise for noise in self._noise if len(noise) >= RATE]
        if not long:
            raise ValueError(f"{NOISE} has no recording of which this part is a second long")
        noise = long[rng.integers(len(long))]
        start = rng.integers(len(noise) - RATE + 1)
        return np.rint(noise[start : start + RATE] * rng.random()).astype(np.int16)


def _part(whole: T, first: float, last: float) -> T:
    return whole[int(first * len(whole)) : int(last * len(whole))]


def _read(path: Path) -> np.ndarray:
    """int16[samples]"""
    with wave.open(str(path)) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise ValueError(f"{path}: is not mono, in 16 bits, at {RATE} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")
