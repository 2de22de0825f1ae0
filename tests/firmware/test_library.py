# SPDX-License-Identifier: Apache-2.0
"""`edgekit firmware --as library`: its manifests name what is there, and it builds and gives the right bits without flags."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.building.targets import Memory
from edgekit.commands.convert import convert
from edgekit.commands.library import Library, library
from edgekit.errors import InputError
from edgekit.firmware import build, toolchain
from edgekit.firmware.boards import board, linker_script
from edgekit.firmware.manifests import library_name
from edgekit.firmware.serve import STACK_BYTES
from edgekit.format.reader import read
from edgekit.reference.executor import run
from edgekit.sources import source_root
from edgekit.verify.backends.base import Sample
from edgekit.verify.samples import synthetic
from tests.firmware.boards import ready

ARDUINO = Path(__file__).parent / "arduino"
# As Arduino's cores call GCC: no flag of ours but the include folder.
FLAGS = ["-Os", "-w", "-ffunction-sections", "-fdata-sections"]


@pytest.fixture(scope="module")
def portable(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """For any 32-bit processor."""
    ready("cortex-m3")
    return library(model, None, tmp_path_factory.mktemp("library") / "portable")


@pytest.fixture(scope="module")
def for_m4(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    ready("cortex-m4")
    return library(model, "cortex-m4", tmp_path_factory.mktemp("library") / "m4")


def sample(model: Path) -> Sample:
    """One with arrays as the program declares them, not raw ones."""
    program = read(model)
    declared = (s for s in synthetic(program, 0) if all(s[n].dtype == np.float32 for n in program.inputs))
    return next(islice(declared, 8, None))


def expected(model: Path) -> list[int]:
    """The bits that the reference gives."""
    outputs = run(read(model), sample(model))
    return [int(v) for array in outputs.values() for v in np.ascontiguousarray(array).reshape(-1).view(np.uint32)]


def sketch(made: Library, model: Path, folder: Path) -> list[Path]:
    """All that makes the example a program, with its input; C files of the library and C++."""
    (array,) = sample(model).values()
    values = ",".join(map(str, np.ascontiguousarray(array).tobytes()))
    (folder / "input.h").write_text(f"static const unsigned char input[] = {{{values}}};\n")
    return [*sorted((made.folder / "src").rglob("*.c")), ARDUINO / "sketch.cpp"]


def compile_all(command: list[str], sources: list[Path], made: Library, folder: Path) -> list[str]:
    objects = []
    includes = [f"-I{made.folder / 'src'}"]
    for i, source in enumerate(sources):
        if source.suffix == ".cpp":
            own = ["-xc++", "-std=gnu++17", "-fno-exceptions", "-fno-rtti", f"-I{folder}", f"-I{ARDUINO}"]
            own += [f"-I{made.folder / 'examples' / 'infer'}", f"-I{source_root() / 'csrc' / 'firmware'}"]
        else:
            own = ["-std=gnu17"]
        objects.append(str(folder / f"{i}.o"))
        toolchain.run([*command, *FLAGS, *own, *includes, "-c", source, "-o", objects[-1]])
    return objects


def run_on_board(name: str, made: Library, model: Path, folder: Path) -> list[str]:
    """What the example prints."""
    target = board(name)
    command = toolchain.cpu_command(target)
    firmware = source_root() / "csrc" / "firmware"
    sources = [*sketch(made, model, folder), firmware / "start.c", firmware / "semihosting.c"]
    objects = compile_all([*command, "-DSEMIHOSTING"], sources, made, folder)
    (folder / "board.ld").write_text(linker_script(target, STACK_BYTES))
    toolchain.run([*command, *toolchain.LINK_FLAGS, "-T", str(folder / "board.ld"), *objects, "-o", str(folder / "a.elf")])
    done = subprocess.run(
        [*target.emulator, str(folder / "a.elf")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=build.RUN_SECONDS, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def numbers(lines: list[str]) -> list[int]:
    """What the sketch prints where all goes well; else its complaint fails the test."""
    return [int(line) for line in lines]


def test_the_example_gives_the_reference_s_bits_on_a_board(for_m4: Library, model: Path, tmp_path: Path) -> None:
    memory, *outputs = numbers(run_on_board("cortex-m4", for_m4, model, tmp_path))
    assert memory == for_m4.memory_bytes
    assert outputs == expected(model)


@pytest.mark.slow
def test_intrinsics_of_helium_are_inlined_all_the_same(model: Path, tmp_path: Path) -> None:
    """arm_mve.h is included after the pragmas."""
    ready("cortex-m55")
    made = library(model, "cortex-m55", tmp_path / "library")
    assert any("_mve" in name for name in made.kernels)
    memory, *outputs = numbers(run_on_board("cortex-m55", made, model, tmp_path))
    assert memory == made.memory_bytes
    assert outputs == expected(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4"])
def test_the_portable_library_runs_on_boards(name: str, portable: Library, model: Path, tmp_path: Path) -> None:
    """Without an FPU and with one that fuses products and sums unless told not to."""
    ready(name)
    memory, *outputs = numbers(run_on_board(name, portable, model, tmp_path))
    assert memory == portable.memory_bytes
    assert outputs == expected(model)


@pytest.mark.slow
def test_the_portable_library_runs_on_risc_v(portable: Library, model: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: pip install 'edgekit[cross]'")
    if shutil.which("qemu-riscv32") is None:
        pytest.skip("qemu-riscv32 is not installed: apt install qemu-user")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv32-linux-musl"]
    objects = compile_all(command, sketch(portable, model, tmp_path), portable, tmp_path)
    toolchain.run([*command, "-static", *objects, "-o", str(tmp_path / "a.elf")])
    done = subprocess.run(["qemu-riscv32", tmp_path / "a.elf"], capture_output=True, text=True, check=True)
    memory, *outputs = numbers(done.stdout.splitlines())
    assert memory == portable.memory_bytes
    assert outputs == expected(model)


@pytest.mark.slow
def test_contraction_is_noticed_where_the_pragma_is_missing(for_m4: Library, model: Path, tmp_path: Path) -> None:
    """The flags of these tests are such that the pragma is what makes the results right."""
    folder = shutil.copytree(for_m4.folder, tmp_path / "contracting")
    header = folder / "src" / "edgekit" / "compile.h"
    text, pragma = header.read_text(), '#pragma GCC optimize("fp-contract=off")\n'
    assert pragma in text
    header.write_text(text.replace(pragma, ""))
    changed = Library(**{**vars(for_m4), "folder": folder})
    assert "contract" in run_on_board("cortex-m4", changed, model, tmp_path)[-1]


@pytest.mark.parametrize("system", ["zephyr", "esp-idf"])
def test_cmake_manifests_build_every_file(system: str, portable: Library, tmp_path: Path) -> None:
    for name in ("cmake", "make"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    gcc, *flags = toolchain.cpu_command(board("cortex-m4"))
    variables = {
        "LIBRARY": portable.folder,
        "SYSTEM": system,
        "CMAKE_SYSTEM_NAME": "Generic",
        "CMAKE_C_COMPILER": gcc,
        "CMAKE_C_FLAGS_INIT": " ".join(flags),
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
    }
    options = [f"-D{key}={value}" for key, value in variables.items()]
    toolchain.run(["cmake", "-G", "Unix Makefiles", "-S", ARDUINO, "-B", tmp_path, *options])
    toolchain.run(["cmake", "--build", tmp_path])
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    assert {Path(c["file"]) for c in commands} == set((portable.folder / "src").rglob("*.c"))
    assert all("-ffp-contract=off" in c["command"] for c in commands)


def test_zephyr_s_module_names_its_files(portable: Library) -> None:
    lines = (portable.folder / "zephyr" / "module.yml").read_text().splitlines()
    assert lines == [
        "# SPDX-License-Identifier: Apache-2.0",
        "name: edgekit_digits",
        "build:",
        "  cmake: zephyr",
        "  kconfig: zephyr/Kconfig",
    ]
    option = re.search(r"^config (\w+)$", (portable.folder / "zephyr" / "Kconfig").read_text(), re.M)
    assert option is not None
    assert f"if(CONFIG_{option[1]})" in (portable.folder / "zephyr" / "CMakeLists.txt").read_text()


def test_platformio_s_manifest(portable: Library) -> None:
    manifest = json.loads((portable.folder / "library.json").read_text())
    assert manifest["name"] == portable.name == "edgekit-digits"
    assert len(manifest["description"]) <= 255
    assert (portable.folder / manifest["build"]["includeDir"] / manifest["headers"]).is_file()
    assert manifest["build"]["flags"] == ["-ffp-contract=off"]
    (example,) = manifest["examples"]
    assert all((portable.folder / example["base"] / name).is_file() for name in example["files"])


def test_arduino_s_manifest(portable: Library) -> None:
    lines = (portable.folder / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    needed = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert properties.keys() == needed | {"includes"}
    assert re.fullmatch(r"[A-Za-z0-9][\w .-]{0,62}", properties["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])
    assert (portable.folder / "src" / properties["includes"]).is_file()
    sketches = list((portable.folder / "examples").rglob("*.ino"))
    assert [path.stem for path in sketches] == [path.parent.name for path in sketches] == ["infer"]


def test_esp_idf_s_manifest(portable: Library) -> None:
    lines = (portable.folder / "idf_component.yml").read_text().splitlines()
    fields = dict(re.fullmatch(r'(\w+): "([^"\\]*)"', line).groups() for line in lines if not line.startswith("#"))
    assert fields.keys() == {"version", "description", "license"}


def test_only_what_the_model_needs_is_there(portable: Library, model: Path) -> None:
    operators = re.findall(r"^EK_OPERATOR\((\w+)", (portable.folder / "src/core/operators.def").read_text(), re.M)
    assert set(operators) == {op.opcode.name for op in read(model).ops}
    assert portable.kernels and all(name.endswith("_scalar") for name in portable.kernels if name)
    assert not (portable.folder / "src/kernels/cortexm").exists()


def test_a_library_for_any_processor_may_be_larger_than_one_board(tmp_path: Path, rng: np.random.Generator) -> None:
    ready("cortex-m3")
    flash = board("cortex-m3").memory["flash"].bytes
    size = int(flash**0.5) + 64
    weights = numpy_helper.from_array(rng.standard_normal((size, size)).astype(np.float32), "w")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w"], ["y"])], "large", ports[:1], ports[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "large.onnx")
    large = tmp_path / "large.ekm"
    convert(tmp_path / "large.onnx", large)
    assert library(large, None, tmp_path / "any").model_bytes > flash
    with pytest.raises(InputError, match="of flash of cortex-m3's board"):
        library(large, "cortex-m3", tmp_path / "own")


def test_a_model_that_no_emulated_memory_holds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.commands.library._MEASURING_RAM", Memory(0, STACK_BYTES + 1000))
    with pytest.raises(InputError, match="are beyond the 1,000 that an emulated processor has for telling a library's memory"):
        library(model, None, tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_names() -> None:
    assert library_name("ic01_ResNet8") == "edgekit-ic01-resnet8"
    assert library_name("-.") == "edgekit"
    assert len(library_name("x" * 100)) == 48


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        ("cortex-m5", "out", "unknown target cortex-m5"),
        ("rpi4", "out", "target rpi4: has an operating system"),
        (None, "full", "full: exists and is no empty folder"),
    ],
)
def test_bad_arguments(target: str | None, output: str, message: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match=message):
        library(model, target, tmp_path / output)
    assert {path.name for path in tmp_path.iterdir()} == {"full"}
