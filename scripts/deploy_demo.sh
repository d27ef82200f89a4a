#!/bin/sh
# From a condensed set to a network of 70 kB that names meshes: every command is printed before it runs.
set -eu
folder=${1:-deploy-demo}
mkdir -p "$folder"
run() { echo "\$ $*"; "$@"; echo; }

run pcdistill distill --data shapes --bytes-per-class 1536 --points 128 --bits 6 --members 5 --steps 200 --force --output "$folder/shapes.h5"
run pcdistill train shapes --points 128 --network pointnet-plain --train-steps 300 --force --output "$folder/teacher.safetensors"
run pcdistill train "$folder/shapes.h5" --student tiny --teacher "$folder/teacher.safetensors" --soft-loss mse \
    --force --output "$folder/student.safetensors"
run pcdistill export "$folder/student.safetensors" --int8 --training-set "$folder/shapes.h5" --force --output "$folder/student.onnx"
run pcdistill evaluate "$folder/student.onnx"
for name in chair lamp mug airplane; do
    run python "$(dirname "$0")/write_mesh.py" "$name" "$folder/$name.ply" 1
done
run pcdistill predict "$folder/student.onnx" "$folder/chair.ply" "$folder/lamp.ply" "$folder/mug.ply" \
    "$folder/airplane.ply" --latency
