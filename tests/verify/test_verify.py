# SPDX-License-Identifier: Apache-2.0
"""What a report counts, and that a difference is found and named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgekit import program as p
from edgekit.errors import CheckError, DataError, InputError
from edgekit.export import builder as export_builder
from edgekit.format.writer import write
from edgekit.plan import plan
from edgekit.verify import run as verify_run
from edgekit.verify import verify
from edgekit.verify.backends import Backend, Observation, Sample, Subject
from edgekit.verify.backends.reference import Reference
from tests.support import Build, Random, quant


def chain() -> p.Program:
    """float [1,4,6] -> Lut -> Add with itself -> float: three 8-bit tensors of 24 values, one output."""
    b = Build()
    x = b.float_input((1, 4, 6), quant(0.1, 3))
    t = b.op(p.Lut, [x], (1, 4, 6), quant(0.1, 3), table=Random(1).int8(256))
    y = b.op(p.Add, [t, x], (1, 4, 6), quant(0.2, -5), lo=-128, hi=127)
    b.float_output(y)
    return b.finish()


class Altered(Backend):
    """The reference with one observation changed."""

    name = "altered"

    def __init__(self, subject: Subject, change: Callable[[int, Observation], None]) -> None:
        self._reference = Reference(subject)
        self._change = change

    def available(self) -> str | None:
        return None

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        for i, seen in enumerate(self._reference.run(samples)):
            copies = {path: {n: a.copy() for n, a in o.items()} for path, o in seen.outputs.items()}
            seen = Observation({n: a.copy() for n, a in seen.tensors.items()}, copies)
            self._change(i, seen)
            yield seen


@pytest.fixture
def against(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, Observation], None]], None]:
    """Makes the reference and an altered one the only backends."""

    def install(change: Callable[[int, Observation], None]) -> None:
        monkeypatch.setattr(verify_run, "all_backends", lambda s, threads: [Reference(s), Altered(s, change)])

    return install


def test_counts_every_tensor_and_output() -> None:
    report = verify(chain(), samples=7, backends=["reference", "onnxruntime"])
    reference, ort = report.backends
    assert report.ok and report.samples == 7 and report.expected == "reference"
    assert reference.tensors == ort.tensors == 3
    assert reference.values == 7 * (3 * 24 + 24)
    assert ort.values == 7 * (3 * 24 + 2 * 24)  # outputs of the tapped copy and of the default session
    assert reference.digest == ort.digest and reference.output_digest == ort.output_digest
    assert set(report.tensor_digests) == {t.name for t in chain().quantized()}
    assert report.as_dict()["backends"][1]["mismatches"] == 0


@pytest.mark.skipif(find_spec("edgekit.runtime._native") is None, reason="the C runtime is not built: pip install .")
def test_each_number_of_threads_computes_the_outputs(tmp_path: Path) -> None:
    program = chain()
    plan(program)
    write(program, tmp_path / "net.ekm")
    outputs = sum(program.tensors[name].size for name in program.outputs)
    for threads, paths in (((2,), 3), ((), 2), ((1,), 2), (range(1, 9), 9)):
        report = verify(tmp_path / "net.ekm", samples=2, backends=["reference", "c-scalar"], threads=threads)
        assert report.ok
        assert report.backends[1].values == 2 * (3 * 24 + paths * outputs)


@pytest.mark.parametrize("threads", [[0], [2, -1], ["2"], [1.5]])
def test_refuses_what_is_no_number_of_threads(threads: list[object]) -> None:
    with pytest.raises(InputError, match="integers of 1 or more"):
        verify(chain(), threads=threads)  # type: ignore[arg-type]


def test_names_the_first_difference(against: Callable[..., None]) -> None:
    program = chain()
    second, last = (t.name for t in list(program.quantized())[1:])

    def change(sample: int, seen: Observation) -> None:
        if sample == 5:
            seen.tensors[last][0, 0, 0] ^= 1
            seen.tensors[second][0, 2, 3] ^= 1
            seen.tensors[second][0, 3, 5] ^= 1

    against(change)
    report = verify(program, samples=9)
    assert not report.ok
    reference, altered = report.backends
    assert reference.mismatches == 0 and altered.mismatches == 3 == report.mismatches
    first = altered.first
    assert (first.sample, first.tensor, first.index, first.count, first.size) == (5, second, (0, 2, 3), 2, 24)
    assert first.value == first.expected ^ 1
    (line,) = report.problems()
    assert f"LUT 'node_{second}', tensor '{second}' [0, 2, 3] (channel 3)" in line
    assert altered.digest != reference.digest and altered.output_digest == reference.output_digest
    assert report.as_dict()["backends"][1]["first_difference"] == str(first)


def test_outputs_are_compared_by_bits(against: Callable[..., None]) -> None:
    def negate_zeros(sample: int, seen: Observation) -> None:
        (output,) = seen.outputs["run"].values()
        output[output == 0] = np.float32(-0.0)

    against(negate_zeros)
    b = Build()
    b.float_output(b.float_input((4,), quant(1.0)))
    report = verify(b.finish(), [{"input0": np.zeros(4, np.float32)}])
    assert report.mismatches == 4
    assert report.backends[1].first.op == "output of run"


def test_a_backend_with_another_shape_or_no_output_fails(against: Callable[..., None]) -> None:
    def flatten(sample: int, seen: Observation) -> None:
        name = next(iter(seen.tensors))
        seen.tensors[name] = seen.tensors[name].ravel()

    against(flatten)
    with pytest.raises(CheckError, match=r"is int8 \[24\], expected int8 \[1, 4, 6\]"):
        verify(chain(), samples=1)
    against(lambda sample, seen: seen.outputs["run"].clear())
    with pytest.raises(CheckError, match="shows no output"):
        verify(chain(), samples=1)


def test_an_error_in_the_export_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison sees what ONNX Runtime really computes, not what the exporter meant."""
    monkeypatch.setattr(export_builder.Builder, "zero", lambda b, v: b.constant(np.array(v + 1, np.int8)))
    report = verify(chain(), samples=3, backends=["reference", "onnxruntime"])
    assert report.backends[1].mismatches > 0
    assert report.backends[1].first.tensor == next(chain().quantized()).name


