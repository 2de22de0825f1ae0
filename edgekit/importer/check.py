# SPDX-License-Identifier: Apache-2.0
"""Reads an .onnx file that nobody vouches for.

After `read` the model is in memory with all of its weights, its graph is a sorted acyclic one in
which every tensor has one writer, functions are inlined, and no size exceeds the limits below.
Nothing is executed and no library beyond protobuf and onnx's inliner has seen it.
"""

from __future__ import annotations

import heapq
import math
import stat
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto
from onnx.inliner import inline_local_functions

from edgekit.errors import ModelError, first_line
from edgekit.importer.session import RUNTIME_IR_VERSION

MIN_OPSET = 9
MAX_OPSET = onnx.defs.onnx_opset_version()
MIN_IR_VERSION = 3
MAX_IR_VERSION = onnx.IR_VERSION

MAX_FILE_BYTES = 2**31 - 1
"""What protobuf can hold; weights in external files count against MAX_TOTAL_ELEMENTS only."""
MAX_NODES = 10_000
MAX_TENSOR_ELEMENTS = 2**27
MAX_TOTAL_ELEMENTS = 2**28
MAX_RANK = 16
"""Of anything in the file; what reaches the graph is limited by format.schema.MAX_RANK."""

STANDARD_DOMAINS = ("", "ai.onnx")
FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def read(path: Path) -> onnx.ModelProto:
    """Reads and checks a model file.

    Raises:
        ModelError: the file is missing, damaged or hostile, or a limit is exceeded.
    """
    model = _parse(path)
    _check_versions(path, model)
    _check_size(path, model)
    model = _inline(path, model)
    _normalize(model)
    _check_tensors(path, model)
    _check_names(path, model.graph)
    _check_ports(path, model.graph)
    _check_nodes(path, model)
    _sort(path, model.graph)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators."""
    return next(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)


def element_count(dims: Sequence[int]) -> int:
    """The product of `dims`, exact however large."""
    return math.prod(int(d) for d in dims)


def all_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every stored tensor of the model, subgraphs and functions included, with a name for messages."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    yield from ((f"initializer '{t.name}'", t) for t in graph.initializer)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Sequence[onnx.NodeProto]) -> Iterator[tuple[str, TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            name = f"attribute '{attribute.name}' of node '{node.name or ', '.join(node.output)}'"
            yield from ((name, t) for t in attribute.tensors)
            if attribute.HasField("t"):
                yield name, attribute.t
        for graph in _graphs(node):
            yield from _graph_tensors(graph)


def _parse(path: Path) -> onnx.ModelProto:
    try:
        info = path.stat()
    except OSError as error:
        raise ModelError(f"{path}: {_reason(error)}; give the path of an .onnx file") from None
    if not stat.S_ISREG(info.st_mode):
        raise ModelError(f"{path}: not a file; give the path of an .onnx file")
    if info.st_size == 0:
        raise ModelError(f"{path}: the file is empty; export the model again")
    if info.st_size > MAX_FILE_BYTES:
        raise ModelError(f"{path}: {info.st_size} bytes are more than the limit of {MAX_FILE_BYTES}")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {_reason(error)}") from None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{path}: damaged, or not an ONNX file; export the model again") from None
    if not _strings_are_text(model):
        raise ModelError(f"{path}: damaged, a name in it is not UTF-8 text; export the model again")
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError(f"{path}: holds no ONNX graph with nodes; export the model again")
    return model


def _strings_are_text(message: Message) -> bool:
    """protobuf hands out bytes for a string field that is no UTF-8, and nothing here expects that."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == FieldDescriptor.TYPE_STRING and not all(isinstance(v, str) for v in values):
            return False
        if field.type == FieldDescriptor.TYPE_MESSAGE and not all(_strings_are_text(v) for v in values):
            return False
    return True


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _check_versions(path: Path, model: onnx.ModelProto) -> None:
    if not MIN_IR_VERSION <= model.ir_version <= MAX_IR_VERSION:
        raise ModelError(
            f"{path}: IR version {model.ir_version} is outside {MIN_IR_VERSION} to {MAX_IR_VERSION}; "
            "export the model with another version of the exporter, or update the onnx package"
        )
    versions = [o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS]
    if len(versions) != 1:
        raise ModelError(
            f"{path}: declares {len(versions)} versions of the standard operators; export it again"
        )
    if not MIN_OPSET <= versions[0] <= MAX_OPSET:
        raise ModelError(
            f"{path}: opset {versions[0]} is outside {MIN_OPSET} to {MAX_OPSET}; export the model with "
            f"opset_version=17, or convert it with onnx.version_converter"
        )


