# SPDX-License-Identifier: Apache-2.0
"""Synthetic speech: words from a source, voice or noise, and a filter, the resonances of a vocal tract.

    python words.py words.h

writes a C header with one clip of each class, which neither training nor test has.

A word is a sequence of sounds. Each gives targets for three formants, for the loudness of voice and noise and for the noise's band; they
are joined by smooth transitions. Speaker (pitch, length of the vocal tract), tempo, loudness, position in the second and
background are random. It sounds like a machine, and is no substitute for recordings of people.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from log_mel import RATE
from numpy.lib.stride_tricks import sliding_window_view

LABELS = ("silence", "unknown", "yes", "no", "up", "down", "left", "right")

_WINDOW = 512
_STEP = 128
"""Samples of the windows in which filters stand still, and from one to the next."""
_EXAMPLES_SEED = 1


@dataclass(frozen=True)
class Sound:
    """What a phoneme asks of the synthesizer.

    Attributes:
        ms: mean duration.
        formants: Hz, of a grown man.
        voice, noise: amplitudes.
        band: centre and width of the noise, in Hz.
    """

    ms: float
    formants: tuple[float, float, float]
    voice: float = 0.0
    noise: float = 0.0
    band: tuple[float, float] = (3000.0, 2000.0)


_NEUTRAL = (500.0, 1500.0, 2500.0)
_SOUNDS = {
    # vowels
    "i": Sound(130, (270, 2290, 3010), 1.0),
    "I": Sound(100, (390, 1990, 2550), 1.0),
    "e": Sound(140, (530, 1840, 2480), 1.0),
    "A": Sound(140, (730, 1090, 2440), 1.0),
    "V": Sound(140, (640, 1190, 2390), 1.0),
    "o": Sound(120, (570, 840, 2410), 1.0),
    "U": Sound(90, (440, 1020, 2240), 0.9),
    "u": Sound(120, (300, 870, 2240), 0.9),
    "R": Sound(150, (490, 1350, 1690), 1.0),
    # voiced consonants
    "j": Sound(70, (270, 2290, 3010), 0.7),
    "w": Sound(70, (300, 610, 2200), 0.7),
    "r": Sound(80, (310, 1060, 1380), 0.7),
    "l": Sound(80, (360, 1100, 2600), 0.6),
    "n": Sound(90, (250, 1300, 2300), 0.35),
    "m": Sound(90, (250, 1000, 2200), 0.35),
    # fricatives
    "s": Sound(140, _NEUTRAL, 0.0, 0.30, (5800, 1300)),
    "S": Sound(140, _NEUTRAL, 0.0, 0.30, (3000, 1000)),
    "h": Sound(60, _NEUTRAL, 0.0, 0.06, (1500, 1500)),
    "f": Sound(110, _NEUTRAL, 0.0, 0.09, (5500, 4000)),
    "v": Sound(70, (300, 1200, 2300), 0.3, 0.05, (5500, 4000)),
    # plosives: a closure, and what follows it
    "-": Sound(60, _NEUTRAL),
    "P": Sound(15, (400, 900, 2200), 0.0, 0.25, (1000, 900)),
    "T": Sound(25, (400, 1700, 2600), 0.0, 0.35, (4500, 1500)),
    "K": Sound(25, (400, 1800, 2300), 0.0, 0.35, (2000, 900)),
    "D": Sound(12, (300, 1700, 2600), 0.2, 0.20, (4000, 1500)),
    "G": Sound(15, (300, 1900, 2200), 0.2, 0.20, (2000, 900)),
    "B": Sound(10, (300, 800, 2200), 0.2, 0.15, (900, 900)),
}

_CLOSURE = _SOUNDS["-"]

_KEYWORDS = {"yes": "jes", "no": "noU", "up": "V-P", "down": "DAUn", "left": "lef-T", "right": "rAI-T"}
_OTHERS = ("s-TA-P", "GoU", "An", "BR-D", "siKs", "for", "wVn", "vIn", "T-ru", "hAUs", "KV-P", "-TAUn", "nAU", "lIf-T", "lAI-T", "je-T")
"""What "unknown" is: stop, go, on, bird, six, four, one, vin, true, house, and cup, town, now, lift, light, yet, which are like keywords."""


def clips(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One clip for each label: indices of `LABELS` to int16[N, RATE]."""
    return np.stack([clip(LABELS[label], rng) for label in labels])


