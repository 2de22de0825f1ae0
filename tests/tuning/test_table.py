# SPDX-License-Identifier: Apache-2.0
"""The table of `edgekit tune`: written, read, merged, refused; and what a program gets from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import __version__
from edgekit.errors import InputError
from edgekit.plan import plan
from edgekit.program import Choice, Program
from edgekit.tuning import Layer, Table
from edgekit.tuning.local import cpuinfo_name
from edgekit.tuning.table import layer_name
from tests import random_programs as programs

ADD = Layer("add 1x2 1x2 -> 1x2", "add_avx2", "add_sse41", {"add_avx2": 2.0, "add_sse41": 1.5})
LUT = Layer("lut 1x2 -> 1x2", "lut_avx2", "lut_avx2", {"lut_avx2": 1.0})
TABLE = Table("Processor 1", ("scalar", "sse41", "avx2"), (ADD, LUT))


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "net.tuned.json"
    TABLE.write(path)
    assert Table.read(path) == TABLE
    assert path.read_text().startswith('{\n  "edgekit_tuning": 1,\n')
    assert list(tmp_path.iterdir()) == [path]


def test_a_newer_measurement_replaces_an_older_one() -> None:
    newer = replace(ADD, kernel="add_avx2")
    other = replace(ADD, default="add_scalar", us={"add_scalar": 9.0, "add_sse41": 1.5})
    merged = TABLE.merged(Table(TABLE.processor, TABLE.kernels, (newer, other)))
    assert set(map(str, merged.layers)) == set(map(str, (newer, LUT, other)))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"processor": "Processor 2"}, "another processor: Processor 1, not Processor 2"),
        ({"kernels": ("scalar",)}, "another choice of kernel sets: scalar, sse41, avx2, not scalar"),
        ({"edgekit": "0.0.9"}, "another version of edgekit"),
    ],
)
def test_tables_of_different_machines_do_not_mix(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TABLE.merged(replace(TABLE, **change))


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    content = TABLE.as_dict()
    change(content)
    return json.dumps(content)


BAD = {
    "nothing": ("", "not a table of `edgekit tune`"),
    "no json": ("{", "not a table of `edgekit tune`"),
    "deep json": ("[" * 100_000, "not a table of `edgekit tune`"),
    "another json": ("[1, 2]", "has no edgekit_tuning"),
    "no utf-8": ("\udcff", "not a table of `edgekit tune`: not text"),
    "another layout": (changed(lambda t: t.update(edgekit_tuning=2)), "a table of version 2"),
    "another version": (changed(lambda t: t.update(edgekit="9.9")), f"edgekit 9.9, this is edgekit {__version__}"),
    "no processor": (changed(lambda t: t.pop("processor")), "has no 'processor'"),
    "empty processor": (changed(lambda t: t.update(processor="")), "should be a name"),
    "unknown set": (changed(lambda t: t.update(kernels=["mmx"])), "should be a list of kernel sets"),
    "layers no list": (changed(lambda t: t.update(layers={})), "layers should be a list"),
    "layer no object": (changed(lambda t: t.update(layers=[3])), "layer 0: should be an object"),
    "layer without a field": (changed(lambda t: t["layers"][0].pop("us")), "has no 'us'"),
    "times no object": (changed(lambda t: t["layers"][0].update(us=[])), "us should be microseconds"),
    "time no number": (changed(lambda t: t["layers"][0]["us"].update(add_avx2="x")), "us should be microseconds"),
    "time not finite": (changed(lambda t: t["layers"][0]["us"].update(add_avx2=float("nan"))), "us should be microseconds"),
    "time too large": (changed(lambda t: t["layers"][0]["us"].update(add_avx2=10**400)), "us should be microseconds"),
    "name no text": (changed(lambda t: t["layers"][0].update(layer="a\ud800")), "should be a name"),
    "choice not measured": (changed(lambda t: t["layers"][0].update(kernel="add_scalar")), "us lacks add_avx2 or add_scalar"),
    "unknown kernel": (changed(lambda t: t["layers"][0]["us"].update(add_mmx=1)), "no kernel is named add_mmx"),
    "another kind": (changed(lambda t: t["layers"][0]["us"].update(mul_avx2=1)), "kernels of different kinds"),
    "twice": (changed(lambda t: t["layers"].append(t["layers"][0])), "stands there twice"),
}


@pytest.mark.parametrize("text, message", BAD.values(), ids=list(BAD))
def test_a_bad_table_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as refused:
        Table.read(path)
    assert str(path) in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_choices_are_for_every_layer_of_the_shape(rng: np.random.Generator) -> None:
    program = programs.random_program(rng, 12)
    plan(program)
    names = [layer_name(program, op) for op in program.ops]
    layer = replace(ADD, layer=names[3])
    table = replace(TABLE, layers=(layer, replace(LUT, layer=names[0])))
    expected = [Choice(i, "add_avx2", "add_sse41") for i, name in enumerate(names) if name == names[3]]
    assert table.choices(program) == expected
    assert [op.name for op in table.missing(program)] == [
        op.name for op, name in zip(program.ops, names, strict=True) if name not in (names[0], names[3])
    ]
    assert TABLE.choices(Program("empty")) == []


def test_names_of_processors() -> None:
    assert cpuinfo_name("processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags : a b\n") == "AMD EPYC 9R14"
    assert cpuinfo_name("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0b\n") == "ARM implementer 0x41 part 0xd0b"
    pi = "processor : 0\nmodel name : ARMv7 Processor rev 3 (v7l)\nCPU implementer : 0x41\nCPU part : 0xd08\n"
    assert cpuinfo_name(pi) == "ARM implementer 0x41 part 0xd08"
    assert cpuinfo_name("") == ""