def test_backends_that_cannot_run_are_skipped_with_the_reason() -> None:
    report = verify(chain(), samples=1)
    assert [b.name for b in report.backends] == ["reference", "onnxruntime"]
    assert report.skipped["c-scalar"] == "the C runtime needs the model's file"
    assert {"name": "c-scalar", "why": report.skipped["c-scalar"]} in report.as_dict()["skipped"]


def test_backends_asked_for_by_name_must_run() -> None:
    with pytest.raises(InputError, match="c-avx3: there is no such backend; there are reference, c-scalar"):
        verify(chain(), backends=["c-avx3"])
    with pytest.raises(InputError, match="c-scalar: the C runtime needs"):
        verify(chain(), backends=["reference", "c-scalar"])


def test_samples_are_streamed() -> None:
    """No backend may run ahead: the generator is never more than one sample in front of the comparison."""
    done = 0

    def stream() -> Iterator[dict[str, np.ndarray]]:
        for i in range(20):
            assert i <= done + 1
            yield {"input0": np.full((1, 4, 6), i, np.float32)}

    def progress(count: int) -> None:
        nonlocal done
        done = count

    report = verify(chain(), stream(), backends=["reference", "onnxruntime"], progress=progress)
    assert report.samples == done == 20


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"other": np.zeros((2, 4, 6), np.float32)}, "input 'input0' is missing"),
        (np.zeros((5, 4, 5), np.float32), r"shape \[5, 4, 5\], which is no number of \[1, 4, 6\]"),
        (np.zeros((5, 4, 6), np.uint8), "no table for raw data"),
    ],
)
def test_unfit_data_is_refused(inputs: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        verify(chain(), inputs)


def test_no_sample_is_refused() -> None:
    with pytest.raises(InputError, match="no sample"):
        verify(chain(), [])


def test_arrays_have_a_leading_sample_axis() -> None:
    x = Random(2).rng.normal(0, 3, (6, 4, 6)).astype(np.float32)
    bare, named = verify(chain(), x), verify(chain(), {"input0": x[:, None]})
    assert bare.samples == named.samples == 6
    assert bare.backends[0].digest == named.backends[0].digest
    assert verify(chain(), x, samples=4).samples == 4
