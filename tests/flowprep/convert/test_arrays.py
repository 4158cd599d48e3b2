"""Export to .npy and .flo files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from flowprep import Settings, make_corpus, open_corpus
from flowprep.bench.read import Rate, Rates, bench_reading
from flowprep.convert.copy import copy_videos
from flowprep.convert.export import NAMES, export
from flowprep.convert.import_folders import import_folders
from flowprep.convert.layouts import LAYOUTS
from flowprep.convert.names import folder_names
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.errors import SettingsConflict, UsageError
from flowprep.flo import read_flo
from flowprep.presets import PRESETS
from tests.support.videos import write_frames, write_video



def test_arrays_are_in_pixels(corpus, tmp_path):
    video = corpus["left/long.mp4"]
    export(corpus, tmp_path / "n", "npy")
    flow = np.load(tmp_path / "n" / "left" / "long" / "flow.npy")
    assert np.array_equal(flow, video.flow(0, 25)) and flow.dtype == np.float32
    assert np.array_equal(np.load(tmp_path / "n" / "left" / "long" / "rgb.npy")[25], video.rgb(25))
    export(corpus, tmp_path / "f", "flo")
    assert np.array_equal(read_flo(tmp_path / "f" / "left" / "long" / "frame_0025.flo"), flow[24])
    assert (tmp_path / "f" / "left" / "long" / "frame_0026.jpg").read_bytes() == video.stored("rgb", 25)
