#!/usr/bin/env bash
# Corpus -> two trained streams -> scores -> fusion -> report.
# Called by `make train`: train.sh OUT RECIPE [LISTS] [VIDEOS]. Run it again to go on where it was stopped.
set -euo pipefail
out=$1
recipe=$2
lists=${3:-}
videos=${4:-}

if [ -z "$lists" ] && [ -z "$videos" ]; then
    lists=$out/clips/splits # the sample clips come with theirs
elif [ -z "$lists" ]; then
    lists=$out/splits
    [ -e "$lists/classInd.txt" ] || trainer split --corpus "$out/corpus" --out "$lists"
fi

scores=()
for stream in spatial temporal; do
    trainer train "$recipe/$stream.toml" --corpus "$out/corpus" --class-index "$lists/classInd.txt" \
        --train-list "$lists/trainlist01.txt" --test-list "$lists/testlist01.txt" --out "$out/$stream" --resume
    trainer evaluate "$out/$stream" --corpus "$out/corpus" --list "$lists/testlist01.txt" --out "$out/$stream.npz"
    scores+=("$out/$stream.npz")
done
trainer fuse "${scores[@]}" --method average --out "$out/fused.npz"
trainer report --spatial "$out/spatial" --temporal "$out/temporal" --spatial-scores "$out/spatial.npz" \
    --temporal-scores "$out/temporal.npz" --fused-scores "$out/fused.npz" --corpus "$out/corpus" -o "$out/report.html"
