# SPDX-License-Identifier: Apache-2.0
"""One file per peer: how it makes its int8 model of an ONNX file, and how it runs that.

`server.py` loads an adapter by its path, in the interpreter of the peer's own environment, which has NumPy and the
peer but not edgekit. So an adapter imports nothing of edgekit, and its engine inside functions. It defines

    version() -> str
        Imports the engine; its version.
    prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path
        Writes the peer's int8 model of a float ONNX file into `folder`; its main file. `samples` has calibration
        data by input, float32, stacked along a leading axis; each sample has the shape of the model's input.
    start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Session
        A model that is ready to run on `inputs`, float32 as the ONNX model takes them.

and, where the engine's Python module needs packages that a program in C would not ship, their folders:

    PYTHON_ONLY: tuple[str, ...]

A session has

    run() -> object
        One inference on the inputs, back when the outputs are there.
    output() -> np.ndarray
        The first output of the last run as float32, in the order of the ONNX model's.
"""
