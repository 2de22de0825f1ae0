# SPDX-License-Identifier: Apache-2.0
"""The Python interface of the runtime."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.errors import DataError, EdgekitError, FormatError, InputError
from edgekit.runtime import kernels
from edgekit.runtime.model import MAX_THREADS


@pytest.fixture(scope="module")
def path(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runtime") / "digits.ekm"
    edgekit.convert(
        digits / "digits.onnx", output, calibration=digits / "digits_calib.npz", input_layout="nhwc", input_std=16
    )
    return output


@pytest.fixture(scope="module")
def quantized_io(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runtime") / "digits_int8.ekm"
    edgekit.convert(digits / "digits.onnx", output, calibration=_floats(digits), io="int8", io_layout="nhwc")
    return output


def _floats(digits: Path) -> np.ndarray:
    """The calibration images as the model sees them, float32 [N,1,8,8]."""
    return np.load(digits / "digits_calib.npz")["x"].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(16)


@pytest.fixture(scope="module")
def images(digits: Path) -> np.ndarray:
    """Raw test images, uint8 [40,8,8,1]."""
    return np.load(digits / "digits_test.npz")["x"][:40]


def normalized(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(16)


def test_ports(path: Path) -> None:
    model = edgekit.load(path)
    (port,) = model.inputs
    assert (port.name, port.shape, port.dtype) == ("image", (1, 1, 8, 8), np.float32)
    assert (port.raw_shape, port.raw_dtype) == ((1, 8, 8, 1), np.uint8)
    assert [(p.name, p.shape) for p in model.outputs] == [("logits", (1, 10))]


def test_raw_and_float_input_give_the_same_bits(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    raw = model.run(images)["logits"]
    assert raw.shape == (40, 10)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(model.run(normalized(images))["logits"], raw)
    np.testing.assert_array_equal(model.run({"image": images})["logits"], raw)


def test_one_sample_and_missing_dimensions(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    every = model.run(images)["logits"]
    for shape in [(1, 8, 8, 1), (8, 8, 1), (8, 8)]:
        np.testing.assert_array_equal(model.run(images[3].reshape(shape))["logits"], every[3:4])
    np.testing.assert_array_equal(model.run(images[:, :, :, 0])["logits"], every)


def test_every_kernel_set_and_thread_count_gives_the_same_bits(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    expected = model.run(images, kernels="scalar")["logits"]
    for name in [*kernels.available(), "auto"]:
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(model.run(images, kernels=name, threads=threads)["logits"], expected)


def test_bytes_and_file_are_the_same_model(path: Path, images: np.ndarray) -> None:
    from_bytes = edgekit.load(path.read_bytes()).run(images)["logits"]
    np.testing.assert_array_equal(from_bytes, edgekit.load(path).run(images)["logits"])


def test_a_runner_owns_its_buffers(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    expected = model.run(images[:2])["logits"]
    runner = model.bind(raw=True)
    image, logits = runner.inputs["image"], runner.outputs["logits"]
    assert image.dtype == np.uint8
    assert image.ctypes.data % 64 == 0
    for i in range(2):
        image[...] = images[i]
        runner()
        np.testing.assert_array_equal(logits, expected[i : i + 1])
    with pytest.raises(TypeError):
        runner.inputs["image"] = images[0]  # type: ignore[index]
    del runner, model
    assert image.sum() == images[1].sum()  # the view keeps its memory alive
    np.testing.assert_array_equal(logits, expected[1:2])


def test_a_call_returns_the_outputs_and_takes_no_arguments(path: Path, images: np.ndarray) -> None:
    runner = edgekit.load(path).bind(raw=True)
    for _ in range(3):
        assert runner() is runner.outputs
    for arguments, names in (((images,), {}), ((), {"image": images})):
        with pytest.raises(TypeError, match="takes no arguments"):
            runner(*arguments, **names)
    unmade = type(runner).__new__(type(runner))
    with pytest.raises(TypeError):
        unmade()


def test_a_runner_works_on_the_callers_arrays(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    expected = model.run(images)["logits"]
    image, logits = images[0:1].copy(), np.zeros((1, 10), np.float32)
    runner = model.bind(inputs={"image": image}, outputs={"logits": logits})
    assert runner.inputs["image"] is image
    assert runner.outputs["logits"] is logits
    for i in range(8):
        image[...] = images[i]
        assert runner()["logits"] is logits
        np.testing.assert_array_equal(logits[0], expected[i])
    # Row by row of one array, raw and float in turn, into the rows of another.
    every = np.zeros((40, 10), np.float32)
    floats = normalized(images)
    for i in range(40):
        runner.bind_input("image", images[i : i + 1] if i % 2 else floats[i : i + 1])
        runner.bind_output("logits", every[i : i + 1])
        runner()
    np.testing.assert_array_equal(every, expected)
    np.testing.assert_array_equal(logits[0], expected[7])


def test_bound_arrays_are_kept_alive(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    expected = model.run(images[:1])["logits"]
    runner = model.bind(inputs={"image": images[0:1].copy()})
    del model
    gc.collect()
    np.testing.assert_array_equal(runner()["logits"], expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[0.0]], "not a list"),
        (np.zeros((1, 8, 8, 1), np.float32), r"float32 array of shape \[1, 1, 8, 8\] to be bound, not float32 \[1, 8"),
        (np.zeros((1, 1, 8, 8), np.uint8), r"uint8 array of shape \[1, 8, 8, 1\] to be bound, not uint8 \[1, 1"),
        (np.zeros((8, 8, 1), np.uint8), r"not uint8 \[8, 8, 1\]"),
        (np.zeros((1, 1, 8, 8)), "float32 array .* not float64"),
        (np.zeros((1, 1, 8, 8), ">f4"), "not >f4"),
        (np.zeros((1, 8, 8, 1), np.int8), "raw uint8, not int8"),
        (np.zeros((1, 8, 8, 2), np.uint8)[..., :1], "ascontiguousarray"),
        (np.zeros(257, np.uint8)[1:].view(np.float32).reshape(1, 1, 8, 8), "misaligned"),
    ],
    ids=lambda value: None if isinstance(value, str) else "array",
)
def test_arrays_that_cannot_be_an_input(path: Path, array: object, message: str) -> None:
    model = edgekit.load(path)
    with pytest.raises(DataError, match=message):
        model.bind(inputs={"image": array})  # type: ignore[dict-item]


def test_arrays_that_cannot_be_bound_here(path: Path) -> None:
    model = edgekit.load(path)
    runner = model.bind()
    frozen = np.zeros((1, 10), np.float32)
    frozen.flags.writeable = False
    shared = np.zeros(64, np.float32)
    runner.bind_input("image", shared.reshape(1, 1, 8, 8))
    for array, message in (
        (frozen, "can be written"),
        (np.zeros((1, 10), np.int8), "not int8"),
        (np.zeros((10, 1), np.float32).T[:, ::-1], "ascontiguousarray"),
        (shared[54:].reshape(1, 10), "shares memory with 'image'"),
    ):
        with pytest.raises(DataError, match=message):
            runner.bind_output("logits", array)
    runner.bind_output("logits", np.zeros((1, 10), np.float32))
    with pytest.raises(InputError, match="no output is named scores; outputs: logits"):
        runner.bind_output("scores", frozen)
    with pytest.raises(InputError, match="no input is named picture; inputs: image"):
        model.bind(inputs={"picture": shared})
    np.testing.assert_array_equal(runner()["logits"], model.run(np.zeros((8, 8), np.float32))["logits"])


def test_the_module_itself_refuses_unsafe_arrays(path: Path) -> None:
    runner = edgekit.load(path).bind()
    for output, index, array in (
        (False, 0, np.broadcast_to(np.float32(0), (1, 1, 8, 8))),
        (False, 0, np.zeros(3, np.float32)),
        (True, 0, np.zeros(3, np.float32)),
        (True, 1, np.zeros(10, np.float32)),
    ):
        with pytest.raises(EdgekitError):
            runner._bind(output, index, array, 0)


def test_weights_as_stored_give_the_same_bits(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    results = []
    for repack in (False, True):
        runner = model.bind(raw=True, repack=repack)
        runner.inputs["image"][...] = images[0]
        runner()
        results.append(runner.outputs["logits"].copy())
    np.testing.assert_array_equal(*results)


def test_runners_work_in_parallel(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    expected = model.run(images)["logits"]
    wrong: list[int] = []

    def work(first: int) -> None:
        runner = model.bind(raw=True)
        for _ in range(20):
            for i in range(first, len(images), 4):
                runner.inputs["image"][...] = images[i]
                runner()
                if not np.array_equal(runner.outputs["logits"][0], expected[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_model_called_from_threads_gives_each_its_own_results(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    expected = [model.run(images[i])["logits"] for i in range(4)]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(100):
            if not np.array_equal(model.run(images[i])["logits"], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_calls_in_parallel_have_runners_of_their_own(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path)
    formats = {"image": "raw"}
    with model._borrowed("auto", 1, formats) as first:
        with model._borrowed("auto", 1, formats) as second:
            assert second is not first
        with model._borrowed("auto", 1, formats) as again:
            assert again is second
        assert model.run(images[0])["logits"].shape == (1, 10)
    assert sum(map(len, model._idle.values())) == 2


def test_views_outlive_runner_and_model(path: Path, images: np.ndarray) -> None:
    model = edgekit.load(path.read_bytes())
    runner = model.bind(raw=True)
    x, y = runner.inputs["image"], runner.outputs["logits"]
    x[...] = images[0]
    del model
    runner()
    del runner
    gc.collect()
    assert np.array_equal(y, edgekit.load(path).run(images[0])["logits"])
    x[...] = 0


def test_one_runner_called_from_two_threads_stays_sound(path: Path, images: np.ndarray) -> None:
    runner = edgekit.load(path).bind(raw=True)
    runner.inputs["image"][...] = images[0]
    runner()
    expected = runner.outputs["logits"].copy()
    threads = [threading.Thread(target=lambda: [runner() for _ in range(300)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(runner.outputs["logits"], expected)


def test_trace_shows_every_8_bit_tensor(path: Path, images: np.ndarray) -> None:
    from edgekit.format import reader
    from edgekit.reference import executor

    program = reader.read(path)
    names = list(program.tensors)
    model = edgekit.load(path)
    for name in kernels.available():
        outputs, tensors = model.trace(images[0], kernels=name)
        assert {names[i] for i in tensors} == {t.name for t in program.quantized()}
        np.testing.assert_array_equal(outputs["logits"], model.run(images[0])["logits"])
        expected = executor.run(program, {"image": images[:1]})
        for index, values in tensors.items():
            if names[index] in expected:
                np.testing.assert_array_equal(values, expected[names[index]].ravel())


def test_profile_times_every_operator(path: Path) -> None:
    model = edgekit.load(path)
    rows = model.profile(runs=5)
    summary = model.inspect()
    assert len({row.op for row in rows}) == len(rows)
    for row in rows:
        assert summary["ops"][row.op]["op"] == row.opcode.name.lower()
        assert row.nanoseconds >= 0
        assert row.kernel


def test_quantized_io(quantized_io: Path, digits: Path) -> None:
    model = edgekit.load(quantized_io)
    (port,) = model.inputs
    assert (port.shape, port.dtype) == ((1, 8, 8, 1), np.int8)
    x = np.load(digits / "digits_test.npz")["x"][:20].astype(np.float32) / np.float32(16)
    q = np.clip(np.rint(x / np.float32(port.scale)) + port.zero_point, -128, 127).astype(np.int8)
    result = model.run(q)["logits"]
    assert result.dtype == np.int8
    labels = np.load(digits / "digits_test.npz")["y"][:20]
    assert (result.argmax(axis=1) == labels).mean() >= 0.9
    with pytest.raises(DataError, match="give int8"):
        model.run(x)


@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((2, 9, 9), np.float32), r"shape \[2, 9, 9\]"),
        (np.zeros((8, 8), np.int8), "raw uint8, not int8"),
        ({"picture": np.zeros((8, 8), np.uint8)}, "no array for input image"),
        ({"image": np.zeros((8, 8), np.uint8), "more": np.zeros(1)}, "no input is named more"),
    ],
)
def test_unfitting_input(path: Path, inputs: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        edgekit.load(path).run(inputs)  # type: ignore[arg-type]


def test_unfitting_options(path: Path, quantized_io: Path) -> None:
    model = edgekit.load(path)
    with pytest.raises(InputError, match="kernel set 'mmx' is unknown"):
        model.bind(kernels="mmx")
    for threads in (0, -1, MAX_THREADS + 1):
        with pytest.raises(InputError, match="threads"):
            model.bind(threads=threads)
    with pytest.raises(InputError, match="no table for raw data"):
        edgekit.load(quantized_io).bind(formats={"image": "raw"})
    for formats, message in (({"picture": "raw"}, "no input is named picture"), ({"image": "wav"}, "not wav"), ({"image": "int8"}, "not int8")):
        with pytest.raises(InputError, match=message):
            model.bind(formats=formats)
    for threads in (0, -1, 2**40, "2"):
        with pytest.raises(InputError, match="threads"):
            model.memory_needed(threads=threads)
    with pytest.raises(InputError, match="runs"):
        model.profile(runs=0)
    for samples in (0, -1):
        with pytest.raises(InputError, match="samples"):
            model.verify(samples=samples)


def test_unusable_files(path: Path, tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "none.ekm", r"none\.ekm: no such file or directory; give the path of a \.ekm file"),
        (tmp_path, "not a file; give the path"),
        (f"{path}\0.txt", "null byte"),
    ):
        with pytest.raises(FormatError, match=message):
            edgekit.load(source)
    for content in (b"", b"text", path.read_bytes()[:-1]):
        damaged = tmp_path / "damaged.ekm"
        damaged.write_bytes(content)
        with pytest.raises(FormatError, match=r"damaged\.ekm"):
            edgekit.load(damaged)
        with pytest.raises(FormatError, match="<bytes>"):
            edgekit.load(content)


def test_memory(path: Path) -> None:
    model = edgekit.load(path)
    arena = model.inspect()["arena_bytes"]
    assert model.memory_needed("scalar") > arena
    assert model.memory_needed("scalar", threads=4) >= model.memory_needed("scalar") + 3 * model.scratch_needed("scalar")
    assert model.bind(kernels="scalar", repack=False).memory_bytes == model.memory_needed("scalar")
