# SPDX-License-Identifier: Apache-2.0
"""Encodings of int8 weights: canonical array <-> stored bytes (docs/FORMAT.md, chapter Weights).

Every encoding sees a tensor as a matrix of `dims[0]` rows by the product of the other
dimensions, which for Conv2D and Dense is output channels by depth.
"""

from __future__ import annotations

import numpy as np

from edgekit.errors import FormatError
from edgekit.format.schema import MAX_GAP_BITS, MAX_TILE_N, PAIRED_SUM, PAIRED_TILE, SPARSE_TILE

SPARSE_TILE_ELEMENTS = 6144
"""The writer's limit for one tile, which a runtime decodes into scratch of that many bytes."""


def rows_and_depth(shape: tuple[int, ...]) -> tuple[int, int]:
    """`shape` as a matrix: (dims[0], product of the others)."""
    return shape[0], int(np.prod(shape[1:], dtype=np.int64))


def encode_interleaved(weights: np.ndarray, tile_n: int, tile_k: int) -> bytes:
    """[N/tile_n][K/tile_k][tile_n][tile_k], both dimensions zero-filled to whole tiles."""
    n, k = rows_and_depth(weights.shape)
    matrix = np.pad(weights.reshape(n, k), ((0, -n % tile_n), (0, -k % tile_k)))
    tiles = matrix.reshape(-1, tile_n, matrix.shape[1] // tile_k, tile_k)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3)).tobytes()


def interleaved_bytes(shape: tuple[int, ...], tile_n: int, tile_k: int) -> int:
    """Stored size of `shape` under INTERLEAVED."""
    n, k = rows_and_depth(shape)
    return (n + -n % tile_n) * (k + -k % tile_k)


def decode_interleaved(data: bytes, shape: tuple[int, ...], tile_n: int, tile_k: int) -> np.ndarray:
    """Inverse of `encode_interleaved`.

    Raises:
        FormatError: the size does not fit, or the filling is not zero.
    """
    n, k = rows_and_depth(shape)
    if len(data) != interleaved_bytes(shape, tile_n, tile_k):
        raise FormatError(f"{len(data)} bytes for interleaved weights of shape {shape}")
    tiles = np.frombuffer(data, np.int8).reshape(-(-n // tile_n), -(-k // tile_k), tile_n, tile_k)
    matrix = tiles.transpose(0, 2, 1, 3).reshape(n + -n % tile_n, k + -k % tile_k)
    if matrix[n:].any() or matrix[:, k:].any():
        raise FormatError("interleaved weights are not zero-filled")
    return matrix[:n, :k].reshape(shape).copy()


def encode_paired(weights: np.ndarray) -> bytes | None:
    """256 * odd + even of two channels in 16 bits, in tiles; None where that cannot be undone."""
    n, k = rows_and_depth(weights.shape)
    matrix = np.pad(weights.reshape(n, k).astype(np.int32), ((0, -n % PAIRED_TILE), (0, -k % PAIRED_TILE)))
    pairs = 256 * matrix[1::2] + matrix[::2]
    if pairs.min() < -(2**15) or pairs.max() >= 2**15 or np.abs(matrix[1::2]).sum(axis=1).max() > PAIRED_SUM:
        return None
    tiles = pairs.astype("<i2").reshape(-1, 2, pairs.shape[1] // PAIRED_TILE, 2, 2)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3)).tobytes()


def decode_paired(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `encode_paired`.

    Raises:
        FormatError: the size does not fit, a weight is no int8 or a channel's weights too large, or the filling is not zero.
    """
    n, k = rows_and_depth(shape)
    if len(data) != interleaved_bytes(shape, PAIRED_TILE, PAIRED_TILE):
        raise FormatError(f"{len(data)} bytes for paired weights of shape {shape}")
    tiles = np.frombuffer(data, "<i2").reshape(-(-n // PAIRED_TILE), -(-k // PAIRED_TILE), 2, 2, 2)
    pairs = tiles.transpose(0, 3, 1, 4, 2).reshape(2 * len(tiles), -1).astype(np.int32)
    even = pairs.astype(np.int8).astype(np.int32)
    odd = (pairs - even) >> 8
    if odd.max() > 127:
        raise FormatError("paired weights hold 128")
    if np.abs(odd).sum(axis=1).max() > PAIRED_SUM:
        raise FormatError("paired weights of an odd channel are too large together")
    matrix = np.stack([even, odd], axis=1).reshape(2 * len(pairs), -1)
    if matrix[n:].any() or matrix[:, k:].any():
        raise FormatError("paired weights are not zero-filled")
    return matrix[:n, :k].astype(np.int8).reshape(shape)


def sparse_tile_rows(shape: tuple[int, ...]) -> int:
    """Rows of a tile that keep it within SPARSE_TILE_ELEMENTS; 0 where one tile holds everything."""
    n, k = rows_and_depth(shape)
    if n * k <= SPARSE_TILE_ELEMENTS:
        return 0
    rows = MAX_TILE_N
    while rows > 1 and rows * k > SPARSE_TILE_ELEMENTS:
        rows //= 2
    return rows


def _tiles(weights: np.ndarray, tile_n: int) -> list[np.ndarray]:
    n, k = rows_and_depth(weights.shape)
    matrix = weights.reshape(n, k)
    return [matrix[row : row + (tile_n or n)].ravel() for row in range(0, n, tile_n or n)]


def _gaps(tile: np.ndarray) -> np.ndarray:
    """Zeros in front of each element that is not zero."""
    return np.diff(np.flatnonzero(tile), prepend=-1) - 1


def _gap_stream(gaps: np.ndarray, bits: int) -> bytes:
    """Gaps as symbols of `bits` bits, least significant bit first; 2^bits - 1 skips that many zeros."""
    skip = (1 << bits) - 1
    ends = np.cumsum(gaps // skip + 1)
    symbols = np.full(ends[-1] if len(ends) else 0, skip, np.uint8)
    symbols[ends - 1] = gaps % skip
    flat = np.unpackbits(symbols[:, None], axis=1, bitorder="little", count=bits).ravel()
    return np.packbits(flat, bitorder="little").tobytes()


def _gap_bits(tiles: list[np.ndarray]) -> int:
    """The width that takes the fewest bytes."""
    gaps = [_gaps(tile) for tile in tiles]

    def cost(bits: int) -> int:
        return sum(-(-int((g // ((1 << bits) - 1) + 1).sum()) * bits // 8) for g in gaps)

    return min(range(1, MAX_GAP_BITS + 1), key=cost)


def least_sparse_bytes(weights: np.ndarray) -> int:
    """What `encode_sparse` cannot do without: a byte and a gap for each element that is not zero."""
    values = int(np.count_nonzero(weights))
    return values + values // 8


def encode_sparse(
    weights: np.ndarray, tile_n: int | None = None, bits: int | None = None
) -> tuple[bytes, int, int]:
    """Zeros left out; `tile_n` rows a tile and `bits` bits a gap, or what suits the weights best.

    Returns:
        The stored bytes, tile_n and bits.
    """
    if tile_n is None:
        tile_n = sparse_tile_rows(weights.shape)
    tiles = _tiles(weights, tile_n)
    if bits is None:
        bits = _gap_bits(tiles)
    gaps = [_gap_stream(_gaps(tile), bits) for tile in tiles]
    values = [tile[tile != 0].tobytes() for tile in tiles]

    table = np.zeros(len(tiles), SPARSE_TILE.dtype)
    table["gaps"] = table.nbytes + np.cumsum([0, *map(len, gaps[:-1])])
    table["values"] = table.nbytes + sum(map(len, gaps)) + np.cumsum([0, *map(len, values[:-1])])
    return table.tobytes() + b"".join(gaps) + b"".join(values), tile_n, bits


def decode_sparse(data: bytes, shape: tuple[int, ...], tile_n: int, bits: int) -> np.ndarray:
    """Inverse of `encode_sparse`.

    Raises:
        FormatError: the table is not ascending, a stream ends early or runs past its tile.
    """
    n, k = rows_and_depth(shape)
    count = -(-n // (tile_n or n))
    table = np.frombuffer(data, SPARSE_TILE.dtype, count) if len(data) >= 8 * count else None
    if table is None:
        raise FormatError(f"{len(data)} bytes cannot hold the table of {count} sparse tiles")
    gap_ends = [*table["gaps"].tolist(), int(table["values"][0])]
    value_ends = [*table["values"].tolist(), len(data)]
    bounds = [*gap_ends, *value_ends]
    if gap_ends[0] != table.nbytes or bounds != sorted(bounds) or bounds[-1] > len(data):
        raise FormatError("the table of sparse tiles is not in ascending order")

    out = np.zeros((n, k), np.int8)
    for index in range(count):
        rows = out[index * (tile_n or n) : (index + 1) * (tile_n or n)].reshape(-1)
        values = np.frombuffer(data[value_ends[index] : value_ends[index + 1]], np.int8)
        stream = data[gap_ends[index] : gap_ends[index + 1]]
        rows[_positions(stream, bits, len(values), rows.size, index)] = values
    return out.reshape(shape)


def _positions(stream: bytes, bits: int, count: int, elements: int, tile: int) -> np.ndarray:
    """Element indexes of the `count` values of a tile; the stream must end exactly behind the last."""
    skip = (1 << bits) - 1
    flat = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")
    fields = flat[: len(flat) // bits * bits].reshape(-1, bits)
    symbols = np.packbits(fields, axis=1, bitorder="little").ravel().astype(np.int64)
    (ends,) = np.nonzero(symbols != skip)
    used = int(ends[count - 1]) + 1 if 0 < count <= len(ends) else 0
    if count > len(ends) or len(stream) != -(-used * bits // 8) or flat[used * bits :].any():
        raise FormatError(f"sparse tile {tile}: gaps and values do not match")
    places = np.cumsum(symbols[:used] + (symbols[:used] != skip)) - 1
    places = places[ends[:count]]
    if count and places[-1] >= elements:
        raise FormatError(f"sparse tile {tile}: value {count - 1} lies outside the tile")
    return places
