#!/usr/bin/env bash
# Extract videos into a corpus: extract.sh OUT [VIDEOS]. `make extract` calls it.
# Without VIDEOS, sample clips are written and used. $EXTRACT has options for `flowprep extract`.
set -euo pipefail
out=$1
videos=${2:-}

if [ -z "$videos" ]; then
    videos=$out/clips
    flowprep samples --out "$videos"
fi
# Exit code 3: some videos failed. The corpus has the reasons, and the other videos are enough to go on.
# shellcheck disable=SC2086  # EXTRACT has several options
flowprep extract "$videos" --out "$out/corpus" ${EXTRACT:-} || [ $? = 3 ]
