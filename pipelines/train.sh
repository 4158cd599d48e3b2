#!/usr/bin/env bash
# Corpus -> two trained streams -> fusion -> report.
# `make train` calls train.sh OUT RECIPE [LISTS] [VIDEOS]. Call it again to continue after a stop.
# $SPLIT: number of the split, 1 by default. The runs of splits 2 and 3 are in OUT/split2 and OUT/split3.
# $WEIGHTS: start weights of the spatial network. $TRAIN: options for `trainer train`.
set -euo pipefail
out=$1
recipe=$2
lists=${3:-}
videos=${4:-}
number=${SPLIT:-1}
runs=$out
[ "$number" = 1 ] || runs=$out/split$number

if [ -z "$lists" ] && [ -z "$videos" ]; then
    lists=$out/clips/splits # the sample clips have their own lists
elif [ -z "$lists" ]; then
    lists=$out/splits
    if [ -e "$lists/testlist01.txt" ] && trainer split "$out/corpus" --out "$lists" --check; then
        : # the lists of an earlier call are for the same videos
    elif [ -e "$out/spatial/last.pt" ] || [ -e "$out/temporal/last.pt" ]; then
        echo "error: $out has runs of an earlier split; use another OUT for other videos" >&2
        exit 2
    else
        trainer split "$out/corpus" --out "$lists"
    fi
fi
if [ -e "$lists/trainlist0$number.txt" ]; then
    split=(--train-list "$lists/trainlist0$number.txt" --test-list "$lists/testlist0$number.txt")
    [ -e "$lists/classInd.txt" ] && split+=(--class-index "$lists/classInd.txt")
else # the lists of HMDB-51: one file per class
    split=(--train-list "$lists:train$number" --test-list "$lists:test$number")
fi

# Official lists name every video of a data set. Videos that the corpus does not have are skipped with a message.
for stream in spatial temporal; do
    start=()
    [ "$stream" = spatial ] && [ -n "${WEIGHTS:-}" ] && start=(--set "model.weights=$WEIGHTS")
    # shellcheck disable=SC2086  # TRAIN may have several options
    trainer train "$recipe/$stream.toml" --corpus "$out/corpus" "${split[@]}" --allow-missing \
        --out "$runs/$stream" --resume ${start[@]+"${start[@]}"} ${TRAIN:-}
done
# Networks from scratch are overconfident. Held-out videos show by how much, and which stream is better. So the
# fusion is fitted on them if there are any.
fit=()
[ -e "$runs/spatial/validation_scores.npz" ] && [ -e "$runs/temporal/validation_scores.npz" ] && fit=(--method weighted --calibrate)
[ ${#fit[@]} -gt 0 ] || echo "no videos were held out to fit weights, so the streams are averaged" >&2
trainer fuse "$runs/spatial" "$runs/temporal" ${fit[@]+"${fit[@]}"} --out "$runs/fused.npz"
trainer report --spatial "$runs/spatial" --temporal "$runs/temporal" --fused-scores "$runs/fused.npz" \
    --corpus "$out/corpus" --out "$runs/report.html"
