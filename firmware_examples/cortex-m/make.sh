#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Bare-metal firmware for a Cortex-M4 and a Cortex-M55: one folder each, run under QEMU.
#
#   ./make.sh                                   the digits network, on its first test image
#   ./make.sh MODEL.onnx CALIBRATION [OPTION..] another one, on its first calibration sample;
#                                               options go to `edgekit convert`
set -eu
here=$(cd "$(dirname "$0")" && pwd)
digits=$here/../digits
if [ $# -eq 0 ]; then
    set -- "$digits/digits.onnx" "$digits/digits_calib.npz" --input-layout nhwc --input-std 16
    test_data=$digits/digits_test.npz
else
    test_data=$2
fi
model=$1 calibration=$2
shift 2
name=$(basename "$model" .onnx)

for target in cortex-m4 cortex-m55; do
    edgekit convert "$model" -o "$name-$target.ekm" --calibration "$calibration" --target $target "$@"
    rm -rf "$name-$target"
    edgekit firmware "$name-$target.ekm" --target $target --input "$test_data" -o "$name-$target"
    make -s -C "$name-$target" run
done
