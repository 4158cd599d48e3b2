#!/usr/bin/env bash
# Corpus -> two trained streams -> fusion -> report.
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
    if [ -e "$lists/testlist01.txt" ] && trainer split --corpus "$out/corpus" --out "$lists" --check; then
        : # made before, of the same videos
    elif [ -e "$out/spatial/last.pt" ] || [ -e "$out/temporal/last.pt" ]; then
        echo "error: $out holds runs of the former split; take a new OUT for other videos" >&2
        exit 2
    else
        trainer split --corpus "$out/corpus" --out "$lists"
    fi
fi
if [ -e "$lists/trainlist01.txt" ]; then
    split=(--train-list "$lists/trainlist01.txt" --test-list "$lists/testlist01.txt")
    [ -e "$lists/classInd.txt" ] && split+=(--class-index "$lists/classInd.txt")
else # as HMDB-51 has them: a file per class
    split=(--train-list "$lists:train1" --test-list "$lists:test1")
fi

# Official lists name every video of a data set. What the corpus does not hold is left out, and said.
for stream in spatial temporal; do
    trainer train "$recipe/$stream.toml" --corpus "$out/corpus" "${split[@]}" --allow-missing \
        --out "$out/$stream" --resume
done
trainer fuse "$out/spatial/test_scores.npz" "$out/temporal/test_scores.npz" --out "$out/fused.npz"
trainer report --spatial "$out/spatial" --temporal "$out/temporal" --fused-scores "$out/fused.npz" \
    --corpus "$out/corpus" --out "$out/report.html"
