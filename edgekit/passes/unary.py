# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable: the one place that knows what a "Unary" node computes.

A Unary node holds one function (`attrs["fn"]`, `attrs["params"]`) or, after the passes merged
several, `attrs["chain"]`: a tuple of (fn, params) steps applied in order. Read it through `chain`
and evaluate it through `apply`. The integer operator is a table of 256 entries, so everything
here is float64 NumPy and runs in the converter only.

A function is named after its ONNX operator and takes that operator's attributes as parameters.
To add one, add an entry to `FUNCTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.graph import Node

Params = Mapping[str, Any]
Step = tuple[str, Params]
Chain = tuple[Step, ...]


@dataclass(frozen=True)
class Function:
    """A function of one variable.

    Attributes:
        apply: float64 array and the parameters by keyword -> float64 array. Defined on the
            extended reals: an infinite argument gives the limit.
        defaults: the parameters and their ONNX defaults; None marks one that must be given.
        turns: parameters -> where the function stops being monotonic, in any order: extrema,
            ends of the domain, both sides of a pole. Empty for a monotonic function.
        sampled: the turning points are not known; `output_range` samples.
    """

    apply: Callable[..., np.ndarray]
    defaults: Params = field(default_factory=dict)
    turns: Callable[[Params], Sequence[float]] = lambda params: ()
    sampled: bool = False


def _logistic(x: np.ndarray) -> np.ndarray:
    # exp of a non-positive argument never overflows.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x.ravel()], dtype=np.float64).reshape(x.shape)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * b where a factor that vanishes at infinity wins over one that grows."""
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def _hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu(x: np.ndarray, approximate: int) -> np.ndarray:
    if approximate:
        cdf = 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    else:
        cdf = 0.5 * (1.0 + _erf(x * math.sqrt(0.5)))
    return _product(x, cdf)


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _celu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(np.minimum(x / alpha, 0.0)))


def _selu(x: np.ndarray, alpha: float, gamma: float) -> np.ndarray:
    return gamma * _elu(x, alpha)


def _softsign(x: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(x), np.sign(x), x / (1.0 + np.abs(x)))


def _affine(x: np.ndarray, mul: float, add: float) -> np.ndarray:
    return x * mul + add if mul else np.full_like(x, add)


def _around_zero(params: Params) -> Sequence[float]:
    return (0.0,)


def _pole_at_zero(params: Params) -> Sequence[float]:
    return (-math.ulp(0.0), 0.0, math.ulp(0.0))


def _pow_turns(params: Params) -> Sequence[float]:
    return _pole_at_zero(params) if params["exponent"] < 0 else (0.0,)


# Minima of x * logistic(x), of both forms of GELU, and of x * tanh(softplus(x)), to float64 precision.
_SWISH_MINIMUM = -1.2784645427610738
_GELU_MINIMUM = {0: -0.7517915246935645, 1: -0.7524614220710163}
_MISH_MINIMUM = -1.1924312145154922


FUNCTIONS: dict[str, Function] = {
    "Abs": Function(np.abs, turns=_around_zero),
    "Affine": Function(_affine, {"mul": 1.0, "add": 0.0}),
    "Atan": Function(np.arctan),
    "Ceil": Function(np.ceil),
    "Celu": Function(_celu, {"alpha": 1.0}),
    "Clip": Function(lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi), {"lo": -math.inf, "hi": math.inf}),
    "Cos": Function(np.cos, sampled=True),
    "Elu": Function(_elu, {"alpha": 1.0}),
    "Erf": Function(_erf),
    "Exp": Function(np.exp),
    "Floor": Function(np.floor),
    "Gelu": Function(_gelu, {"approximate": 0}, lambda p: (_GELU_MINIMUM[int(p["approximate"])],)),
    "HardSigmoid": Function(_hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": Function(lambda x: _product(x, _hard_sigmoid(x, 1 / 6, 0.5)), turns=lambda p: (-1.5,)),
    "LeakyRelu": Function(lambda x, alpha: np.where(x >= 0, x, alpha * x), {"alpha": 0.01}, _around_zero),
    "Log": Function(np.log, turns=_around_zero),
    "Mish": Function(lambda x: _product(x, np.tanh(_softplus(x))), turns=lambda p: (_MISH_MINIMUM,)),
    "Neg": Function(np.negative),
    "Pow": Function(lambda x, exponent: np.power(x, exponent), {"exponent": None}, _pow_turns),
    "Product": Function(lambda x, left, right: _product(run(left, x), run(right, x)), {"left": None, "right": None}, sampled=True),
    "Reciprocal": Function(np.reciprocal, turns=_pole_at_zero),
    "Relu": Function(lambda x: np.maximum(x, 0.0)),
    "Round": Function(np.rint),
    "Selu": Function(_selu, {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    "Sigmoid": Function(_logistic),
    "Sign": Function(np.sign),
    "Sin": Function(np.sin, sampled=True),
    "Softplus": Function(_softplus),
    "Softsign": Function(_softsign),
    "Sqrt": Function(np.sqrt, turns=_around_zero),
    "Sum": Function(lambda x, left, right: run(left, x) + run(right, x), {"left": None, "right": None}, sampled=True),
    "Swish": Function(lambda x, alpha: _product(x, _logistic(alpha * x)), {"alpha": 1.0}, lambda p: (_SWISH_MINIMUM / (p["alpha"] or 1.0),)),
    "Tanh": Function(np.tanh),
    "ThresholdedRelu": Function(lambda x, alpha: np.where(x > alpha, x, 0.0), {"alpha": 1.0}, lambda p: (p["alpha"], np.nextafter(p["alpha"], math.inf))),
}  # fmt: skip
"""Every function by name. "Sum" and "Product" join two chains over the same variable: what is left of
a spelled-out activation that has no name of its own."""

_SAMPLES = 4097


def chain(node: Node) -> Chain:
    """The steps of a Unary node, one or more, in the order in which they apply."""
    if "chain" in node.attrs:
        return tuple(node.attrs["chain"])
    return ((node.attrs["fn"], node.attrs.get("params", {})),)


def attributes(steps: Chain) -> dict[str, Any]:
    """The attributes of a Unary node that computes `steps`: `fn` and `params` for one, `chain` for several."""
    if len(steps) == 1:
        return {"fn": steps[0][0], "params": dict(steps[0][1])}
    return {"chain": tuple(steps)}


def complete(step: Step) -> dict[str, Any]:
    """The parameters of a step, defaults filled in."""
    fn, params = step
    return {**FUNCTIONS[fn].defaults, **params}


def run(steps: Chain, x: np.ndarray) -> np.ndarray:
    """`steps` of `x`, elementwise, in float64.

    Outside a function's domain the result is NaN or infinite without a warning: which of the 256
    inputs of a table can occur is not known here.
    """
    y = np.asarray(x, dtype=np.float64)
    with np.errstate(all="ignore"):
        for step in steps:
            y = FUNCTIONS[step[0]].apply(y, **complete(step))
    return y


def apply(node: Node, x: np.ndarray) -> np.ndarray:
    """What Unary node `node` computes from `x`, elementwise, in float64."""
    return run(chain(node), x)


def output_range(steps: Chain, lo: float = -math.inf, hi: float = math.inf) -> tuple[float, float]:
    """Bounds of `steps` over [lo, hi]: exact but for functions without known turning points, which are sampled.

    An end where the function is undefined counts as absent; (-inf, inf) where nothing is known.
    """
    for step in steps:
        lo, hi = _step_range(step, lo, hi)
    return lo, hi


def _step_range(step: Step, lo: float, hi: float) -> tuple[float, float]:
    function, params = FUNCTIONS[step[0]], complete(step)
    points = [lo, hi, *(t for t in function.turns(params) if lo < t < hi)]
    if function.sampled:
        # Activations have their structure near zero; beyond it they are nearly linear or constant.
        points.extend(np.linspace(max(lo, -64.0), min(hi, 64.0), _SAMPLES))
        points.extend(np.linspace(max(lo, -1e4), min(hi, 1e4), _SAMPLES))
    y = run((step,), np.array(points))
    y = y[~np.isnan(y)]
    return (float(y.min()), float(y.max())) if y.size else (-math.inf, math.inf)


def describe(node: Node) -> str:
    """The functions of a Unary node for reports: "Relu", "Sigmoid, Affine"."""
    return ", ".join(fn for fn, _ in chain(node))
