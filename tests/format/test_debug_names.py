# SPDX-License-Identifier: Apache-2.0
"""The DEBUG section."""

from __future__ import annotations

import pytest

from edgekit.errors import FormatError
from edgekit.format import names


@pytest.mark.parametrize(
    "given",
    [
        [],
        [""],
        ["a", "a", "", "aa", "aaa", "a"],
        ["model/conv_1/Relu", "model/conv_1/Relu:0", "model/conv_2/Relu", "model/conv_2/Relu:0"],
        ["Faltung/größe", "Faltung/große", "層/一", "層/二"],
        ["x" * 1000, "x" * 999 + "y", *(f"node_{i}" for i in range(300))],
    ],
)
def test_names_come_back(given: list[str]) -> None:
    assert names.decode(names.encode(given), len(given)) == given


def test_regular_names_are_small() -> None:
    given = [f"StatefulPartitionedCall/functional_1/batch_normalization_{i}/FusedBatchNormV3:0" for i in range(40)]
    assert len(names.encode(given)) < len(given[0]) + 7 * len(given)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\0\0",
        b"\0\0\0\1a",  # no name zero places back
        b"\2\0\0\1a",  # nor two, in front of the first
        b"\1\1\0\1a",  # head longer than that name
        b"\1\0\0\2a",  # middle behind the end
        b"\1\0\0\1\xff",  # no UTF-8
        b"\1\0\0\1a\1",  # something behind the last name
        b"\xff\xff\xff\xff\xff\xff\0\0\0",  # a number without an end
    ],
)
def test_damaged_names_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="DEBUG"):
        names.decode(data, 1)
