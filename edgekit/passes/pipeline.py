# SPDX-License-Identifier: Apache-2.0
"""The passes in their order.

Six fixpoints, one after the other; each repeats its passes until none changes anything.

1. `FIRST`: what cancels without further thought.
2. `CANONICAL`: activations spelled out are found before their parts are fused elsewhere, layouts
   meet, and whatever is linear goes into weights.
3. `LEFTOVERS`: affine functions that found no layer become layers.
4. `CLAMPS`: clips go into whatever can clamp.
5. `PRODUCTS`: factors are taken as they lie in memory.
6. `TABLES`: Unary nodes in a row become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.graph import Graph
from edgekit.passes import (
    activations,
    affine,
    attention,
    clips,
    common_subexpressions,
    constants,
    dead_code,
    dense,
    names,
    pads,
    reshapes,
    transposes,
)
from edgekit.passes.edit import Editor

Pass = Callable[[Editor], bool]

# Dead code goes last: a node that nobody needs still counts as a reader.
CLEANUP: tuple[Pass, ...] = (constants.run, common_subexpressions.run, reshapes.run, dead_code.run)
LAYOUT: tuple[Pass, ...] = (dense.run, transposes.sink, attention.split_dense, dead_code.run)
FUSION: tuple[Pass, ...] = (affine.to_unary, activations.collapse, affine.fold, attention.scale_softmax, pads.run, clips.fuse)

FIRST: tuple[Pass, ...] = (*CLEANUP, transposes.merge)
CANONICAL: tuple[Pass, ...] = (*CLEANUP, *LAYOUT, *FUSION, clips.drop_redundant)
LEFTOVERS: tuple[Pass, ...] = (affine.lower, *CLEANUP, affine.fold, clips.fuse)
CLAMPS: tuple[Pass, ...] = (clips.fuse_rest, clips.drop_redundant, *CLEANUP)
PRODUCTS: tuple[Pass, ...] = (attention.transpose_products, *CLEANUP, transposes.merge)
TABLES: tuple[Pass, ...] = (activations.merge, *CLEANUP)

_LIMIT = 2_000
"""Rounds after which passes that undo each other are reported; real models take about ten."""


def optimize(graph: Graph) -> None:
    """Rewrites `graph` in place into what the quantizer lowers; its outputs keep their values.

    Results differ from the original by float rounding only. `Value.source` stays right, and
    `batch_norm_stats` follow their values: those of a value with a fused `clip` describe it
    before the clip.
    """
    edit = Editor(graph)
    run_to_fixpoint(edit, FIRST)
    transposes.anchor(edit)
    for passes in (CANONICAL, LEFTOVERS, CLAMPS, PRODUCTS, TABLES):
        run_to_fixpoint(edit, passes)
    dead_code.run(edit)
    names.run(graph)


def run_to_fixpoint(edit: Editor, passes: Sequence[Pass]) -> None:
    """Runs `passes` in order, again and again, until a round changes nothing."""
    for _ in range(_LIMIT):
        changed = [p for p in passes if p(edit)]
        if not changed:
            return
    names = ", ".join(f"{p.__module__}.{p.__name__}" for p in changed)
    raise AssertionError(f"these passes undo each other: {names}")
