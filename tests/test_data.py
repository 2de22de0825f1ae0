# SPDX-License-Identifier: Apache-2.0
"""What users feed: shapes, layouts, preprocessing bits, and files that must be refused."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import Dataset, InputSpec, Preprocessing, npz_bytes, open_data, real_part
from edgekit.errors import DataError

NCHW = InputSpec("image", (1, 3, 4, 5), "nchw")
NHWC = InputSpec("image", (1, 4, 5, 3), "nhwc")
VECTOR = InputSpec("v", (1, 6))


def everything(data: Dataset) -> np.ndarray:
    """All samples of a single-input data set, as the model sees them."""
    name = data.specs[0].name
    return np.concatenate([b.inputs[name][: b.count] for b in data.batches()])


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (7, 4, 5, 3)).astype(np.uint8)


# ---- What fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["x", "image"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_under_either_name(tmp_path: Path, rng: np.random.Generator, save, key: str) -> None:
    x = rng.standard_normal((7, 3, 4, 5)).astype(np.float32)
    save(tmp_path / "d.npz", **{key: x, "y": np.arange(7)})
    data = open_data(tmp_path / "d.npz", [NCHW])
    assert data.samples == 7
    np.testing.assert_array_equal(everything(data), x)
    np.testing.assert_array_equal(data.labels, np.arange(7))
    np.testing.assert_array_equal(everything(data), x)  # a second pass sees the same


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, rng: np.random.Generator, order: str) -> None:
    x = np.asarray(rng.standard_normal((3, 3, 4, 5)), np.float64, order=order)
    np.save(tmp_path / "d.npy", x)
    np.testing.assert_array_equal(everything(open_data(tmp_path / "d.npy", [NCHW])), x.astype(np.float32))


def test_npz_with_names_that_savez_has_itself(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "allow_pickle": np.zeros((0, 2), np.float32), "a/b": np.array(7, np.float32)}
    path = tmp_path / "names.npz"
    path.write_bytes(npz_bytes(arrays))
    with np.load(path) as stored:
        assert list(stored) == list(arrays)
        for name, value in arrays.items():
            np.testing.assert_array_equal(stored[name], value, strict=True)


def test_npz_in_fortran_order(tmp_path: Path, rng: np.random.Generator) -> None:
    x = np.asfortranarray(rng.standard_normal((3, 3, 4, 5)).astype(np.float32))
    np.savez(tmp_path / "d.npz", x=x)
    np.testing.assert_array_equal(everything(open_data(tmp_path / "d.npz", [NCHW])), x)


def test_big_endian_data(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 6)).astype(">f8")
    np.testing.assert_array_equal(everything(open_data(x, [VECTOR])), x.astype(np.float32))


def test_several_inputs_by_name(rng: np.random.Generator) -> None:
    arrays = {"image": rng.random((4, 3, 4, 5)), "v": rng.random((4, 6))}
    (batch, *_) = open_data(arrays, [NCHW, VECTOR]).batches()
    assert {k: v.shape for k, v in batch.inputs.items()} == {"image": (1, 3, 4, 5), "v": (1, 6)}


def test_missing_singleton_dimensions_are_added(rng: np.random.Generator) -> None:
    x = rng.random((2, 28, 28), np.float32)
    data = open_data(x, [InputSpec("input", (1, 1, 28, 28), "nchw")])
    np.testing.assert_array_equal(everything(data), x[:, None])


def test_surplus_singleton_dimensions_are_dropped(rng: np.random.Generator) -> None:
    x = rng.random((2, 28, 28, 1), np.float32)
    data = open_data(x, [InputSpec("input", (1, 28, 28))])
    np.testing.assert_array_equal(everything(data), x[..., 0])


def test_a_fixed_batch_repeats_the_last_sample(rng: np.random.Generator) -> None:
    x = rng.random((7, 6), np.float32)
    batches = list(open_data(x, [InputSpec("v", (3, 6))]).batches())
    assert [(b.first, b.count) for b in batches] == [(0, 3), (3, 3), (6, 1)]
    np.testing.assert_array_equal(batches[2].inputs["v"], x[[6, 6, 6]])


def test_inputs_may_take_different_numbers_of_samples_at_a_time(rng: np.random.Generator) -> None:
    specs = [InputSpec("a", (2, 6)), InputSpec("b", (3, 1))]
    a, b = rng.standard_normal((5, 6)), rng.standard_normal((9, 1))
    batches = list(open_data({"a": a, "b": b}, specs).batches())
    assert [(batch.first, batch.count, batch.size) for batch in batches] == [(0, 2, 2), (2, 2, 2), (4, 1, 2)]
    np.testing.assert_array_equal(batches[1].inputs["b"], b[3:6].astype(np.float32))
    assert len(list(open_data({"a": a, "b": b}, specs, limit=3).batches())) == 2
    with pytest.raises(DataError, match="different numbers of samples"):
        open_data({"a": a, "b": b[:6]}, specs)


def test_an_input_without_dimensions() -> None:
    batches = list(open_data(np.arange(3.0), [InputSpec("v", ())]).batches())
    assert [(batch.inputs["v"].shape, float(batch.inputs["v"])) for batch in batches] == [((), 0), ((), 1), ((), 2)]


def test_real_part() -> None:
    array = np.arange(12).reshape(6, 2)
    assert real_part(array, 6, 4).shape == (4, 2)
    assert real_part(array, 3, 2).shape == (4, 2)
    assert real_part(array, 1, 1).shape == (6, 2)
    assert real_part(array, 4, 3).shape == (6, 2)
    assert real_part(np.float32(3), 1, 1).shape == (1,)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(DataError, match="samples"):
        open_data(np.zeros((3, 6)), [VECTOR], limit=limit)


def test_limit(rng: np.random.Generator) -> None:
    data = open_data({"x": rng.random((7, 6)), "y": np.arange(7)}, [VECTOR], limit=3)
    assert (data.samples, len(list(data.batches())), len(data.labels)) == (3, 3, 3)


def test_an_input_named_y_is_not_taken_for_labels(rng: np.random.Generator) -> None:
    y = rng.random((2, 6), np.float32)
    data = open_data({"y": y}, [InputSpec("y", (1, 6))])
    assert data.labels is None
    np.testing.assert_array_equal(everything(data), y)


# ---- Raw data ----------------------------------------------------------------------------------


def test_nhwc_pixels_reach_an_nchw_model(pixels: np.ndarray) -> None:
    data = open_data(pixels, [NCHW], Preprocessing("nhwc"))
    np.testing.assert_array_equal(everything(data), pixels.transpose(0, 3, 1, 2).astype(np.float32))


def test_nchw_data_reaches_an_nhwc_model(pixels: np.ndarray) -> None:
    data = open_data(pixels.transpose(0, 3, 1, 2), [NHWC], Preprocessing("nchw"))
    np.testing.assert_array_equal(everything(data), pixels.astype(np.float32))


def test_a_layout_that_is_the_models_own_changes_nothing(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(everything(open_data(pixels, [NHWC], Preprocessing("nhwc"))), pixels)


def test_normalization_rounds_twice_in_binary32(pixels: np.ndarray) -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    data = open_data(pixels, [NCHW], Preprocessing("nhwc", mean, std))
    shape = (1, 3, 1, 1)
    centered = pixels.transpose(0, 3, 1, 2).astype(np.float32) - np.float32(mean).reshape(shape)
    np.testing.assert_array_equal(everything(data), centered / np.float32(std).reshape(shape))


def test_one_number_serves_all_channels(pixels: np.ndarray) -> None:
    both = [Preprocessing.parse("nhwc", "7", "3"), Preprocessing.parse("nhwc", "7,7,7", "3,3,3")]
    first, second = (everything(open_data(pixels, [NCHW], p)) for p in both)
    np.testing.assert_array_equal(first, second)


def test_of_several_inputs_only_images_are_preprocessed(rng: np.random.Generator) -> None:
    arrays = {"image": np.full((2, 3, 4, 5), 8.0), "v": np.full((2, 6), 8.0)}
    (batch, *_) = open_data(arrays, [NCHW, VECTOR], Preprocessing(mean=(4.0,), std=(2.0,))).batches()
    assert (batch.inputs["image"] == 2.0).all()
    assert (batch.inputs["v"] == 8.0).all()


def test_raw_batches_keep_type_and_layout(pixels: np.ndarray) -> None:
    data = open_data(pixels, [NCHW], Preprocessing("nhwc", (1.0,), (2.0,)))
    raw = np.concatenate([b.inputs["image"] for b in data.raw_batches()])
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw, pixels)


# ---- Images ------------------------------------------------------------------------------------


def test_a_folder_of_images(tmp_path: Path, pixels: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image")
    for i, p in enumerate(pixels[:3]):
        image.fromarray(p).save(tmp_path / f"{i}.png")
    data = open_data(tmp_path, [NCHW])
    np.testing.assert_array_equal(everything(data), pixels[:3].transpose(0, 3, 1, 2).astype(np.float32))
    assert data.labels is None


def test_subfolders_are_classes_and_sizes_are_adapted(tmp_path: Path, pixels: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        image.fromarray(pixels[0]).resize((20, 16)).save(tmp_path / name / "1.png")
    data = open_data(tmp_path, [NHWC])
    assert everything(data).shape == (2, 4, 5, 3)
    assert list(data.labels) == [0, 1]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png: cannot be read as an image"):
        everything(open_data(tmp_path, [NCHW]))


# ---- What is refused ---------------------------------------------------------------------------


def refused(
    source: object, match: str, spec: InputSpec = NCHW, preprocessing: Preprocessing | None = None
) -> None:
    """The data is refused by a one-line message that matches."""
    with pytest.raises(DataError, match=match) as info:
        everything(open_data(source, [spec], preprocessing))  # type: ignore[arg-type]
    assert "\n" not in str(info.value)


def test_wrong_layout_names_the_option_that_fits(pixels: np.ndarray) -> None:
    refused(pixels, r"\[4, 5, 3\].*takes \[3, 4, 5\].*--input-layout nhwc")


def test_wrong_shape(rng: np.random.Generator) -> None:
    refused(
        rng.random((2, 3, 4, 6)),
        r"array 'x': samples have shape \[3, 4, 6\], but input 'image' takes \[3, 4, 5\]",
    )


def test_missing_sample_axis(rng: np.random.Generator) -> None:
    refused(rng.random((3, 4, 5)), "add a leading sample axis")


def test_missing_array(rng: np.random.Generator) -> None:
    refused({"pictures": rng.random((2, 3, 4, 5))}, r"no array 'image' \(or 'x'\).*pictures")


def test_unequal_lengths(rng: np.random.Generator) -> None:
    arrays = {"image": rng.random((4, 3, 4, 5)), "v": rng.random((3, 6))}
    with pytest.raises(DataError, match="different numbers of samples"):
        open_data(arrays, [NCHW, VECTOR])


def test_wrong_number_of_labels(rng: np.random.Generator) -> None:
    refused({"x": rng.random((4, 3, 4, 5)), "y": np.arange(3)}, "3 labels for 4 samples")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named(rng: np.random.Generator, bad: float) -> None:
    x = rng.random((5, 3, 4, 5))
    x[3, 1, 2, 4] = bad
    refused(x, r"sample 3 holds NaN or Inf \(input 'image', element \[1, 2, 4\]\)")


def test_a_number_that_float32_does_not_hold_is_no_nan() -> None:
    x = np.zeros((5, 3, 4, 5))
    x[3, 1, 2, 4] = -1e39
    refused(x, r"sample 3 holds -1e\+39, beyond float32 \(input 'image', element \[1, 2, 4\]\); scale the data")
    nhwc = Preprocessing.parse("nhwc", "0", "1e-20")
    raw = np.zeros((5, 4, 5, 3))
    raw[2, 3, 4, 1] = 2e30
    refused(
        raw,
        r"sample 2 holds 2e\+30, beyond float32 after --input-mean and --input-std \(input 'image', element \[1, 3, 4\]\)",
        preprocessing=nhwc,
    )


def test_not_finite_in_a_fixed_batch(rng: np.random.Generator) -> None:
    x = rng.random((5, 6))
    x[4, 2] = np.nan
    refused(x, "sample 4 holds", InputSpec("v", (3, 6)))


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_pickles_are_never_loaded(tmp_path: Path, suffix: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "executed",))

    trap = np.array([Trap()], dtype=object)
    path = tmp_path / f"d.{suffix}"
    if suffix == "npz":
        np.savez(path, x=trap)
    else:
        np.save(path, trap)
    refused(path, "holds Python objects, which are never loaded")
    assert not (tmp_path / "executed").exists()


def test_text_and_empty_arrays() -> None:
    refused(np.array(["a", "b"]), "not a real number")
    refused(np.zeros((2, 3, 4, 5), np.complex64), "not a real number")
    refused(np.zeros((0, 3, 4, 5)), "holds no samples; give data with at least one")
    refused(np.float32(1), "needs a leading sample axis")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "no such file")
    (tmp_path / "data.csv").write_text("1,2")
    refused(tmp_path / "data.csv", r"not \.npz, \.npy or a folder")
    (tmp_path / "text.npz").write_text("no archive")
    refused(tmp_path / "text.npz", "damaged or not what its name says")
    (tmp_path / "text.npy").write_text("no array")
    refused(tmp_path / "text.npy", "not a NumPy array")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")


def test_every_truncation_of_an_archive_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=rng.random((2, 6), np.float32))
    whole = (tmp_path / "d.npz").read_bytes()
    for size in range(0, len(whole) - 1, 7):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        refused(tmp_path / "cut.npz", r"cut\.npz", VECTOR)


def test_flipped_bytes_of_an_archive_never_show_as_tracebacks(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    x = rng.random((2, 6), np.float32)
    np.savez_compressed(tmp_path / "d.npz", x=x)
    whole = bytearray((tmp_path / "d.npz").read_bytes())
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            np.testing.assert_array_equal(everything(open_data(tmp_path / "damaged.npz", [VECTOR])), x)
        except DataError:
            continue


def header_only(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """An `.npy` header without data."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": dtype})
    return out.getvalue()


