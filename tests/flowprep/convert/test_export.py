"""Exports that are stopped, resumed, repeated, or of damaged videos."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowprep import Settings, make_corpus, open_corpus
from flowprep.convert.copy import copy_videos
from flowprep.convert.export import NAMES, export
from flowprep.convert.names import folder_names
from flowprep.errors import UsageError
from tests.support.conversions import SETTINGS, files_in, samples_of
from tests.support.videos import write_frames


def test_an_export_resumes_and_is_not_mixed(corpus, tmp_path, monkeypatch):
    dest = tmp_path / "x"
    whole = tmp_path / "whole"
    export(corpus, whole, "gpu_flow")
    written = []

    def die(self, data, write=Path.write_bytes):
        written.append(self)
        if len(written) == 100:  # in the second video
            raise KeyboardInterrupt
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", die)
    with pytest.raises(KeyboardInterrupt):
        export(corpus, dest, "gpu_flow")
    monkeypatch.undo()
    killed = "from pathlib import Path; from flowprep.system.atomic import temporary_path as t;"
    killed += f"(t(Path({str(dest)!r}) / 'export') / 'u').mkdir(parents=True)"
    subprocess.run([sys.executable, "-c", killed], check=True)
    stamps = {p: p.stat().st_mtime_ns for p in dest.rglob("*.jpg")}
    assert export(corpus, dest, "gpu_flow").written == 3
    assert stamps and all(p.stat().st_mtime_ns == t for p, t in stamps.items())

    assert files_in(dest) == files_in(whole)
    assert export(corpus, dest, "gpu_flow").written == 0
    video_id, name = next(iter(folder_names(corpus.labels, flat=False).items()))
    for folder, copied in (("jpegs_256", 0), ("v", corpus[video_id].num_pairs)):
        shutil.rmtree(dest / folder / name)
        done = export(corpus, dest, "gpu_flow")
        assert (done.written, done.copied) == (1, copied) and files_in(dest) == files_in(whole)
    with pytest.raises(UsageError, match="holds another export"):
        export(corpus, dest, "denseflow")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty"):
        export(corpus, tmp_path / "mine", "npy")


@pytest.mark.parametrize("layout", ["mmaction2", "gpu_flow", "npy", "flo", "webdataset"])
def test_an_export_replaces_videos_that_a_retry_completed(tmp_path, layout):
    for name in ("kept", "mended"):
        write_frames(tmp_path / "v" / name, 8)
    image = tmp_path / "v" / "mended" / "img_00008.png"
    last = image.read_bytes()
    image.write_bytes(bytes(len(last)))
    settings = dataclasses.replace(SETTINGS, keep_partial=True, shard_pairs=1)
    make_corpus([tmp_path / "v"], tmp_path / "c", settings, jobs=1)
    export(open_corpus(tmp_path / "c"), tmp_path / "x", layout)
    image.write_bytes(last)
    make_corpus([tmp_path / "v"], tmp_path / "c", settings, jobs=1, retry_failed=True)
    mended = open_corpus(tmp_path / "c")
    export(mended, tmp_path / "whole", layout)

    whole = files_in(tmp_path / "whole")
    for written in [*(tmp_path / "whole").rglob("*"), *(tmp_path / "x").rglob("*")]:
        os.utime(written, (time.time() - 10,) * 2)  # before the shards; the clock of files is coarse
    assert export(mended, tmp_path / "whole", layout).written == 2 and files_in(tmp_path / "whole") == whole
    assert files_in(tmp_path / "x") != whole
    if layout == "webdataset":
        with pytest.raises(UsageError, match="differs in videos"):
            export(mended, tmp_path / "x", layout)
        return
    assert export(mended, tmp_path / "x", layout).written == 2
    assert files_in(tmp_path / "x") == whole
    assert export(mended, tmp_path / "x", layout).written == 0


def test_two_corpora_are_not_mixed(corpus, path, tmp_path):
    copy_videos([corpus], tmp_path / "a", wanted=["left/v_1*"])
    copy_videos([corpus], tmp_path / "b", wanted=["to right/v_1*"])
    first, second = (open_corpus(tmp_path / name) for name in "ab")
    export(first, tmp_path / "x", "tsn")  # both have a folder v_1
    with pytest.raises(UsageError, match=r"another export \(it differs in corpus\)"):
        export(second, tmp_path / "x", "tsn")
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    assert export(open_corpus(tmp_path / "elsewhere"), tmp_path / "x", "tsn").written == 0


def test_a_damaged_video_is_named_and_the_others_are_written(path, tmp_path, cli):
    shutil.copytree(path, tmp_path / "c")
    video = open_corpus(tmp_path / "c")["left/v_1 é.mp4"]
    shard = tmp_path / "c" / "shards" / video.info()["shards"][0]
    data = bytearray(shard.read_bytes())
    data[data.find(video.stored("flow_u", 2)) + 40] ^= 1
    shard.write_bytes(data)
    result = cli("export", tmp_path / "c", "-o", tmp_path / "x", "--layout", "tsn", "--json")
    assert result.exit_code == 3
    assert "left/v_1 é.mp4" in result.stderr and "checksum" in result.stderr
    done = json.loads(result.stdout)
    assert list(done["failed"]) == ["left/v_1 é.mp4"] and done["written"] == 4
    assert len((tmp_path / "x" / "rgb_all.txt").read_text("utf-8").splitlines()) == 4
    assert list((tmp_path / "x").rglob("*.tmp")) == []
    done = export(open_corpus(tmp_path / "c"), tmp_path / "w", "webdataset")
    assert "000000.tar is left out" in done.failed["left/v_1 é.mp4"]
    assert not list((tmp_path / "w").glob("*.tar*"))


def test_an_export_counts_what_it_wrote(corpus, tmp_path, cli):
    """webdataset said `0 flow images` with all of them in the tar."""
    pairs = sum(v.num_pairs for v in corpus.values())
    frames = sum(v.num_frames for v in corpus.values())
    expected = {
        "tsn": (frames - len(corpus), 2 * pairs, 0, 0),  # the first frame of each video is left out
        "gpu_flow": (frames, 2 * pairs, 0, 0),
        "webdataset": (frames, 2 * pairs, 0, 0),
        "npy": (frames, 0, 0, pairs),
        "flo": (frames, 0, 0, pairs),
    }
    for layout, counts in expected.items():
        dest = tmp_path / layout
        done = export(corpus, dest, layout, sample_pairs=10)
        assert (done.frames, done.copied, done.recoded, done.flow_fields) == counts, layout
        assert done.written == len(corpus)
        if layout == "webdataset":
            names = [name for s in samples_of(sorted(dest.glob("*.tar"))).values() for name in s]
            found = [sum(n.startswith(kind) for n in names) for kind in ("img", "flow")]
        elif layout in ("tsn", "gpu_flow"):
            images = list(dest.rglob("*.jpg"))
            found = [sum(("img" in str(p)) or "jpegs_256" in str(p) for p in images)]
            found.append(len(images) - found[0])
        else:
            continue
        assert found == [done.frames, done.copied]
        again = export(corpus, dest, layout, sample_pairs=10)
        assert (again.written, again.frames, again.copied) == (0, 0, 0)
    said = cli("export", corpus.path, "--out", tmp_path / "w", "--layout", "webdataset").stdout
    assert f"{frames} frames, {2 * pairs} flow images copied" in said


def test_an_export_of_nothing_is_refused_before_anything_is_written(videos, tmp_path):
    make_corpus([videos], tmp_path / "c", Settings(size="source", flow=False), jobs=1)
    with pytest.raises(UsageError, match="made without"):
        export(open_corpus(tmp_path / "c"), tmp_path / "x", "flo")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp4").write_bytes(b"no video")
    make_corpus([tmp_path / "bad"], tmp_path / "d", jobs=1)
    for layout in NAMES:
        with pytest.raises(UsageError, match="has no video that can be exported, and 1 failed video"):
            export(open_corpus(tmp_path / "d"), tmp_path / "x", layout)
    assert not (tmp_path / "x").exists()
