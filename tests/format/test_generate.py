# SPDX-License-Identifier: Apache-2.0
"""What is generated from the schema is up to date."""

from __future__ import annotations

import re

from edgekit.format import generate, schema


def test_c_header_is_fresh() -> None:
    assert generate.HEADER_PATH.read_text() == generate.c_header()


def test_specification_is_fresh() -> None:
    text = generate.SPEC_PATH.read_text()
    assert generate.spec_text(text) == text


def test_specification_has_every_struct_and_enum() -> None:
    text = generate.SPEC_PATH.read_text()
    blocks = set(re.findall(r"<!-- ((?:struct|enum) \w+) -->", text))
    structs = {f"struct {s.name}" for s in (*generate._STRUCTS, *schema.OP_PARAMS.values())}
    enums = {f"enum {e.__name__}" for e in (*generate._ENUMS, schema.Feature)}
    assert blocks == structs | enums


def test_specification_names_the_version() -> None:
    text = generate.SPEC_PATH.read_text()
    version = f"{schema.VERSION_MAJOR}.{schema.VERSION_MINOR}"
    assert f"Version {version}." in text and f"- {version}:" in text
