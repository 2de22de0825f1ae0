# SPDX-License-Identifier: Apache-2.0
"""A certificate: which bits a model gave on which inputs, to be checked again later, elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit._version import __version__
from edgekit.atomic import write_atomically
from edgekit.errors import CheckError, DataError, InputError
from edgekit.files import read_file
from edgekit.format import schema
from edgekit.format.reader import file_bytes
from edgekit.program import Program
from edgekit.verify.backends import DEFAULT_THREADS
from edgekit.verify.report import Report
from edgekit.verify.run import Model, verify
from edgekit.verify.samples import GENERATOR, Inputs

VERSION = 1
MAX_BYTES = 2**28
"""Of a certificate; the digests of the largest program take a tenth of it."""
_FIELDS: dict[str, type] = {
    "model": dict,
    "inputs": dict,
    "samples": int,
    "outputs": dict,
    "tensors": dict,
    "backends": list,
    "versions": dict,
}


def certificate(report: Report) -> dict[str, Any]:
    """The certificate of a verification that held.

    Raises:
        CheckError: it did not hold, or the model was not a file.
    """
    if not report.ok:
        raise CheckError(f"no certificate for a model whose backends differ: {report.problems()[0]}")
    if "sha256" not in report.model:
        raise CheckError("no certificate for a program that is not in a file: write it first")
    return {
        "edgekit_certificate": VERSION,
        "model": report.model,
        "inputs": report.inputs,
        "samples": report.samples,
        "outputs": report.output_digests,
        "tensors": report.tensor_digests,
        "backends": [b.as_dict() for b in report.backends],
        "versions": versions(),
    }


def write_certificate(report: Report, path: str | os.PathLike[str]) -> None:
    """Stores `certificate(report)` as JSON, completely or not at all."""
    text = json.dumps(certificate(report), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The certificate stored at `path`.

    Raises:
        InputError: it cannot be read, is none, or is of a newer version.
    """
    try:
        content = json.loads(read_file(path, MAX_BYTES, "certificate").decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a certificate ({error})") from error
    version = content.get("edgekit_certificate") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise InputError(
            f"{path}: not a certificate; `edgekit verify MODEL.ekm --certificate FILE` writes one"
        )
    if version != VERSION:
        raise InputError(f"{path}: certificate version {version}; this edgekit reads {VERSION}")
    for name, kind in _FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise InputError(f"{path}: field '{name}' is missing or damaged; make the certificate again")
    if content["samples"] < 1:
        raise InputError(f"{path}: field 'samples' is {content['samples']}; make the certificate again")
    return content


def check_certificate(
    path: str | os.PathLike[str],
    model: Model,
    inputs: Inputs | None = None,
    *,
    backends: Sequence[str] | None = None,
    threads: Sequence[int] = DEFAULT_THREADS,
    on: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Runs the certified inputs through the backends of this machine and compares digests with the certificate.

    Args:
        path: the certificate.
        model: the file that it certifies.
        inputs: the data that it was made with, where it was not synthetic.
        backends, threads, on, progress: as in `verify`.

    Returns:
        The report; `BackendResult.disagreements` names every tensor whose digest is not the certified one.

    Raises:
        InputError: the certificate is unusable, or was made with data and none is given.
        DataError: `inputs` are not the certified ones.
        CheckError: `model` is not the certified file.
    """
    known = read_certificate(path)
    name, sha256 = _identify(model)
    if sha256 != known["model"].get("sha256"):
        raise CheckError(f"{name}: not the file that {path} certifies: its SHA-256 differs")
    source = known["inputs"]
    report = verify(
        model,
        _certified_inputs(path, source, inputs),
        backends=backends,
        samples=known["samples"],
        seed=source.get("seed", 0),
        threads=threads,
        on=on,
        progress=progress,
    )
    if report.inputs["sha256"] != source.get("sha256") or report.samples != known["samples"]:
        raise DataError(
            f"{path}: the inputs are not those it was made with: {report.samples} samples, other SHA-256"
        )
    uncertified = {**report.tensor_digests, **report.output_digests}.keys() - {**known["tensors"], **known["outputs"]}.keys()
    if uncertified:
        raise InputError(f"{path}: says nothing of tensor '{min(uncertified)}'; make the certificate again")
    _compare(report, known)
    return report


def _certified_inputs(
    path: str | os.PathLike[str], source: Mapping[str, Any], given: Inputs | None
) -> Inputs | None:
    """The data to verify with, None for synthetic samples.

    Args:
        source: what the certificate says of its inputs.

    Raises:
        InputError: they cannot be made again.
    """
    if source.get("source") == "data" and given is None:
        raise InputError(f"{path}: was made with data; give the same with --input")
    if source.get("source") != "synthetic":
        return given
    if source.get("generator") != GENERATOR:
        raise InputError(
            f"{path}: made by generator {source.get('generator')} of synthetic samples, this one is {GENERATOR}"
        )
    return None


def _identify(model: Model) -> tuple[str, str]:
    """Name and SHA-256 of a file."""
    if isinstance(model, Program):
        raise CheckError("a certificate is for a file, not for a program")
    if isinstance(model, bytes):
        return "<bytes>", hashlib.sha256(model).hexdigest()
    return Path(model).name, hashlib.sha256(file_bytes(model)).hexdigest()


def _compare(report: Report, known: dict[str, Any]) -> None:
    """Held to the certificate, the expected backend stands for all: the others were held to it."""
    computed = {**report.tensor_digests, **report.output_digests}
    certified = {**known["tensors"], **known["outputs"]}
    first = report.backends[0]
    first.disagreements += [
        f"'{name}' has digest {computed.get(name, 'none')[:16]}..., certified is {str(digest)[:16]}..."
        for name, digest in certified.items()
        if computed.get(name) != digest
    ]


def versions() -> dict[str, str]:
    """What computed: edgekit, file format, interpreter, libraries, processor architecture."""
    found = {
        "edgekit": __version__,
        "format": f"{schema.VERSION_MAJOR}.{schema.VERSION_MINOR}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
    }
    try:
        import onnxruntime
    except ImportError:
        return found
    return {**found, "onnxruntime": onnxruntime.__version__}