def _check_size(path: Path, model: onnx.ModelProto) -> None:
    """Limits before anything is expanded: nodes after inlining, elements of every tensor."""
    nodes = _inlined_node_count(path, model)
    if nodes > MAX_NODES:
        raise ModelError(f"{path}: {nodes} nodes are more than the limit of {MAX_NODES}; use a smaller model")
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise ModelError(f"{path}: initializer '{name}' is sparse; store it as a dense tensor")
    total = 0
    for name, tensor in all_tensors(model):
        if any(d < 0 for d in tensor.dims):
            raise ModelError(
                f"{path}: {name} has a negative dimension in {list(tensor.dims)}; export the model again"
            )
        if len(tensor.dims) > MAX_RANK:
            raise ModelError(f"{path}: {name} has {len(tensor.dims)} dimensions, more than {MAX_RANK}")
        count = element_count(tensor.dims)
        total += count
        if count > MAX_TENSOR_ELEMENTS or total > MAX_TOTAL_ELEMENTS:
            raise ModelError(
                f"{path}: {name} of shape {list(tensor.dims)} exceeds the limit of {MAX_TENSOR_ELEMENTS} elements "
                f"per tensor and {MAX_TOTAL_ELEMENTS} in all"
            )


def _inlined_node_count(path: Path, model: onnx.ModelProto) -> int:
    """Nodes once every call of a function is replaced; a few functions can nest to billions."""
    functions = {(f.domain, f.name): f for f in model.functions}
    if len(functions) != len(model.functions):
        raise ModelError(f"{path}: a function is defined twice; export the model again")
    active: set[tuple[str, str]] = set()

    @cache
    def count(key: tuple[str, str]) -> int:
        if key in active:
            raise ModelError(f"{path}: function '{key[1]}' calls itself; export the model again")
        active.add(key)
        result = total(functions[key].node)
        active.remove(key)
        return result

    def total(nodes: Sequence[onnx.NodeProto]) -> int:
        result = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            result += count(key) if key in functions else 1
            result += sum(total(graph.node) for graph in _graphs(node))
        return result

    try:
        return total(model.graph.node)
    except RecursionError:
        raise ModelError(f"{path}: functions or subgraphs nest too deeply; export the model again") from None


