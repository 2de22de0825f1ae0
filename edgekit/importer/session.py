# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as the importer uses it."""

from __future__ import annotations

import onnx
import onnxruntime


def create_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A quiet single-threaded session on the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
