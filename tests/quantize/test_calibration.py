# SPDX-License-Identifier: Apache-2.0
"""Observers, taps and the choice of ranges."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.calibrate import METHODS, calibrate, calibrate_without_data, observers, taps
from edgekit.calibrate.bounds import propagate
from edgekit.calibrate.calibration import observe
from edgekit.calibrate.observers import BINS, COUNTED, ENOUGH, FEWEST_COUNTED, Histogram, mse, percentile
from edgekit.data import InputSpec, Preprocessing, open_data
from edgekit.errors import DataError, EdgekitError, ModelError
from edgekit.format import writer
from edgekit.importer import ImportedModel, load
from edgekit.importer.session import FloatModel, Session
from edgekit.passes.pipeline import optimize
from edgekit.plan import plan
from edgekit.quantize import input_specs, quantize_model
from edgekit.quantize.scales import dequantize, quant_from_range, quantize
from edgekit.runtime.kernels import _native
from tests.quantize.nets import Net

# ---- Histograms --------------------------------------------------------------------------------


def histogram(*arrays: np.ndarray) -> Histogram:
    h = Histogram()
    for a in arrays:
        h.add(np.asarray(a, np.float32))
    return h


def test_every_value_is_counted_whatever_the_order(rng: np.random.Generator) -> None:
    parts = [rng.standard_normal(500) * 10.0**k for k in (-3, 0, 4, 1, -2)]
    h = histogram(*parts)
    x = np.concatenate(parts).astype(np.float32)
    assert h.counts.sum() == x.size
    assert (h.lo, h.hi) == (float(x.min()), float(x.max()))
    # Growth moves counts by no more than a bin.
    exact = np.histogram(x, bins=BINS, range=(h.start, h.start + BINS * h.width))[0]
    assert np.abs(np.cumsum(h.counts) - np.cumsum(exact)).max() <= max(exact.max(), h.counts.max())


@pytest.mark.parametrize("distance", [1, 3, 64, 5000])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 4096, 4111, 20_000])
def test_one_look_finds_extremes_and_evenly_spaced_values(rng: np.random.Generator, size: int, distance: int) -> None:
    x = np.where(rng.random(size) < 0.3, 0, rng.standard_normal(size)).astype(np.float32)
    lo, hi, picked = _native.look(x, distance)
    assert (lo, hi) == (float(x.min()), float(x.max()))
    spaced = x[::distance]
    np.testing.assert_array_equal(picked, spaced[spaced != 0])


@pytest.mark.parametrize("at", [0, 7, 4095, 4096, 5007, 5008])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_anywhere(rng: np.random.Generator, at: int, value: float) -> None:
    x = rng.standard_normal(5009).astype(np.float32)
    x[at] = value
    lo, hi, _ = _native.look(x, 100)
    np.testing.assert_array_equal([lo, hi], [x.min(), x.max()])
    h = Histogram()
    assert not h.add(x)
    assert h.counts.sum() == 0 and h.hi < h.lo


def test_values_are_counted_in_binary32(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.standard_normal(10_000), [-9.0, 9.0]]).astype(np.float32)
    start, per_width = np.float32(-3.1), np.float32(661.3)
    counts = np.ones(BINS, np.int64)
    _native.count(x, float(start), float(per_width), counts)
    bins = np.clip(((x - start) * per_width).astype(np.int32), 0, BINS - 1)
    np.testing.assert_array_equal(counts, 1 + np.bincount(bins, minlength=BINS))
    assert counts[0] > 2 and counts[-1] > 2, "the outermost bins take what lies beyond"


def test_what_the_native_module_observes_is_float32_in_one_piece() -> None:
    x = np.zeros((4, 4))
    for unfit in (x, x.astype(np.float32)[:, ::2]):
        with pytest.raises(TypeError):
            _native.look(unfit, 1)
        with pytest.raises(TypeError):
            _native.count(unfit, 0.0, 1.0, np.zeros(4, np.int64))
    with pytest.raises(TypeError):
        _native.count(np.zeros(4, np.float32), 0.0, 1.0, np.zeros(4, np.int32))
    with pytest.raises(EdgekitError, match="distance"):
        _native.look(np.zeros(4, np.float32), 0)
    with pytest.raises(EdgekitError, match="bins"):
        _native.count(np.zeros(4, np.float32), 0.0, 1.0, np.zeros(0, np.int64))
    h = Histogram()
    assert h.add(np.arange(1, 13).reshape(3, 4)[:, ::2]), "a histogram takes any array"
    assert (h.counts.sum(), h.lo, h.hi) == (6, 1.0, 11.0)


def test_growth_keeps_enough_resolution(rng: np.random.Generator) -> None:
    h = histogram(*(np.array([v]) for v in (0.1, -3.0, 5.0, -1000.0, 20.0)))
    assert h.hi - h.lo > BINS / 4.1 * h.width


def test_zeros_are_not_counted_but_seen() -> None:
    h = histogram(np.array([0.0, 0.0, 1.0, 2.0]), np.zeros(3), np.array([-1.0]))
    assert h.counts.sum() == 3
    assert (h.lo, h.hi) == (-1.0, 2.0)
    assert (h.counts >= 0).all()
    assert histogram(np.zeros(5)).counts.sum() == 0


def test_of_a_large_array_every_column_counts() -> None:
    channels, columns = np.meshgrid(np.arange(128), np.arange(56), indexing="ij")
    x = np.broadcast_to((1 + columns + 100 * channels)[:, None], (128, 56, 56)).astype(np.float32)
    h = histogram(x)
    assert (h.lo, h.hi) == (1.0, 12756.0)
    assert COUNTED / 2 < h.counts.sum() < 2 * COUNTED
    by_channel = np.histogram(h.centers(), bins=128, range=(0, 12800), weights=h.counts)[0]
    assert by_channel.min() > 0.8 * by_channel.mean()


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(
    "values", [[0.0] * 9, [3.0] * 9, [-2.5] * 9, [0.0, 1e-30], [1e30, -1e30], [0.0, 0.0, 5.0]]
)
def test_methods_on_degenerate_tensors(method: str, values: list[float]) -> None:
    h = histogram(np.array(values))
    lo, hi = METHODS[method](h)
    assert h.lo <= lo <= hi <= h.hi


@pytest.mark.parametrize("method", list(METHODS))
def test_methods_stay_within_what_occurred(rng: np.random.Generator, method: str) -> None:
    for x in (
        rng.standard_normal(20_000),
        np.maximum(rng.standard_normal(20_000), 0),
        rng.exponential(1, 20_000),
    ):
        h = histogram(x)
        lo, hi = METHODS[method](h)
        assert h.lo <= lo <= hi <= h.hi
        assert hi > 0.25 * h.hi


def squared_error(x: np.ndarray, lo: float, hi: float) -> float:
    q = quant_from_range(lo, hi)
    return float(np.mean((dequantize(quantize(x, q), q) - x) ** 2))


@pytest.mark.parametrize("relu", [False, True])
def test_mse_is_near_the_best_range(rng: np.random.Generator, relu: bool) -> None:
    x = rng.laplace(0, 1, 50_000)
    x = np.maximum(x, 0) if relu else x
    h = histogram(x)
    found = squared_error(x, *mse(h))
    best = min(
        squared_error(x, h.lo * s, h.hi * t) for s in np.linspace(0.2, 1, 17) for t in np.linspace(0.2, 1, 17)
    )
    assert found <= best * 1.05
    assert found < squared_error(x, h.lo, h.hi)


def test_percentile_cuts_the_tails(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.uniform(-1, 1, 100_000), [50.0, -80.0]])
    lo, hi = percentile(histogram(x), tail=1e-4)
    assert -1.1 < lo < -0.9
    assert 0.9 < hi < 1.1


# ---- Through ONNX Runtime ----------------------------------------------------------------------


def conv_model(path: Path, rng: np.random.Generator, batch: int = 1) -> ImportedModel:
    """Conv, Relu, global average, Gemm."""
    w = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    v = rng.standard_normal((4, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(v, "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path / "net.onnx")
    imported = load(path / "net.onnx")
    optimize(imported.graph)
    return imported


def test_ranges_are_those_of_the_tensors(tmp_path: Path, rng: np.random.Generator) -> None:
    imported = conv_model(tmp_path, rng)
    x = rng.standard_normal((6, 3, 8, 8)).astype(np.float32)
    graph = imported.graph
    learned = calibrate(graph, imported.model, open_data(x, input_specs(graph)), "minmax")
    assert learned.samples == 6
    assert learned.ranges[graph.inputs[0].value] == (float(x.min()), float(x.max()))
    assert {v.name for v in graph.activations()} == set(learned.ranges)


def test_chunked_taps_give_the_same(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = conv_model(tmp_path, rng)
    data = open_data(rng.standard_normal((5, 3, 8, 8)), input_specs(imported.graph))
    whole = calibrate(imported.graph, imported.model, data)
    monkeypatch.setattr(taps, "TAP_BYTES", 1)
    calls: list[tuple[int, int]] = []
    chunked = calibrate(imported.graph, imported.model, data, progress=lambda *c: calls.append(c))
    assert chunked.ranges == whole.ranges
    assert calls[-1][0] == calls[-1][1] > 5  # several passes over five samples
    for name, rows in whole.patches.items():
        np.testing.assert_array_equal(chunked.patches[name], rows)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_number_of_processors_changes_nothing(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    x = rng.standard_normal((11, 3, 8, 8)).astype(np.float32)
    files = []
    for processors in (1, 2, 5):
        for module in ("calibrate.taps", "calibrate.refine", "quantize.lowerings.accumulate"):
            monkeypatch.setattr(sys.modules[f"edgekit.{module}"], "processors", lambda n=processors: n)
        imported = conv_model(tmp_path, np.random.default_rng(0), batch)
        program = quantize_model(imported, x)
        plan(program)
        files.append(writer.write(program))
    assert files[1] == files[0] and files[2] == files[0]


def test_the_number_of_processors_decides_no_sum(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads of one execution, which share out its sums, follow from the size of its tensors alone."""
    imported = conv_model(tmp_path, rng)
    data = open_data(rng.standard_normal((5, 3, 8, 8)), input_specs(imported.graph))
    seen: set[tuple[int, int]] = set()
    session, whole = taps._session, taps.TAP_BYTES

    def count(model: FloatModel, outputs: Sequence[str], threads: int) -> Session:
        seen.add((taps.TAP_BYTES, threads))
        return session(model, outputs, threads)

    monkeypatch.setattr(taps, "_session", count)
    for size in (whole, 1):
        monkeypatch.setattr(taps, "TAP_BYTES", size)
        for processors in (1, 2, 5):
            monkeypatch.setattr(taps, "processors", lambda n=processors: n)
            calibrate(imported.graph, imported.model, data)
    assert seen == {(whole, 1), (1, taps.LARGE_THREADS)}