def clip(label: str, rng: np.random.Generator) -> np.ndarray:
    """A second in which a word is said, or none. int16[RATE]"""
    sound = _background(rng)
    if label != "silence":
        sounds = str(rng.choice(_OTHERS)) if label == "unknown" else _KEYWORDS[label]
        word = _say([_SOUNDS[name] for name in sounds], rng)[:RATE]
        start = rng.integers(0, RATE - len(word) + 1)
        sound[start : start + len(word)] += word
    return np.rint(sound).clip(-32768, 32767).astype(np.int16)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Noise between white and brown with an RMS of 3 to 800, and sometimes a hum. float64[RATE]"""
    spectrum = np.fft.rfft(rng.normal(size=RATE))
    noise = np.fft.irfft(spectrum * (np.arange(len(spectrum)) + 50.0) ** -rng.uniform(0, 1), RATE)
    noise *= 10 ** rng.uniform(0.5, 2.9) / noise.std()
    if rng.random() < 0.3:
        noise += 10 ** rng.uniform(0.5, 2.4) * np.sin(2 * np.pi * rng.uniform(50, 400) * np.arange(RATE) / RATE)
    return noise


def _say(sounds: list[Sound], rng: np.random.Generator) -> np.ndarray:
    """A word by a random speaker, with an RMS of 600 to 8,000. float64[samples]"""
    tract = rng.uniform(0.9, 1.25)  # a child's is short, and its formants are high
    pitch = 100 * tract**3 * rng.uniform(0.8, 1.3)
    tempo = rng.uniform(0.8, 1.3)
    sounds = [_CLOSURE, *sounds, _CLOSURE]
    ends = np.cumsum([sound.ms / tempo * rng.uniform(0.8, 1.2) * RATE / 1000 for sound in sounds])

    def track(targets: list[tuple[float, ...]], transition_ms: float) -> np.ndarray:
        return _track(np.array(targets), ends, transition_ms * RATE / 1000)

    formants = track([s.formants for s in sounds], 50) * tract * rng.uniform(0.9, 1.1, 3)
    voice = track([(s.voice,) for s in sounds], 25)[:, 0] * _pulses(pitch, int(ends[-1]), rng)
    noise = track([(s.noise,) for s in sounds], 10)[:, 0] * rng.normal(size=int(ends[-1])) * rng.uniform(0.6, 1.5)
    band = track([s.band for s in sounds], 30)
    word = _filtered(voice, _throat(formants[::_STEP], tract)) + _filtered(noise, _constriction(band[::_STEP]))
    return word * 10 ** rng.uniform(2.8, 3.9) / np.sqrt((word**2).mean())


def _track(targets: np.ndarray, ends: np.ndarray, transition: float) -> np.ndarray:
    """Targets float64[sounds, D], held by each sound and joined by straight lines, at every sample."""
    starts = np.concatenate([[0], ends[:-1]])
    half = np.minimum(transition, ends - starts) / 2
    knots = np.stack([starts + half, ends - half], 1).ravel()
    samples = np.arange(int(ends[-1]))
    return np.stack([np.interp(samples, knots, np.repeat(column, 2)) for column in targets.T], 1)


def _pulses(pitch: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """The voice's source: a pulse for each cycle of a falling pitch in Hz, and some breath. float64[count], RMS about 1"""
    fall = np.linspace(1.1, rng.uniform(0.8, 1.0), count) * (1 + 0.02 * np.sin(np.linspace(0, rng.uniform(5, 30), count)))
    cycles = np.floor(np.cumsum(pitch * fall) / RATE)
    return np.sqrt(RATE / pitch) * np.diff(cycles, prepend=0) + 0.05 * rng.normal(size=count)


def _throat(formants: np.ndarray, tract: float) -> np.ndarray:
    """Magnitudes of three moving and two fixed resonances, and the fall of the voice's spectrum. [frames, 3] to [frames, bins]"""
    fixed = np.broadcast_to([3500 * tract, 4500 * tract], (len(formants), 2))
    poles = np.concatenate([formants, fixed], 1)[..., None]
    f = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    magnitudes = poles**2 / np.sqrt((poles**2 - f**2) ** 2 + ((60 + 0.06 * poles) * f) ** 2)
    return _normal(magnitudes.prod(1) * 300 / (300 + f))


def _constriction(band: np.ndarray) -> np.ndarray:
    """Magnitudes of noise around a frequency. [frames, 2] to [frames, bins]"""
    f = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    return _normal(np.exp(-(((f - band[:, :1]) / band[:, 1:]) ** 2)))


def _normal(magnitudes: np.ndarray) -> np.ndarray:
    return magnitudes / np.sqrt((magnitudes**2).mean(-1, keepdims=True))


def _filtered(source: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    """`source` through filters that change every `_STEP` samples: windows, overlapped and added."""
    window = np.hanning(_WINDOW + 1)[:-1]
    padded = np.pad(source, (_WINDOW // 2, _WINDOW))
    frames = np.fft.rfft(sliding_window_view(padded, _WINDOW)[::_STEP][: len(magnitudes)] * window)
    frames = np.fft.irfft(frames * magnitudes, _WINDOW) * window
    result = np.zeros(len(padded))
    for i, frame in enumerate(frames):
        result[i * _STEP : i * _STEP + _WINDOW] += frame
    return result[_WINDOW // 2 :][: len(source)]


def header(sounds: np.ndarray) -> str:
    """A C header with int16[N, RATE] sounds, one of each label in their order."""
    rows = "\n".join("    {" + ",".join(map(str, sound)) + "}," for sound in sounds)
    labels = ", ".join(f'"{label}"' for label in LABELS)
    return f"""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by words.py: the classes, and a clip of each.
 */
#include <stdint.h>

#define WORDS {len(LABELS)}

static const char *const word_labels[WORDS] = {{{labels}}};

static const int16_t word_sounds[WORDS][{RATE}] = {{
{rows}
}};
"""


def examples() -> np.ndarray:
    """The clips of the header, which neither training nor test has. int16[len(LABELS), RATE]"""
    return clips(np.arange(len(LABELS)), np.random.default_rng(_EXAMPLES_SEED))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(header(examples()), encoding="utf-8")
