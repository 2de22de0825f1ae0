# SPDX-License-Identifier: Apache-2.0
"""Encodings of weights: what is encoded comes back, and damage is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import FormatError
from edgekit.format import packing

SHAPES = [(1, 1), (3, 6), (8, 3, 3, 5), (70, 33), (17, 1, 1, 400), (3, 3, 24), (130, 640)]


def weights(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> np.ndarray:
    data = rng.integers(1, 128, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < density, data, 0).astype(np.int8)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_sparse_takes_no_less_than_foretold(shape: tuple[int, ...], density: float, rng: np.random.Generator) -> None:
    w = weights(rng, shape, density)
    assert packing.least_sparse_bytes(w) <= len(packing.encode_sparse(w)[0])


@pytest.mark.parametrize("tile", [(1, 1), (2, 4), (8, 1), (16, 4), (64, 16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_interleaved_comes_back(shape: tuple[int, ...], tile: tuple[int, int], rng: np.random.Generator) -> None:
    w = weights(rng, shape, 1.0)
    data = packing.encode_interleaved(w, *tile)
    assert len(data) == packing.interleaved_bytes(shape, *tile)
    np.testing.assert_array_equal(packing.decode_interleaved(data, shape, *tile), w)


def test_interleaved_order() -> None:
    w = np.array([[10 * r + k for k in range(6)] for r in range(3)], np.int8)
    data = np.frombuffer(packing.encode_interleaved(w, 2, 4), np.int8)
    assert data[:16].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 4, 5, 0, 0, 14, 15, 0, 0]
    assert data[16:].tolist() == [20, 21, 22, 23, 0, 0, 0, 0, 24, 25, 0, 0, 0, 0, 0, 0]


def test_interleaved_filling_is_zero() -> None:
    data = bytearray(packing.encode_interleaved(np.ones((3, 6), np.int8), 2, 4))
    data[-1] = 1
    with pytest.raises(FormatError, match="zero-filled"):
        packing.decode_interleaved(bytes(data), (3, 6), 2, 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_paired_comes_back(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    w = weights(rng, shape, 0.9)
    data = packing.encode_paired(w)
    assert data is not None and len(data) == packing.interleaved_bytes(shape, 4, 4)
    np.testing.assert_array_equal(packing.decode_paired(data, shape), w)


def test_paired_order() -> None:
    w = np.array([[10 * r + k for k in range(6)] for r in range(3)], np.int8)
    w[0, 1] = -1
    data = packing.encode_paired(w)
    assert data is not None
    tiles = np.frombuffer(data, "<i2")
    assert tiles[:8].tolist() == [2560, 3074, 20, 22, 2815, 3331, 21, 23]
    assert tiles[8:].tolist() == [256 * 14 + 4, 0, 24, 0, 256 * 15 + 5, 0, 25, 0]


def test_what_cannot_be_paired() -> None:
    assert packing.encode_paired(np.array([[-1], [-128]], np.int8)) is None
    assert packing.encode_paired(np.array([[0], [-128]], np.int8)) is not None
    assert packing.encode_paired(np.array([[-128], [-127]], np.int8)) is not None
    large = np.zeros((2, 516), np.int8)
    large[1] = 127
    assert packing.encode_paired(large) is not None
    assert packing.encode_paired(np.pad(large, ((0, 0), (0, 1)), constant_values=4)) is None


@pytest.mark.parametrize(
    ("number", "value", "message"),
    [(0, 0x7FFF, "128"), (1, 1, "zero-filled"), (2, 256, "zero-filled"), (3, 1, "zero-filled")],
)
def test_paired_damage(number: int, value: int, message: str) -> None:
    numbers = np.zeros(8, "<i2")
    numbers[number] = value
    with pytest.raises(FormatError, match=message):
        packing.decode_paired(numbers.tobytes(), (2, 2))
    with pytest.raises(FormatError, match="12 bytes"):
        packing.decode_paired(numbers[:6].tobytes(), (2, 2))


def test_paired_sums() -> None:
    numbers = np.full((130, 8), 127 * 256, "<i2")
    with pytest.raises(FormatError, match="too large together"):
        packing.decode_paired(numbers.tobytes(), (4, 520))


@pytest.mark.parametrize("density", [0.0, 0.001, 0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_sparse_comes_back(shape: tuple[int, ...], density: float, rng: np.random.Generator) -> None:
    w = weights(rng, shape, density)
    for tile_n, bits in [(None, None), (0, 1), (1, 8), (4, 3), (64, 5)]:
        data, tile_n, bits = packing.encode_sparse(w, tile_n, bits)
        np.testing.assert_array_equal(packing.decode_sparse(data, shape, tile_n, bits), w)


def test_sparse_costs_what_it_should(rng: np.random.Generator) -> None:
    w = weights(rng, (128, 640), 0.2)
    data, tile_n, bits = packing.encode_sparse(w)
    assert (tile_n, bits) == (8, 3)
    assert len(data) < 0.305 * w.size


def test_a_bitmap_is_a_gap_of_one_bit(rng: np.random.Generator) -> None:
    w = weights(rng, (4, 16), 0.5)
    w[:, -1] = 1  # the stream ends behind the last value
    data, _, _ = packing.encode_sparse(w, 0, 1)
    bitmap = np.unpackbits(np.frombuffer(data[8:16], np.uint8), bitorder="little")
    np.testing.assert_array_equal(bitmap == 0, w.ravel() != 0)


def test_tiles_stay_small() -> None:
    for shape in SHAPES:
        rows = packing.sparse_tile_rows(shape) or shape[0]
        n, k = packing.rows_and_depth(shape)
        assert rows == 1 or min(rows, n) * k <= packing.SPARSE_TILE_ELEMENTS
        assert rows == n or rows & (rows - 1) == 0


def test_worked_example_of_the_specification(root: Path) -> None:
    text = (root / "docs" / "FORMAT.md").read_text()
    example = text[text.index("Example: N = 2, K = 8, tile_n = 1, b = 2.") : text.index("bytes = 21")]
    rows = re.findall(r"row \d:((?: +-?\d+){8})", example)
    dump = "".join(re.findall(r"^    ((?:[0-9A-F]{2} *)+)(?:  |$)", example, re.MULTILINE))
    w = np.array([row.split() for row in rows], np.int8)
    data, _, _ = packing.encode_sparse(w, 1, 2)
    assert data == bytes.fromhex(dump)
    np.testing.assert_array_equal(packing.decode_sparse(data, (2, 8), 1, 2), w)


def damaged(**changes: int) -> bytes:
    """Two tiles of 8 elements, gaps of 2 bits, as in the specification, with bytes changed by index."""
    data = bytearray.fromhex("1000000012000000110000001400000013 1F 05F9 09")
    for index, value in changes.items():
        data[int(index[1:])] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "table"),
        (damaged()[:-1], "do not match"),
        (damaged() + b"\1", "outside"),
        (damaged(b0=0x0F), "ascending"),
        (damaged(b4=0x15), "ascending"),
        (damaged(b8=0x10), "do not match"),
        (damaged(b12=0x16), "ascending"),
        (damaged(b16=0x1F), "outside"),
        (damaged(b16=0x53), "do not match"),
        (damaged(b17=0x2F), "outside"),
        (damaged(b17=0x3F), "outside"),
        (damaged(b17=0xFF), "do not match"),
    ],
)
def test_damaged_sparse_weights_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        packing.decode_sparse(data, (2, 8), 1, 2)


def test_random_sparse_bytes_are_decoded_or_refused(rng: np.random.Generator) -> None:
    good, tile_n, bits = packing.encode_sparse(weights(rng, (12, 40), 0.3), 4)
    refused = 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            packing.decode_sparse(bytes(data), (12, 40), tile_n, bits)
        except FormatError:
            refused += 1
    assert refused > 500
