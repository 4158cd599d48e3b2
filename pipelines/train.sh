#!/usr/bin/env bash
# Corpus -> two trained streams -> fusion -> report.
# `make train` calls train.sh OUT RECIPE [LISTS] [VIDEOS]. Call it again to continue after a stop.
# `train.sh --check OUT RECIPE [LISTS] [VIDEOS]` checks the options of `make train` and does nothing else.
# $SPLIT: number of the split, 1 by default. The runs of splits 2 and 3 are in OUT/split2 and OUT/split3.
# $WEIGHTS: start weights of the spatial network. $TRAIN: options for `trainer train`.
# $GROUPS_PATTERN: groups of your videos. $FIT_FOLDS: networks that score the training videos for the fusion.
set -euo pipefail

stop() {
    echo "error: $*" >&2
    exit 2
}

check_options() {
    [ -z "$videos" ] || [ -d "$videos" ] || stop "VIDEOS=$videos: there is no such folder"
    for stream in spatial temporal; do
        [ -f "$recipe/$stream.toml" ] ||
            stop "RECIPE=$recipe: there is no $recipe/$stream.toml; allowed: a folder with spatial.toml and temporal.toml"
    done
    [ -z "${WEIGHTS:-}" ] || [ -e "$WEIGHTS" ] || stop "WEIGHTS=$WEIGHTS: there is no such file"
    case ${FIT_FOLDS:-0} in 1 | *[!0-9]*) stop "FIT_FOLDS=$FIT_FOLDS; allowed: 0, or from 2" ;; esac
    case $number in [1-9]) ;; *) stop "SPLIT=$number; allowed: 1 to 9, the number of a split of LISTS" ;; esac
    if [ -n "$lists" ]; then
        [ -d "$lists" ] || stop "LISTS=$lists: there is no such folder"
        [ -e "$lists/trainlist0$number.txt" ] || compgen -G "$lists/*_test_split$number.txt" >/dev/null ||
            stop "LISTS=$lists has no split $number: neither trainlist0$number.txt (UCF-101) nor *_test_split$number.txt (HMDB-51)"
        [ ! -e "$lists/trainlist0$number.txt" ] || [ -e "$lists/testlist0$number.txt" ] ||
            stop "LISTS=$lists has trainlist0$number.txt and no testlist0$number.txt"
    elif [ "$number" != 1 ] && [ ! -e "$made_lists/trainlist0$number.txt" ]; then
        stop "SPLIT=$number needs LISTS=folder: without lists there is one split, SPLIT=1"
    fi
}

check=
if [ "$1" = --check ]; then
    check=1
    shift
fi
out=$1
recipe=$2
lists=${3:-}
videos=${4:-}
number=${SPLIT:-1}
runs=$out
[ "$number" = 1 ] || runs=$out/split$number
made_lists=$out/splits
[ -n "$videos" ] || made_lists=$out/clips/splits # the sample clips have their own lists
if [ -n "$check" ]; then
    check_options
    exit 0
fi

groups=()
[ -z "${GROUPS_PATTERN:-}" ] || groups=(--groups "$GROUPS_PATTERN")
if [ -z "$lists" ]; then
    lists=$made_lists
    if [ -z "$videos" ]; then
        : # written with the sample clips
    elif [ -e "$lists/testlist01.txt" ] && trainer split "$out/corpus" --out "$lists" --check; then
        : # the lists of an earlier call are for the same videos
    elif [ -e "$out/spatial/last.pt" ] || [ -e "$out/temporal/last.pt" ]; then
        stop "$out has runs of an earlier split; use another OUT for other videos"
    else
        trainer split "$out/corpus" --out "$lists" ${groups[@]+"${groups[@]}"}
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
    more=(${groups[@]+"${groups[@]}"})
    [ "${FIT_FOLDS:-0}" = 0 ] || more+=(--fit-folds "$FIT_FOLDS")
    [ "$stream" = spatial ] && [ -n "${WEIGHTS:-}" ] && more+=(--set "model.weights=$WEIGHTS")
    # shellcheck disable=SC2086  # TRAIN may have several options
    trainer train "$recipe/$stream.toml" --corpus "$out/corpus" "${split[@]}" --allow-missing \
        --out "$runs/$stream" --resume ${more[@]+"${more[@]}"} ${TRAIN:-}
done
# Networks from scratch are overconfident. Held-out videos show by how much, and which stream is better. So the
# fusion is fitted on them if there are any, or on the folds of the training videos if they were scored.
fit=()
for scores in validation_scores fold_scores; do
    [ -e "$runs/spatial/$scores.npz" ] && [ -e "$runs/temporal/$scores.npz" ] && fit=(--method weighted --calibrate)
done
[ ${#fit[@]} -gt 0 ] || echo "no videos were held out to fit weights, so the streams are averaged" >&2
trainer fuse "$runs/spatial" "$runs/temporal" ${fit[@]+"${fit[@]}"} --out "$runs/fused.npz"
trainer report --spatial "$runs/spatial" --temporal "$runs/temporal" --fused-scores "$runs/fused.npz" \
    --corpus "$out/corpus" --out "$runs/report.html"
