"""Names of exported folders."""

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



def test_names_are_safe_and_never_collide():
    ids = ["a.avi", "a.mp4", "A.avi", "a/b.avi", "a/b/c.avi", "../x.avi", "/etc/passwd", "q/..", "sp ace.avi"]
    ids += ["x" * 300 + "1.avi", "x" * 300 + "2.avi", "export.json.mp4", "tab\tnew\nline", "a.b.c.avi", ""]
    for flat in (True, False):
        for dots in (True, False):
            names = folder_names(ids, flat=flat, dots=dots)
            assert len({n.casefold() for n in names.values()}) == len(ids)
            for name in names.values():
                assert not name.startswith("/") and all(p.strip(".") for p in name.split("/"))
                assert not any(c.isspace() for c in name) and max(map(len, name.split("/"))) < 200
                assert not any(other.startswith(name + "/") for other in names.values())
    # A name does not depend on what else is exported, only on the corpus.
    assert folder_names(["k/v.avi", "l/w.avi"], flat=True) == {"k/v.avi": "v", "l/w.avi": "w"}