def _inline(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    try:
        return inline_local_functions(model)
    except Exception as error:
        raise ModelError(
            f"{path}: its functions cannot be inlined ({first_line(error)}); export it again"
        ) from None


def _normalize(model: onnx.ModelProto) -> None:
    """One spelling: an IR version that ONNX Runtime reads, domain "" for the standard operators,
    a name of its own for every node, no inputs that are initializers (IR 3), and none left out at the end
    of a node's by an empty name, which ends the process in ONNX Runtime's LayerNormalization."""
    model.ir_version = RUNTIME_IR_VERSION
    for opset in model.opset_import:
        opset.domain = "" if opset.domain in STANDARD_DOMAINS else opset.domain
    names: set[str] = set()
    for node in model.graph.node:
        node.domain = "" if node.domain in STANDARD_DOMAINS else node.domain
        output = next(iter(node.output), "")
        if not node.name:
            node.name = output
        elif node.name in names:
            node.name = f"{node.name} ({output})"
        names.update([node.name] if node.name else [])
        while node.input and not node.input[-1]:
            del node.input[-1]
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _check_tensors(path: Path, model: onnx.ModelProto) -> None:
    """Brings in external data and checks that every tensor holds what its shape says, all of it finite."""
    for name, tensor in all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _load_external(path, name, tensor)
        try:
            data = onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise ModelError(
                f"{path}: {name} is damaged ({first_line(error)}); export the model again"
            ) from None
        if tensor.data_type not in FLOAT_TYPES:
            continue
        data = data.astype(np.float64) if tensor.data_type == TensorProto.BFLOAT16 else data
        # A single infinity is how exporters spell an open bound of Clip or a start value of Max.
        if np.isnan(data).any() or (data.size > 1 and np.isinf(data).any()):
            raise ModelError(f"{path}: {name} holds NaN or infinity; train or export the model again")


def _load_external(path: Path, name: str, tensor: TensorProto) -> None:
    """Replaces a reference to another file by its bytes; the file lies in the model's folder or below."""
    entries = {e.key: e.value for e in tensor.external_data}
    data_path = _external_path(path, name, entries.get("location", ""))
    try:
        offset, size = int(entries.get("offset", 0)), data_path.stat().st_size
        length = int(entries.get("length", size - offset))
    except ValueError:
        raise ModelError(
            f"{path}: {name} has a damaged reference to external data; export it again"
        ) from None
    expected = element_count(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if offset < 0 or length != expected or offset + length > size:
        raise ModelError(
            f"{path}: {name} needs {expected} bytes, but bytes {offset} to {offset + length} are claimed of "
            f"external file '{data_path.name}' with {size}; export the model again"
        )
    with data_path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _external_path(path: Path, name: str, location: str) -> Path:
    folder = path.parent
    relative = PurePosixPath(location)
    foreign = "\\" in location or PureWindowsPath(location).drive or "\0" in location
    if not location or relative.is_absolute() or ".." in relative.parts or foreign:
        raise ModelError(
            f"{path}: {name} refers to external data outside the model's folder ({location!r}); "
            "save the model with its weights inside, or beside it"
        )
    data_path = folder / relative
    for part in (data_path, *data_path.parents):
        if part == folder:
            break
        if part.is_symlink():
            raise ModelError(
                f"{path}: external data '{location}' of {name} is a symbolic link; copy the file itself"
            )
    if not data_path.is_file():
        raise ModelError(f"{path}: external data '{location}' of {name} is missing; put it beside the model")
    return data_path


def _check_names(path: Path, graph: onnx.GraphProto) -> None:
    """One writer per tensor, and a writer for every tensor that is read."""
    writer: dict[str, str] = {}

    def write(name: str, what: str) -> None:
        if name in writer:
            raise ModelError(
                f"{path}: tensor '{name}' is defined twice, by {writer[name]} and {what}; export the model again"
            )
        writer[name] = what

    for i in graph.input:
        write(i.name, "the inputs")
    for t in graph.initializer:
        write(t.name, "the initializers")
    for node in graph.node:
        for output in node.output:
            if output:
                write(output, f"{node.op_type} node '{node.name}'")
    for node in graph.node:
        for name in node.input:
            if name and name not in writer:
                raise ModelError(
                    f"{path}: {node.op_type} node '{node.name}' reads tensor '{name}', which nothing writes; "
                    "export the model again"
                )
    for output in graph.output:
        if output.name not in writer:
            raise ModelError(f"{path}: output '{output.name}' is written by no node; export the model again")


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    """Every standard operator has the inputs, outputs and attributes that its definition asks for."""
    opset = opset_of(model)
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        known = not node.domain and onnx.defs.has(node.op_type, opset, "")
        # Subgraphs would be checked in a scope that is not built here; control flow is refused anyway.
        if not known or onnx.defs.get_schema(node.op_type, opset, "").deprecated or any(_graphs(node)):
            continue
        try:
            onnx.checker.check_node(node, context)
        except Exception as error:
            raise ModelError(
                f"{path}: {node.op_type} node '{node.name}' is malformed ({first_line(error)}); export it again"
            ) from None
        _check_split(path, node)


def _check_split(path: Path, node: onnx.NodeProto) -> None:
    """onnx's shape inference ends the process where a Split has more outputs than it says."""
    said = next((a.i for a in node.attribute if a.name == "num_outputs"), len(node.output))
    if node.op_type == "Split" and said != len(node.output):
        raise ModelError(
            f"{path}: Split node '{node.name}' is malformed (num_outputs is {said}, and it has {len(node.output)}); "
            "export it again"
        )


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_ports(path: Path, graph: onnx.GraphProto) -> None:
    if not graph.input:
        raise ModelError(f"{path}: the model has no inputs; export it with its input as an argument")
    if not graph.output:
        raise ModelError(f"{path}: the model has no outputs; export it again")
    names = [o.name for o in graph.output]
    if len(set(names)) != len(names):
        raise ModelError(f"{path}: an output is listed twice in {names}; export the model again")
    inputs = {i.name for i in graph.input}
    for name in names:
        if name in inputs:
            raise ModelError(f"{path}: output '{name}' is an input; remove it from the outputs")
    for kind, ports in (("input", graph.input), ("output", graph.output)):
        for port in ports:
            form = port.type.WhichOneof("value")
            if form is not None and form != "tensor_type":
                raise ModelError(
                    f"{path}: {kind} '{port.name}' is a {form.removesuffix('_type')}; only tensors are supported"
                )
            element = port.type.tensor_type.elem_type
            if kind == "input" and element not in TensorProto.DataType.values():
                raise ModelError(
                    f"{path}: input '{port.name}' has unknown element type {element}; export it again"
                )
    for port in graph.input:
        if port.type.tensor_type.elem_type == TensorProto.UNDEFINED:
            raise ModelError(f"{path}: input '{port.name}' has no element type; export the model again")


def _sort(path: Path, graph: onnx.GraphProto) -> None:
    """Puts the nodes in topological order, keeping the file's order where that is one."""
    written_by = {o: i for i, node in enumerate(graph.node) for o in node.output if o}
    needs = [
        {written_by[t] for t in (*node.input, *_captured(node)) if t in written_by} for node in graph.node
    ]
    readers: list[list[int]] = [[] for _ in needs]
    for i, sources in enumerate(needs):
        for source in sources:
            readers[source].append(i)
    waiting = [len(sources) for sources in needs]
    ready = [i for i, n in enumerate(waiting) if n == 0]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for reader in readers[i]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        stuck = graph.node[next(i for i, n in enumerate(waiting) if n)]
        raise ModelError(
            f"{path}: {stuck.op_type} node '{stuck.name}' is part of, or behind, a cycle; export it again"
        )
    if order != sorted(order):
        nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the subgraphs of a node read, from wherever."""
    for graph in _graphs(node):
        for inner in graph.node:
            yield from inner.input
            yield from _captured(inner)
        yield from (o.name for o in graph.output)
