"""Extract a corpus from videos, then read frames and flow.

    python examples/extract_and_read.py VIDEOS CORPUS

VIDEOS is a video file, a folder or a list. CORPUS is the folder to write. The same command again resumes.
"""

from __future__ import annotations

import sys

import numpy as np

import flowprep
from flowprep.presets import tvl1_settings


def main(videos: str, folder: str) -> None:
    """Extract with a small size and the fast preset, and print the motion of each video."""
    settings = flowprep.Settings(size="short:128", tvl1=tvl1_settings("fast"))
    result = flowprep.make_corpus([videos], folder, settings)
    for video_id, reason in result.status.failures.items():
        print(f"{video_id} failed: {reason}")

    corpus = flowprep.open_corpus(folder)
    for video in corpus.values():
        flow = video.flow(0, count=min(10, video.num_pairs))  # (count, 2, H, W) float32, pixels
        frame = video.rgb(0)  # (H, W, 3) uint8
        speed = np.hypot(flow[:, 0], flow[:, 1]).mean()
        print(f"{video.id}: class {video.label!r}, frames {frame.shape}, mean motion {speed:.2f} px a pair")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