def test_an_array_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header_only((2**40, 6)))
    refused(tmp_path / "d.npz", "declares shape .* but is shorter", VECTOR)
    (tmp_path / "d.npy").write_bytes(header_only((2**40, 6)))
    refused(tmp_path / "d.npy", r"d\.npy", VECTOR)


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    samples, size = 64, 1 << 18
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((samples, size), np.float32))
    data = open_data(tmp_path / "d.npz", [InputSpec("v", (1, size))])
    tracemalloc.start()
    assert sum(b.count for b in data.batches()) == samples
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 4 * size  # the whole array is 64 samples


# ---- Options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("hwc", None, None), "--input-layout hwc"),
        ((None, "1;2", None), "--input-mean 1;2"),
        ((None, None, "0"), "--input-std .* positive"),
        ((None, None, "1,-2"), "--input-std .* positive"),
        ((None, None, "1e30"), "--input-std .* positive, from 2.-96 to 2.64"),
        ((None, "nan", None), "--input-mean .* finite"),
        ((None, None, "1e-60"), "--input-std .* positive"),
    ],
)
def test_wrong_options(options: tuple, match: str) -> None:
    with pytest.raises(DataError, match=match):
        Preprocessing.parse(*options)


def test_wrong_number_of_channels(pixels: np.ndarray) -> None:
    refused(
        pixels,
        "--input-mean: 2 values, but input 'image' .* 3 channels",
        NCHW,
        Preprocessing("nhwc", (1.0, 2.0)),
    )
