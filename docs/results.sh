#!/bin/sh
# Train on the magnetic tiles with labels of images alone, export, and measure on the test split.
# usage: docs/results.sh DATA
set -eu
run=runs/tile
lrp-edge train "$1" -o "$run" --overwrite
lrp-edge export "$run/model.safetensors" -o "$run" --size dynamic --explain defect --mask gmm --smoothing gaussian:4
lrp-edge evaluate "$run/model.onnx" "$1" --split "$run/split.json" --part test --json "$run/results.json" --markdown "$run/results.md"
cat "$run/results.md"
