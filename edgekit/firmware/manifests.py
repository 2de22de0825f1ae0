# SPDX-License-Identifier: Apache-2.0
"""What makes a folder of C a Zephyr module, a PlatformIO and Arduino library and an ESP-IDF component."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from string import Template

from edgekit._version import __version__

HEADER = "edgekit_model.h"
EXAMPLE = "examples/infer/infer.ino"

# Contraction would change results; the runtime refuses to open a model where it is on.
_FLAG = "-ffp-contract=off"
_NAME_LENGTH = 48  # PlatformIO takes 50

_ZEPHYR_MODULE = Template("""\
# SPDX-License-Identifier: Apache-2.0
name: $identifier
build:
  cmake: zephyr
  kconfig: zephyr/Kconfig
""")

_ZEPHYR_KCONFIG = Template("""\
# SPDX-License-Identifier: Apache-2.0

config EDGEKIT_MODEL
  bool "$sentence"
  help
    The model and the parts of the edgekit runtime that it needs; include <$header>.
""")

_ZEPHYR_CMAKE = Template("""\
# SPDX-License-Identifier: Apache-2.0
if(CONFIG_EDGEKIT_MODEL)
  set(edgekit_src $${CMAKE_CURRENT_LIST_DIR}/../src)
  zephyr_include_directories($${edgekit_src})
  zephyr_library_named($identifier)
  zephyr_library_sources(
$zephyr_sources
  )
  zephyr_library_compile_options($flag)
endif()
""")

_ESP_IDF_CMAKE = Template("""\
# SPDX-License-Identifier: Apache-2.0
#
# A component of ESP-IDF.
idf_component_register(
  SRCS
$sources
  INCLUDE_DIRS "src"
)
target_compile_options($${COMPONENT_LIB} PRIVATE $flag)
""")

_ESP_IDF_MANIFEST = Template("""\
# SPDX-License-Identifier: Apache-2.0
version: "$version"
description: "$sentence"
license: "Apache-2.0"
""")

_ARDUINO_PROPERTIES = Template("""\
name=$name
version=$version
author=edgekit
maintainer=edgekit
sentence=$sentence
paragraph=$paragraph
category=Data Processing
url=
architectures=*
includes=$header
""")

_EXAMPLE = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs $title and prints every value of its outputs.
 */
#include <$header>

alignas(EK_ALIGN) static uint8_t memory[EDGEKIT_MODEL_MEMORY_BYTES];
alignas(EK_ALIGN) static uint8_t inputs[EDGEKIT_MODEL_INPUTS_BYTES];
alignas(EK_ALIGN) static uint8_t outputs[EDGEKIT_MODEL_OUTPUTS_BYTES];

static edgekit_net net;
static ek_status status;

static void print_output(const edgekit_port &port)
{
    if (port.format == EK_FORMAT_FLOAT) {
        const float *values = reinterpret_cast<const float *>(outputs + port.offset);
        for (uint32_t i = 0; i < port.bytes / sizeof values[0]; i++)
            Serial.println(values[i], 6);
    } else {
        const int8_t *values = reinterpret_cast<const int8_t *>(outputs + port.offset);
        for (uint32_t i = 0; i < port.bytes; i++)
            Serial.println(static_cast<int>(values[i]));
    }
}

void setup()
{
    Serial.begin(115200);
    status = edgekit_model_start(&net, memory, inputs, outputs);
}

void loop()
{
    /* Fill `inputs` here: input i of the model lies at edgekit_model_inputs[i].offset. */
    if (status == EK_OK)
        status = ek_run(net.instance);
    if (status != EK_OK)
        Serial.println(ek_status_string(status));
    else
        for (uint32_t i = 0; i < EDGEKIT_MODEL_OUTPUT_COUNT; i++)
            print_output(edgekit_model_outputs[i]);
    delay(1000);
}
""")

