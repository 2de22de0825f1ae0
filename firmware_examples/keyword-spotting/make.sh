#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Keyword spotting on a Cortex-M4 and a Cortex-M55: one folder each, made where this is called and run under QEMU.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

for target in cortex-m4 cortex-m55; do
    edgekit convert "$here/keywords.onnx" -o keywords-$target.ekm --target $target \
        --calibration "$here/keywords_calib.npz" --input-std 32 --io int8
    rm -rf keywords-$target
    edgekit firmware keywords-$target.ekm --target $target --input "$here/keywords_test.npz" -o keywords-$target
    make -s -C keywords-$target -f Makefile -f "$here/keywords.mk" hear
done
