# SPDX-License-Identifier: Apache-2.0
"""The peers there are, and the Python environment of each.

    python -m edgekit.bench.environments [NAME ...]

installs peers, without names all of them. Engines want libraries in versions that exclude each other; so every peer
lives in an environment of its own, kept beside the builds of `edgekit build` (EDGEKIT_CACHE). Versions are pinned, as
figures belong to a version.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.client import Client, PeerError
from edgekit.building.cache import cache_folder

ADAPTERS = Path(__file__).with_name("adapters")


@dataclass(frozen=True)
class Environment:
    """A Python environment: what pip installs.

    Attributes:
        alone: packages that are installed without what they say they need, since only a program in them is used.
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        content = json.dumps([sys.version, self.requirements, self.alone])
        return cache_folder() / "peers" / f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        return self.python.exists()

    def install(self) -> None:
        """Makes the environment unless it is there.

        Raises:
            PeerError: pip fails; with the line that says why.
        """
        if self.installed:
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install-", dir=self.folder.parent) as staging:
            self._run([sys.executable, "-m", "venv", staging])
            pip = [str(Path(staging, "bin", "python")), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            self._run([*pip, *self.requirements])
            if self.alone:
                self._run([*pip, "--no-deps", *self.alone])
            # the interpreter finds its packages by its own path; only the scripts of pip would name the old one
            Path(staging).rename(self.folder)
            Path(staging).mkdir()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        if done.returncode != 0:
            lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
            why = errors[-1].removeprefix("ERROR:").strip() if errors else f"exit code {done.returncode}"
            raise PeerError(f"environment {self.name}: {why}")


@dataclass(frozen=True)
class Peer:
    """Another runtime.

    Attributes:
        make: where its int8 models are made; None: where they run.
        recipes: its ways to quantize; where there are several, the fastest counts.
        transformer_recipes: further ones for networks of matrix products.
        note: how its models are made, for the table.
    """

    name: str
    title: str
    run: Environment
    note: str
    make: Environment | None = None
    recipes: tuple[str, ...] = ("int8",)
    transformer_recipes: tuple[str, ...] = ()

    @property
    def adapter(self) -> Path:
        return ADAPTERS / f"{self.name}.py"

    @property
    def environments(self) -> tuple[Environment, ...]:
        return (self.run,) if self.make is None else (self.run, self.make)

    @property
    def installed(self) -> bool:
        return all(environment.installed for environment in self.environments)

    @property
    def stamp(self) -> str:
        """Changes with what is installed, and with the adapter."""
        adapter = hashlib.sha256(self.adapter.read_bytes()).hexdigest()
        return " ".join([*(environment.folder.name for environment in self.environments), adapter])

    def install(self) -> None:
        """Makes its environments unless they are there.

        Raises:
            PeerError: pip fails.
        """
        for environment in self.environments:
            environment.install()

    def maker(self) -> Client:
        """A process that can make its models."""
        return Client(self.title, (self.make or self.run).python, self.adapter)

    def runner(self, threads: int) -> Client:
        """A process that can run them. The number of threads is set in every way that the engines know, before any starts."""
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        return Client(self.title, self.run.python, self.adapter, environment=dict.fromkeys(variables, str(threads)))


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "litert",
            "LiteRT",
            Environment("litert", ("ai-edge-litert==2.3.0",)),
            "TensorFlow's converter, full int8 with int8 ports, weights per channel; XNNPACK delegate. For transformers also with "
            "dynamic ranges.",
            make=Environment("tensorflow", ("tensorflow-cpu==2.21.0", "onnx==1.23.2")),
            transformer_recipes=("dynamic",),
        ),
        Peer(
            "openvino",
            "OpenVINO",
            Environment("openvino", ("openvino==2026.4.1", "nncf==3.4.0", "onnx==1.23.2")),
            "NNCF post-training quantization, its preset for speed; float32 ports; latency hint, one stream.",
        ),
        Peer(
            "onnxruntime",
            "ONNX Runtime",
            Environment("onnxruntime", ("onnxruntime==1.31.1", "onnx==1.23.2")),
            "Static quantizer after its pre-processing: QDQ, uint8 activations, int8 weights per channel; float32 ports.",
        ),
        Peer(
            "ncnn",
            "ncnn",
            Environment("ncnn", ("ncnn==1.0.20261020", "numpy"), alone=("pnnx==20261020",)),
            "pnnx, then int8 weights per channel and activations by their largest value, as ncnn2table and ncnn2int8 write them "
            "(the wheel lacks those programs); float32 ports.",
        ),
        Peer(
            "mnn",
            "MNN",
            Environment("mnn", ("MNN==3.6.1", "numpy", "onnx==1.23.2")),
            "mnnconvert, then offline quantization by KL divergence and weights by their largest value; float32 ports.",
        ),
        Peer(
            "executorch",
            "ExecuTorch",
            Environment("executorch", ("executorch==1.5.1", "torch==2.13.0", "onnx==1.23.2")),
            "PT2E with the XNNPACK quantizer, symmetric, per channel; XNNPACK delegate; float32 ports. Its Python module loads PyTorch, "
            "which counts as memory but not as libraries to ship.",
        ),
    )
}


def install(names: Iterable[str]) -> dict[str, str]:
    """Installs peers; those that cannot be, with the reason."""
    failed: dict[str, str] = {}
    for name in names:
        try:
            PEERS[name].install()
        except (PeerError, OSError) as error:
            failed[name] = str(error)
    return failed


def main() -> int:
    names = sys.argv[1:] or list(PEERS)
    if unknown := [name for name in names if name not in PEERS]:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(PEERS)}", file=sys.stderr)
        return 2
    failed = install(names)
    for name in names:
        print(f"{name}: {failed.get(name, PEERS[name].run.folder)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