_README = Template("""\
# $name

$sentence. Made by `edgekit firmware --as library` (edgekit $version) for $processor.

| | bytes |
| --- | ---: |
| model, in flash | $model_bytes |
| memory of the runtime, in RAM | $memory_bytes |
| inputs and outputs, in RAM | $ports_bytes |

```c
#include <$header>

_Alignas(EK_ALIGN) static uint8_t memory[EDGEKIT_MODEL_MEMORY_BYTES];
_Alignas(EK_ALIGN) static uint8_t inputs[EDGEKIT_MODEL_INPUTS_BYTES];
_Alignas(EK_ALIGN) static uint8_t outputs[EDGEKIT_MODEL_OUTPUTS_BYTES];
static edgekit_net net;

ek_status status = edgekit_model_start(&net, memory, inputs, outputs); /* once */
if (status == EK_OK)
    status = ek_run(net.instance); /* reads `inputs`, writes `outputs`; as often as wanted */
```

A program can hold one such library: the runtime in a second one would have the same names.

## Zephyr

In the application's `CMakeLists.txt`, before `find_package(Zephyr)`:

    list(APPEND ZEPHYR_EXTRA_MODULES /path/to/this/folder)

and in `prj.conf`:

    CONFIG_EDGEKIT_MODEL=y
$fpu
## PlatformIO

Copy the folder to `lib/$name` of the project.

## Arduino

Copy the folder to `libraries/$name` of the sketchbook; the example is under *File > Examples > $name*.

## ESP-IDF

Copy the folder to `components/$name` of the project, and add `$name` to `REQUIRES` of the component that uses it.

## Anything else

Compile every `.c` below `src/` with `-std=c11 $flag -Isrc`. The pragmas in `src/edgekit/compile.h` turn contraction
off where flags cannot be given, and ask GCC for `-O2` in the kernels; `edgekit_model_start` refuses a build that contracts all the same.
""")

_ZEPHYR_FPU = """\
    CONFIG_FPU=y
"""


def library_name(title: str) -> str:
    """A name that every ecosystem takes: lower case letters, digits and single dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"edgekit-{words}"[:_NAME_LENGTH].rstrip("-")


def manifests(title: str, processor: str, sources: Sequence[str], sizes: Mapping[str, int], fpu: bool) -> dict[str, str]:
    """The files, by their paths in the library's folder.

    Args:
        title: the model's name, of word characters, dots and dashes.
        processor: what the library is for, in words.
        sources: C files, relative to the library's folder.
        sizes: `model_bytes`, `memory_bytes`, `ports_bytes`.
        fpu: its processor has an FPU that the kernels count on.
    """
    name = library_name(title)
    values = {
        "name": name,
        "identifier": name.replace("-", "_"),
        "title": title,
        "version": __version__,
        "header": HEADER,
        "flag": _FLAG,
        "processor": processor,
        "sentence": f"The network {title} in int8 and the edgekit runtime for it",
        "paragraph": f"For {processor}. Results are the same bits on every processor.",
        "sources": "\n".join(f'    "{path}"' for path in sources),
        "zephyr_sources": "\n".join(f"    ${{edgekit_src}}/{path.removeprefix('src/')}" for path in sources),
        "fpu": _ZEPHYR_FPU if fpu else "",
        **{key: f"{value:,}" for key, value in sizes.items()},
    }
    templates = {
        "zephyr/module.yml": _ZEPHYR_MODULE,
        "zephyr/Kconfig": _ZEPHYR_KCONFIG,
        "zephyr/CMakeLists.txt": _ZEPHYR_CMAKE,
        "CMakeLists.txt": _ESP_IDF_CMAKE,
        "idf_component.yml": _ESP_IDF_MANIFEST,
        "library.properties": _ARDUINO_PROPERTIES,
        EXAMPLE: _EXAMPLE,
        "README.md": _README,
    }
    files = {path: template.substitute(values) for path, template in templates.items()}
    return {**files, "library.json": _platformio(values)}


def _platformio(values: Mapping[str, str]) -> str:
    folder, file = EXAMPLE.rsplit("/", 1)
    manifest = {
        "name": values["name"],
        "version": values["version"],
        "description": f"{values['sentence']}. {values['paragraph']}",
        "license": "Apache-2.0",
        "frameworks": "*",
        "platforms": "*",
        "headers": HEADER,
        "build": {"srcDir": "src", "includeDir": "src", "flags": [_FLAG]},
        "examples": [{"name": "infer", "base": folder, "files": [file]}],
    }
    return json.dumps(manifest, indent=2) + "\n"
