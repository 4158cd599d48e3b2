#!/usr/bin/env bash
# Corpus -> two trained streams -> fusion -> report.
# Called by `make train`: train.sh OUT RECIPE [LISTS] [VIDEOS]. Run it again to go on where it was stopped.
# $SPLIT: number of the lists' split, 1 by default; of others the runs lie in OUT/split2 and OUT/split3.
# $WEIGHTS: what the spatial network starts from. $TRAIN: options for `trainer train`.
set -euo pipefail
out=$1
recipe=$2
lists=${3:-}
videos=${4:-}
number=${SPLIT:-1}
runs=$out
[ "$number" = 1 ] || runs=$out/split$number

if [ -z "$lists" ] && [ -z "$videos" ]; then
    lists=$out/clips/splits # the sample clips come with theirs
elif [ -z "$lists" ]; then
    lists=$out/splits
    if [ -e "$lists/testlist01.txt" ] && trainer split "$out/corpus" --out "$lists" --check; then
        : # made before, of the same videos
    elif [ -e "$out/spatial/last.pt" ] || [ -e "$out/temporal/last.pt" ]; then
        echo "error: $out holds runs of the former split; take a new OUT for other videos" >&2
        exit 2
    else
        trainer split "$out/corpus" --out "$lists"
    fi
fi
if [ -e "$lists/trainlist0$number.txt" ]; then
    split=(--train-list "$lists/trainlist0$number.txt" --test-list "$lists/testlist0$number.txt")
    [ -e "$lists/classInd.txt" ] && split+=(--class-index "$lists/classInd.txt")
else # as HMDB-51 has them: a file per class
    split=(--train-list "$lists:train$number" --test-list "$lists:test$number")
fi

# Official lists name every video of a data set. What the corpus does not hold is left out, and said.
for stream in spatial temporal; do
    start=()
    [ "$stream" = spatial ] && [ -n "${WEIGHTS:-}" ] && start=(--set "model.weights=$WEIGHTS")
    # shellcheck disable=SC2086  # TRAIN holds several options
    trainer train "$recipe/$stream.toml" --corpus "$out/corpus" "${split[@]}" --allow-missing \
        --out "$runs/$stream" --resume ${start[@]+"${start[@]}"} ${TRAIN:-}
done
# A network from scratch is surer than it is right: where videos were held out, they say by how much, and which
# stream is the better one.
fit=()
[ -e "$runs/spatial/validation_scores.npz" ] && [ -e "$runs/temporal/validation_scores.npz" ] && fit=(--method weighted --calibrate)
[ ${#fit[@]} -gt 0 ] || echo "no videos were held out to fit weights on: the streams are averaged" >&2
trainer fuse "$runs/spatial" "$runs/temporal" ${fit[@]+"${fit[@]}"} --out "$runs/fused.npz"
trainer report --spatial "$runs/spatial" --temporal "$runs/temporal" --fused-scores "$runs/fused.npz" \
    --corpus "$out/corpus" --out "$runs/report.html"