def test_a_batch_is_one_array_to_count(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted of a tensor depends on how many arrays come, not on how many samples they hold."""
    for name, value in (("COUNTED", 64), ("FEWEST_COUNTED", 16), ("ENOUGH", 1024)):
        monkeypatch.setattr(observers, name, value)
    x = rng.uniform(1, 2, (64, 3, 8, 8)).astype(np.float32)
    counts = []
    for batch in (1, 4):
        imported = conv_model(tmp_path, rng, batch)
        watch = observe(imported.graph, imported.model, open_data(x, input_specs(imported.graph)))
        counts.append(int(watch.histograms["x"].counts.sum()))
    assert 512 < counts[0] < 2048, "64 arrays of 192 values, 16 of each"
    assert 512 < counts[1] < 2048, "16 arrays of 768 values, 64 of each"


def test_more_samples_share_what_is_counted(rng: np.random.Generator) -> None:
    x = rng.uniform(1, 2, 10 * COUNTED).astype(np.float32)
    counts = []
    for arrays in (1, 40, 10**6):
        h = Histogram(arrays)
        h.add(x)
        assert (h.lo, h.hi) == (float(x.min()), float(x.max()))
        counts.append(int(h.counts.sum()))
    assert COUNTED / 2 < counts[0] < 2 * COUNTED
    assert ENOUGH / 2 < 40 * counts[1] < 2 * ENOUGH
    assert FEWEST_COUNTED / 2 < counts[2] < 2 * FEWEST_COUNTED


def test_samples_that_fill_up_a_fixed_batch_do_not_count(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 3, 8, 8)).astype(np.float32)
    single = conv_model(tmp_path, np.random.default_rng(1))
    fixed = conv_model(tmp_path, np.random.default_rng(1), batch=4)
    ranges = [
        calibrate(m.graph, m.model, open_data(x, input_specs(m.graph)), "percentile").ranges
        for m in (single, fixed)
    ]
    for name in ("x",):
        assert ranges[0][name] == ranges[1][name]
    assert ranges[0][single.graph.outputs[0].value] == pytest.approx(
        ranges[1][fixed.graph.outputs[0].value], rel=1e-5
    )


def test_patches_are_what_the_layer_reads(tmp_path: Path, rng: np.random.Generator) -> None:
    imported = conv_model(tmp_path, rng)
    graph = imported.graph
    x = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    learned = calibrate(graph, imported.model, open_data(x, input_specs(graph)))
    conv = next(n for n in graph.nodes if n.op == "Conv")
    rows = learned.patches[conv.outputs[0]]
    assert rows.shape == (3 * 64, 3, 3, 3)
    padded = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = np.moveaxis(windows, 3, -1).reshape(-1, 3, 3, 3)
    order = [np.lexsort(r.reshape(len(r), -1).T) for r in (rows, expected)]
    np.testing.assert_array_equal(rows[order[0]], expected[order[1]])


def test_overflow_in_the_model_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    imported = conv_model(tmp_path, rng)
    x = np.full((2, 3, 8, 8), 3e38, np.float32)
    with pytest.raises(ModelError, match=r"overflows \(NaN or Inf\) on calibration sample 0;"):
        calibrate(imported.graph, imported.model, open_data(x, input_specs(imported.graph)))
    imported = conv_model(tmp_path, rng, batch=4)
    x = np.concatenate([rng.random((4, 3, 8, 8)), x]).astype(np.float32)
    with pytest.raises(ModelError, match=r"overflows \(NaN or Inf\) on calibration samples 4 to 5;"):
        calibrate(imported.graph, imported.model, open_data(x, input_specs(imported.graph)))


@pytest.mark.parametrize("samples", [1, 3, 9, 10])
@pytest.mark.parametrize("constant", [False, True])
def test_doubtful_data_gives_warnings(
    tmp_path: Path, rng: np.random.Generator, samples: int, constant: bool
) -> None:
    imported = conv_model(tmp_path, rng)
    x = np.full((samples, 3, 8, 8), 0.5) if constant else rng.random((samples, 3, 8, 8))
    warnings: list[str] = []
    quantize_model(imported, x.astype(np.float32), warnings=warnings)
    wanted = ["input 'x' is 0.5 throughout and tells no range"] if constant else []
    wanted += {1: ["one sample is few"], 10: []}.get(samples, [f"{samples} samples are few"])
    assert [warning.removeprefix("calibration data: ").partition(";")[0].partition(", and")[0] for warning in warnings] == wanted
    assert not any("\n" in warning for warning in warnings)


def test_unknown_method(tmp_path: Path, rng: np.random.Generator) -> None:
    imported = conv_model(tmp_path, rng)
    data = open_data(np.zeros((1, 3, 8, 8)), input_specs(imported.graph))
    with pytest.raises(DataError, match=r"--method best: .* auto, minmax"):
        calibrate(imported.graph, imported.model, data, "best")


@pytest.mark.parametrize("method", list(METHODS))
def test_all_methods_convert_the_same_data_the_same_way(
    tmp_path: Path, rng: np.random.Generator, method: str
) -> None:
    imported = conv_model(tmp_path, rng)
    x = rng.standard_normal((8, 3, 8, 8)).astype(np.float32)
    first, second = (quantize_model(imported, x, method=method) for _ in range(2))
    for a, b in zip(first.ops, second.ops, strict=True):
        for key, value in vars(a).items():
            np.testing.assert_array_equal(value, getattr(b, key))


# ---- Without data ------------------------------------------------------------------------------


def test_without_data_there_is_a_warning_and_a_seed(tmp_path: Path, rng: np.random.Generator) -> None:
    imported = conv_model(tmp_path, rng)
    warnings: list[str] = []
    quantize_model(imported, warnings=warnings)
    assert any("no calibration data" in w for w in warnings)
    specs = input_specs(imported.graph)
    ranges = [calibrate_without_data(imported.graph, imported.model, specs, seed=s).ranges for s in (0, 0, 1)]
    assert ranges[0] == ranges[1] != ranges[2]


def test_without_data_raw_bytes_have_a_known_range(tmp_path: Path, rng: np.random.Generator) -> None:
    imported = conv_model(tmp_path, rng)
    program = quantize_model(imported, preprocessing=Preprocessing("nhwc", (128.0,), (64.0,)))
    quant = program.tensors["x_quantized"].quant
    assert float(quant.scale) == pytest.approx(1 / 64)
    assert quant.zero_point == 0


def test_batch_norm_statistics_give_ranges() -> None:
    net = Net()
    x = net.input((1, 2, 2, 3))
    y = net.node("Unary", [x], (1, 2, 2, 3), fn="Relu", params={})
    net.graph.nodes[-1].attrs["clip"] = (0.0, 8.0)
    net.graph.batch_norm_stats[y] = (np.array([1.0, 0.0, -1.0]), np.array([1.0, 2.0, 0.5]))
    from edgekit.calibrate.synthetic import batch_norm_ranges

    assert batch_norm_ranges(net.graph) == {y: (0.0, 8.0)}
    del net.graph.nodes[-1].attrs["clip"]
    assert batch_norm_ranges(net.graph) == {y: (-12.0, 12.0)}


# ---- Bounds ------------------------------------------------------------------------------------


def test_missing_ranges_follow_from_others(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 4))
    a = net.node("Unary", [x], (1, 4), fn="Sigmoid", params={})
    b = net.node("Mul", [x, a], (1, 4))
    c = net.node("Sub", [b, net.constant([1.0, -2.0, 0.0, 3.0])], (1, 4))
    d = net.node(
        "Dense", [c, net.constant([[1.0, -1.0, 0.5, 0.0]]), net.constant([2.0])], (1, 1), clip=(-1.0, 9.0)
    )
    ranges = propagate(net.graph, {x: (-2.0, 4.0)})
    assert ranges[a] == pytest.approx((1 / (1 + np.exp(2)), 1 / (1 + np.exp(-4))))
    for _ in range(200):
        value = rng.uniform(-2, 4, 4)
        s = value / (1 + np.exp(-value))
        t = s - np.array([1.0, -2.0, 0.0, 3.0])
        assert ranges[b][0] <= s.min() <= s.max() <= ranges[b][1]
        assert ranges[c][0] <= t.min() <= t.max() <= ranges[c][1]
    assert ranges[d][0] >= -1.0
    assert ranges[d][1] <= 9.0


def test_specs_of_a_vector() -> None:
    assert InputSpec("x", (1, 640)).channel_axis == 1
