"""The commands of conversion: JSON, and the index made anew."""

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



def test_the_index_is_made_anew(path, tmp_path, cli):
    shutil.copytree(path, tmp_path / "c")
    (tmp_path / "c" / "index.npz").write_bytes(b"rubbish")
    assert cli("index", tmp_path / "c").exit_code == 0
    for shard in (tmp_path / "c" / "shards").iterdir():
        shard.write_bytes(b"")  # what the index says needs none of them
    assert list(open_corpus(tmp_path / "c")) == list(open_corpus(path))
    assert cli("index", tmp_path).exit_code == 1


def test_the_commands_print_json(path, tmp_path, cli):
    for command in (
        ["subset", path, "-o", tmp_path / "a", "--select", "left"],
        ["subset", path, "-o", tmp_path / "b", "--select", "to right"],
        ["merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "m"],
        ["repack", path, "-o", tmp_path / "r", "--shard-pairs", 50],
        ["index", path],
    ):
        result = cli(*command, "--json")
        assert json.loads(result.stdout)["corpus"]
    assert cli("subset", path, "-o", tmp_path / "n").exit_code == 2
    assert cli("subset", path, "-o", tmp_path / "n", "--select", "up").exit_code == 2
