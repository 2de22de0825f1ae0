# SPDX-License-Identifier: Apache-2.0
"""The keyword-spotting example: its features in C are those in Python, its network is as good as its README says, and
the boards hear what this machine hears."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgekit
from edgekit.commands.convert import convert
from edgekit.commands.eval import evaluate
from edgekit.data import Preprocessing
from edgekit.format.reader import read
from edgekit.program import Quant
from tests.firmware.boards import ready
from tests.package.test_docs import block, shell
from tests.sanitizers import skip_without_sanitizers


@pytest.fixture(scope="module")
def example(root: Path) -> Path:
    """The example's folder."""
    return root / "firmware_examples" / "keyword-spotting"


@pytest.fixture(scope="module")
def modules(example: Path) -> Iterator[dict[str, ModuleType]]:
    """The example's scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(example))
        yield {name: importlib.import_module(name) for name in ("log_mel", "words", "recordings", "train")}


@pytest.fixture(scope="module")
def model(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With int8 features as input, as make.sh converts it."""
    path = tmp_path_factory.mktemp("model") / "keywords.ekm"
    convert(example / "keywords.onnx", path, calibration=example / "keywords_calib.npz", input_std="32", io="int8")
    return path


def hostile_sounds(rng: np.random.Generator) -> np.ndarray:
    """Clips with the largest and smallest values there are, and noise of every loudness. int16[N, 16000]"""
    n = np.arange(16000)
    clips = [np.full(16000, value) for value in (-32768, -1, 0, 1, 32767)]
    clips += [np.where(n // period % 2, 32767, -32768) for period in (1, 2, 8, 100, 1000)]
    clips += [np.where(rng.random(16000) < 0.5, 32767, -32768), rng.integers(-32768, 32768, 16000)]
    clips += [np.rint(rng.normal(0, 2.0**bits, 16000)).clip(-32768, 32767) for bits in range(0, 15, 2)]
    clips += [np.rint(32767 * np.sin(n * frequency)) for frequency in rng.uniform(0, np.pi, 8)]
    return np.array(clips, np.int16)


def test_log_mel(example: Path, modules: dict[str, ModuleType], rng: np.random.Generator, tmp_path: Path) -> None:
    """C computes what NumPy computes, without overflow."""
    program = tmp_path / "log_mel"
    (tmp_path / "main.c").write_text("""
        #include <stdio.h>
        #include "log_mel.h"
        int main(void)
        {
            static int16_t sound[LOG_MEL_SAMPLES];
            static int8_t features[LOG_MEL_BYTES];
            while (fread(sound, sizeof sound, 1, stdin) == 1) {
                log_mel_clip(sound, features);
                fwrite(features, sizeof features, 1, stdout);
            }
            return 0;
        }
    """)
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=undefined,address", "-fno-sanitize-recover"]
    command = ["cc", *flags, f"-I{example}", str(tmp_path / "main.c"), str(example / "log_mel.c"), "-o", str(program)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    skip_without_sanitizers(compiled.returncode != 0, compiled.stderr)
    assert compiled.returncode == 0, compiled.stderr
    words = modules["words"]
    sounds = np.concatenate([hostile_sounds(rng), words.clips(np.arange(len(words.LABELS)), rng)])
    done = subprocess.run([program], input=sounds.tobytes(), stdout=subprocess.PIPE, check=True)
    expected = modules["log_mel"].log_mel(sounds)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int8).reshape(expected.shape), expected)


def test_log_mel_is_what_it_says(modules: dict[str, ModuleType], rng: np.random.Generator) -> None:
    """The integers stay near the same features in binary64: a step is a quarter of a factor of two."""
    definition = modules["log_mel"]
    sound = np.rint(rng.normal(0, 1000, (4, 16000))).clip(-32768, 32767).astype(np.int16)
    starts = np.arange(definition.FRAMES) * definition.HOP
    frames = sound[:, starts[:, None] + np.arange(definition.FRAME)]
    power = np.abs(2 * np.fft.rfft(frames * np.hanning(definition.FRAME + 1)[:-1])) ** 2
    edges = definition.BAND_EDGES
    bins = np.arange(power.shape[-1])
    triangles = [np.interp(bins, edges[b : b + 3], [0, 1, 0]) for b in range(definition.BANDS)]
    exact = 4 * np.log2(256 * power @ np.array(triangles).T) - 128
    # Rounding down takes up to one step, the straight line between powers of two 0.35.
    difference = exact - definition.log_mel(sound)
    assert difference.min() > -0.1
    assert difference.max() < 1.5


def test_tables(example: Path, modules: dict[str, ModuleType]) -> None:
    assert (example / "log_mel_tables.h").read_text(encoding="utf-8") == modules["log_mel"].tables()


def test_network_takes_features_as_they_are(model: Path) -> None:
    program = read(model)
    features = program.tensors[program.inputs[0]]
    assert features.shape == (1, 1, 48, 16)
    assert features.quant == Quant(np.float32(1 / 32), 0)


def test_accuracy(example: Path, model: Path) -> None:
    """What the README says, give or take two clips: another processor's float arithmetic can turn them."""
    stated = re.search(r"^\| ([\d.]+) % \| ([\d.]+) % \| ([\d,]+) \|$", (example / "README.md").read_text(encoding="utf-8"), re.M)
    assert stated
    data = example / "keywords_test.npz"
    float_top1 = evaluate(example / "keywords.onnx", data, preprocessing=Preprocessing.parse(std="32"))
    int8_top1 = evaluate(model, data)
    assert float_top1.samples == int8_top1.samples == int(stated[3])
    assert abs(100 * float_top1.value - float(stated[1])) <= 0.5
    assert abs(100 * int8_top1.value - float(stated[2])) <= 0.5


@pytest.fixture
def speech(modules: dict[str, ModuleType], tmp_path: Path) -> Path:
    """A data set: 20 files of each keyword and of two other words, whose samples are all the file's number from 1 on, and noise of 0.5 and
    30 seconds, positive in the first nine tenths and then negative."""
    names = (*modules["words"].LABELS[2:], "bed", "cat")
    files = {f"{name}/{speaker:02}_0.wav": np.full(16000, 20 * i + speaker + 1) for i, name in enumerate(names) for speaker in range(20)}
    files["yes/00_0.wav"] = files["yes/00_0.wav"][:12345]
    files |= {f"_background_noise_/{count}.wav": np.repeat([1000] * 9 + [-1000], count // 10) for count in (8000, 480000)}
    for name, sound in files.items():
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(sound.astype("<i2").tobytes())
    return tmp_path / "speech"


def test_recordings(modules: dict[str, ModuleType], speech: Path, rng: np.random.Generator) -> None:
    """Training and test share no file; classes are the folders of their names; what is missing in a second is zero."""
    names = modules["words"].LABELS
    fit, test = modules["train"].sources(speech)
    for clips, speakers, sign in ((fit, range(18), 1), (test, range(18, 20), -1)):
        labels = rng.permutation(np.repeat(np.arange(len(names)), len(speakers)))
        sounds = clips(labels, rng)
        assert sounds.shape == (len(labels), 16000) and sounds.dtype == np.int16
        for i, name in enumerate(names[2:]):
            given = sounds[labels == names.index(name), 0]
            assert sorted(given) == [20 * i + speaker + 1 for speaker in speakers]
        given = sounds[labels == names.index("unknown"), 0]
        assert len(set(given)) == len(speakers)
        assert set(given) <= {20 * i + speaker + 1 for i in (6, 7) for speaker in speakers}
        assert (sign * sounds[labels == names.index("silence")] >= 0).all()
        short = sounds[(labels == names.index("yes")) & (sounds[:, 0] == 1)]
        assert len(short) == (0 in speakers)
        assert all((sound == np.repeat([1, 0], [12345, 16000 - 12345])).all() for sound in short)


def test_recordings_that_are_missing(modules: dict[str, ModuleType], speech: Path, rng: np.random.Generator) -> None:
    recordings = modules["recordings"].Recordings
    with pytest.raises(ValueError, match="3 clips of 'yes' are asked for, and 2 there"):
        recordings(speech, 0.9, 1).clips(np.full(3, 2), rng)
    with pytest.raises(ValueError, match="_background_noise_ has no recording of which this part is a second long"):
        recordings(speech, 0.98, 1).clips(np.zeros(1, int), rng)


def test_labelled_recordings(modules: dict[str, ModuleType], speech: Path, rng: np.random.Generator) -> None:
    """Features and classes as the training takes them, of a number of clips that is no multiple of anything."""
    train = modules["train"]
    fit, _ = train.sources(speech)
    features, labels = train.labelled(fit, 131, rng)
    assert features.shape == (131, 48, 16, 1) and features.dtype == np.int8
    assert sorted(labels) == sorted(i % 8 for i in range(131))
    assert labels.tolist() != [i % 8 for i in range(131)]
    assert train.classes(train.network(rng), features).shape == (131,)


@pytest.mark.slow
def test_boards(example: Path, modules: dict[str, ModuleType], root: Path, tmp_path: Path) -> None:
    """The README's commands: both boards recognize every clip, with the scores that this machine computes."""
    for name in ("cortex-m4", "cortex-m55"):
        ready(name)
    readme = (example / "README.md").read_text(encoding="utf-8")
    for name in ("keywords.onnx", "keywords_calib.npz", "keywords_test.npz"):
        shutil.copy(example / name, tmp_path)
    run = shell(root, tmp_path)
    assert "top1" in run(block(readme, "accuracy commands", "sh"))
    assert block(readme, "example command", "sh") == "./make.sh\n"
    shown = run(str(example / "make.sh"))
    assert len(re.findall(r"^8 of 8 words; stack bytes \d+$", shown, re.M)) == 2

    labels = modules["words"].LABELS
    features = modules["log_mel"].log_mel(modules["words"].examples())
    scores = edgekit.load(tmp_path / "keywords.ekm").run(features[:, None])["scores"].astype(int)
    expected = [
        f"said {label}, heard {labels[row.argmax()]}: {int(100 * (row.max() + 128) / 256 + 0.5)} %"
        for label, row in zip(labels, scores, strict=True)
    ]
    assert re.findall(r"^said .*$", shown, re.M) == 2 * expected
    # Another processor's sine may differ in the last place, and with it a clip and its score.
    assert re.findall(r"^(said .*): \d+ %$", block(readme, "example output", ""), re.M) == [line.rsplit(":")[0] for line in expected]
