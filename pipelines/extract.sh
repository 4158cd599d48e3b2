#!/usr/bin/env bash
# Videos -> corpus. Called by `make extract`: extract.sh OUT [VIDEOS]; options for `flowprep extract` in $EXTRACT.
set -euo pipefail
out=$1
videos=${2:-}

if [ -z "$videos" ]; then
    videos=$out/clips
    flowprep samples --out "$videos"
fi
# 3 says that some videos could not be taken: they are recorded, and the others are enough to go on with.
# shellcheck disable=SC2086  # EXTRACT holds several options
flowprep extract "$videos" --out "$out/corpus" ${EXTRACT:-} || [ $? = 3 ]
