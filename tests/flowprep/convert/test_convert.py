"""Export, import, merge, subset, repack: the same pictures in other places, byte by byte where possible."""

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

SETTINGS = Settings(
    size="source", engine="opencv", tvl1=PRESETS["opencv"], codes="tsn", range=8.0, shard_pairs=10
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes with a name in common, one video of several segments, and one that fails."""
    root = tmp_path_factory.mktemp("videos")
    for label, speed in (("left", -1), ("to right", 1)):
        for n in (1, 2):
            write_video(root / label / f"v_{n} é.mp4", 6 + n, speed=speed, seed=n)
    write_video(root / "left" / "long.mp4", 26, speed=0.5, seed=3)
    (root / "left" / "bad.mp4").write_text("no video")
    return root


@pytest.fixture(scope="module")
def path(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    make_corpus([videos], out, SETTINGS, jobs=1)
    return out


@pytest.fixture
def corpus(path):
    return open_corpus(path)


def same(ours, theirs) -> None:
    """All that two corpora say of the videos of the first, and every stored byte, is the same."""
    for video_id, a in ours.items():
        b = theirs[video_id]
        facts = [{k: v for k, v in x.info().items() if k != "shards"} for x in (a, b)]
        assert facts[0] == facts[1] and a.origin == b.origin and a.software == b.software
        assert np.array_equal(a.times_seconds, b.times_seconds, equal_nan=True)
        for backward in (False, True) if "flow_back_u" in a.streams else (False,):
            every = 0, a.num_pairs, backward
            assert list(a.fields(*every)) == list(b.fields(*every))
            if ours.settings.stabilise:
                assert np.array_equal(a.camera(*every), b.camera(*every), equal_nan=True)
        assert np.array_equal(a.flow(0, a.num_pairs), b.flow(0, b.num_pairs))
        for i in range(a.num_frames):
            assert a.stored("rgb", i) == b.stored("rgb", i)


# ---- export ----


def read_raw_frames(root: Path, list_file: str, template: str, first: int) -> dict[str, tuple[list, int]]:
    """As readers of TSN's and mmaction2's lists do: `folder count class`, then images by their numbers."""
    found = {}
    for line in (root / list_file).read_text("utf-8").splitlines():
        folder, count, label = line.split(" ")
        names = [template.format(n) for n in range(first, first + int(count))]
        images = [np.asarray(Image.open(root / folder / name)) for name in names]
        assert not (root / folder / template.format(first + int(count))).exists()
        found[folder] = images, int(label)
    return found


def test_tsn_numbers_images_by_the_flow_that_leads_to_them(corpus, tmp_path):
    done = export(corpus, tmp_path, "tsn")
    assert (done.videos, done.written, done.recoded, done.failed) == (5, 5, 0, {})
    names = folder_names(corpus.labels, flat=True)
    assert len(set(names.values())) == 5 and all("/" not in n and " " not in n for n in names.values())
    rgb = read_raw_frames(tmp_path, "rgb_all.txt", "img_{:05d}.jpg", 1)
    x = read_raw_frames(tmp_path, "flow_all.txt", "flow_x_{:05d}.jpg", 1)
    y = read_raw_frames(tmp_path, "flow_all.txt", "flow_y_{:05d}.jpg", 1)
    for video in corpus.values():
        folder = names[video.id]
        assert len(rgb[folder][0]) == len(x[folder][0]) == video.num_pairs
        assert rgb[folder][1] == {"left": 0, "to right": 1}[video.label]
        assert np.array_equal(np.stack([x[folder][0], y[folder][0]], 1), video.codes(0, video.num_pairs))
        for number in (1, video.num_pairs):  # flow n leads from frame n - 1 to frame n, which is image n
            stored = (tmp_path / folder / f"img_{number:05d}.jpg").read_bytes()
            assert stored == video.stored("rgb", number)
            flow = (tmp_path / folder / f"flow_x_{number:05d}.jpg").read_bytes()
            assert flow == video.stored("flow_u", number - 1)
    assert (tmp_path / "classInd.txt").read_text() == "1 left\n2 to right\n"


def test_mmaction2_has_one_image_more_than_flows(corpus, tmp_path):
    export(corpus, tmp_path, "mmaction2")
    rgb = read_raw_frames(tmp_path, "rgb_all.txt", "img_{:05d}.jpg", 1)
    x = read_raw_frames(tmp_path, "flow_all.txt", "flow_x_{:05d}.jpg", 1)
    assert set(rgb) == {"left/v_1_é", "left/v_2_é", "left/long", "to_right/v_1_é", "to_right/v_2_é"}
    for folder, video_id in (("left/long", "left/long.mp4"), ("to_right/v_2_é", "to right/v_2 é.mp4")):
        video = corpus[video_id]
        assert len(rgb[folder][0]) == video.num_frames == len(x[folder][0]) + 1
        assert np.array_equal(x[folder][0], video.codes(0, video.num_pairs)[:, 0])
        assert (tmp_path / folder / "img_00001.jpg").read_bytes() == video.stored("rgb", 0)


def test_denseflow_and_gpu_flow_as_the_tools_name_them(corpus, tmp_path):
    video = corpus["left/long.mp4"]
    export(corpus, tmp_path / "d", "denseflow")
    folder = tmp_path / "d" / "left" / "long"
    assert len(list(folder.iterdir())) == 26 + 25 + 25
    assert (folder / "flow_y_00024.jpg").read_bytes() == video.stored("flow_v", 24)
    assert (folder / "img_00025.jpg").read_bytes() == video.stored("rgb", 25)
    export(corpus, tmp_path / "g", "gpu_flow")
    for top, stream in (("u", "flow_u"), ("v", "flow_v"), ("jpegs_256", "rgb")):
        folder = tmp_path / "g" / top / "left" / "long"
        assert (folder / "frame000001.jpg").read_bytes() == video.stored(stream, 0)
        assert len(list(folder.iterdir())) == (26 if stream == "rgb" else 25)


def test_arrays_are_in_pixels(corpus, tmp_path):
    video = corpus["left/long.mp4"]
    export(corpus, tmp_path / "n", "npy")
    flow = np.load(tmp_path / "n" / "left" / "long" / "flow.npy")
    assert np.array_equal(flow, video.flow(0, 25)) and flow.dtype == np.float32
    assert np.array_equal(np.load(tmp_path / "n" / "left" / "long" / "rgb.npy")[25], video.rgb(25))
    export(corpus, tmp_path / "f", "flo")
    assert np.array_equal(read_flo(tmp_path / "f" / "left" / "long" / "frame_0025.flo"), flow[24])
    assert (tmp_path / "f" / "left" / "long" / "frame_0026.jpg").read_bytes() == video.stored("rgb", 25)


def samples_of(tars: list[Path]) -> dict[str, dict[str, bytes]]:
    """Samples as webdataset groups them: members up to the first dot of their name, one after the other."""
    samples: dict[str, dict[str, bytes]] = {}
    last = ""
    for tar in tars:
        with tarfile.open(tar) as file:
            for member in file:
                folder, slash, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = folder + slash + key
                assert key == last or key not in samples, "the members of a sample stand together"
                last = key
                samples.setdefault(key, {})[suffix] = file.extractfile(member).read()
    return samples


def test_webdataset_tars_are_bounded_and_whole(corpus, tmp_path):
    export(corpus, tmp_path, "webdataset", shard_mb=0.1, sample_pairs=10)
    tars = sorted(tmp_path.glob("*.tar"))
    assert len(tars) > 1 and all(t.stat().st_size <= 100_000 for t in tars)
    samples = samples_of(tars)
    assert set(samples) == {
        *(f"left/long-{n:06d}" for n in (0, 10, 20)),
        *(f"{folder}/v_{n}_é" for folder in ("left", "to_right") for n in (1, 2)),
    }
    video, sample = corpus["left/long.mp4"], samples["left/long-000020"]
    about = json.loads(sample["json"])
    assert (about["id"], about["first_frame"], about["frames"], about["pairs"]) == (video.id, 20, 6, 5)
    assert sample["cls"] == b"0" and sample["img_00025.jpg"] == video.stored("rgb", 25)
    codes = cv2.imdecode(np.frombuffer(sample["flow_y_00024.jpg"], np.uint8), cv2.IMREAD_GRAYSCALE)
    v = (codes.astype(np.float32) - np.float32(about["zero"][4][1])) * np.float32(about["scale"][4][1])
    assert np.array_equal(v, video.flow(24, 1)[0, 1])
    with pytest.raises(UsageError, match="give a larger one"):
        export(corpus, tmp_path / "small", "webdataset", shard_mb=0.02, sample_pairs=10)
    assert not (tmp_path / "small").exists()
    tars[1].unlink()
    before = {t: t.stat().st_mtime_ns for t in tars if t != tars[1]}
    export(corpus, tmp_path, "webdataset", shard_mb=0.1, sample_pairs=10)
    assert all(t.stat().st_mtime_ns == n for t, n in before.items()) and samples_of(tars) == samples


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_webdataset_itself_reads_them(corpus, tmp_path):
    wds = pytest.importorskip("webdataset")
    export(corpus, tmp_path, "webdataset")
    samples = list(wds.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode("rgb8"))
    assert [s["json"]["id"] for s in samples] == list(corpus)
    for sample in samples:
        video = corpus[sample["json"]["id"]]
        assert sample["cls"] == ["left", "to right"].index(video.label)
        assert sample["img_00003.jpg"].shape == (video.height, video.width, 3)
        assert np.array_equal(sample["flow_x_00003.jpg"][..., 0], video.codes(3, 1)[0, 0])


def test_other_codes_are_recoded_only_when_asked(videos, corpus, tmp_path):
    with pytest.raises(UsageError, match=r"codes tsn with range 8.*codes tsn with range 20.*--convert"):
        export(corpus, tmp_path / "x", "tsn", range=20)
    assert not (tmp_path / "x").exists()
    adaptive = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"])
    make_corpus([videos / "left" / "long.mp4"], tmp_path / "a", adaptive, jobs=1)
    ours = open_corpus(tmp_path / "a")
    with pytest.raises(UsageError, match=r"codes adaptive, and mmaction2 needs codes tsn"):
        export(ours, tmp_path / "x", "mmaction2")
    done = export(ours, tmp_path / "x", "mmaction2", convert=True, range=8)
    assert (done.copied, done.recoded) == (0, 50)
    video = ours["long.mp4"]
    codes = np.asarray(Image.open(tmp_path / "x" / "long" / "flow_x_00003.jpg")).astype(np.float32)
    # Off by half a level of 16/255 px by rounding, and by some levels where JPEG blurs.
    error = np.abs((codes - 127.5) * 16 / 255 - video.flow(2, 1)[0, 0])
    assert error.mean() < 0.06 and error.max() < 0.5


def test_png_is_not_passed_off_as_jpeg(videos, tmp_path):
    make_corpus([videos / "left"], tmp_path / "c", dataclasses.replace(SETTINGS, codec="png"), jobs=1)
    corpus = open_corpus(tmp_path / "c")
    with pytest.raises(UsageError, match=r"codes tsn with range 8 as png, and tsn needs codes tsn"):
        export(corpus, tmp_path / "x", "tsn")
    assert export(corpus, tmp_path / "x", "tsn", convert=True).recoded == 76
    assert (tmp_path / "x" / "long" / "flow_x_00001.jpg").read_bytes()[:2] == b"\xff\xd8"
    export(corpus, tmp_path / "w", "webdataset")
    sample = samples_of([tmp_path / "w" / "000000.tar"])["long"]
    assert sample["flow_x_00003.png"] == corpus["long.mp4"].stored("flow_u", 3)


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

    def files(root):
        return {p.relative_to(root): p.is_file() and p.read_bytes() for p in root.rglob("*")}

    assert files(dest) == files(whole)
    assert export(corpus, dest, "gpu_flow").written == 0
    video_id, name = next(iter(folder_names(corpus.labels, flat=False).items()))
    for folder, copied in (("jpegs_256", 0), ("v", corpus[video_id].num_pairs)):
        shutil.rmtree(dest / folder / name)
        done = export(corpus, dest, "gpu_flow")
        assert (done.written, done.copied) == (1, copied) and files(dest) == files(whole)
    with pytest.raises(UsageError, match="holds another export"):
        export(corpus, dest, "denseflow")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty"):
        export(corpus, tmp_path / "mine", "npy")


@pytest.mark.parametrize("layout", ["mmaction2", "gpu_flow", "npy", "flo", "webdataset"])
def test_an_export_follows_what_a_retry_made_whole(tmp_path, layout):
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

    def files(root):
        return {p.relative_to(root): p.is_file() and p.read_bytes() for p in root.rglob("*")}

    whole = files(tmp_path / "whole")
    for written in [*(tmp_path / "whole").rglob("*"), *(tmp_path / "x").rglob("*")]:
        os.utime(written, (time.time() - 10,) * 2)  # before the shards; the files' clock is a coarse one
    assert export(mended, tmp_path / "whole", layout).written == 2 and files(tmp_path / "whole") == whole
    assert files(tmp_path / "x") != whole
    if layout == "webdataset":
        with pytest.raises(UsageError, match="differs in videos"):
            export(mended, tmp_path / "x", layout)
        return
    assert export(mended, tmp_path / "x", layout).written == 2
    assert files(tmp_path / "x") == whole
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


def test_selections(corpus, tmp_path, caplog):
    lists = {"trainlist01.txt": "left/long.mp4 1\nleft/v_1 é.mp4\r\n", "test.csv": "to right/v_1 é.mp4,2\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text + "left/bad.mp4\nnot/there.mp4\n", "utf-8")
    wanted = [*(str(tmp_path / name) for name in lists), "to right", "*/v_2*"]
    done = export(corpus, tmp_path / "x", "mmaction2", wanted=wanted)
    assert done.videos == 5 and "1 videos are not in the corpus" in caplog.text

    def folders(name):
        return {line.split()[0] for line in (tmp_path / "x" / name).read_text("utf-8").splitlines()}

    assert folders("rgb_trainlist01.txt") == {"left/long", "left/v_1_é"}
    assert folders("flow_test.txt") == {"to_right/v_1_é"}
    assert folders("rgb_to_right.txt") == {"to_right/v_1_é", "to_right/v_2_é"}
    with pytest.raises(UsageError, match=r"'up' names no video.*left, to right"):
        export(corpus, tmp_path / "y", "npy", wanted=["up"])


def test_no_list_is_written_over_another(corpus, tmp_path):
    for folder, what in (("a", "left"), ("b", "to right")):
        (tmp_path / folder).mkdir()
        ids = [i for i, label in corpus.labels.items() if label == what]
        (tmp_path / folder / "train.txt").write_text("\n".join(ids), "utf-8")
    wanted = [str(tmp_path / folder / "train.txt") for folder in "ab"]
    with pytest.raises(UsageError, match="would give lists of one name"):
        export(corpus, tmp_path / "x", "tsn", wanted=wanted)
    assert not (tmp_path / "x").exists()
    assert export(corpus, tmp_path / "y", "denseflow", wanted=wanted).written == 5  # has no lists


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


@pytest.mark.parametrize("codes", ["tsn", "adaptive"])
def test_both_readers_of_the_bench_read_the_same(videos, tmp_path, codes):
    """Both timed readers give the same pixels: to the bit where JPEGs are copied."""
    settings = dataclasses.replace(SETTINGS, codes=codes, range=20.0)
    make_corpus([videos / "left"], tmp_path / "c", settings, jobs=1)
    compared = []

    def compare(places, corpus, folder):
        compared.append([(corpus(*place), folder(*place)) for place in places])
        return Rates(Rate(1, 1), Rate(1, 1), 1.0)

    bench_reading(open_corpus(tmp_path / "c"), clips=4, crop=24, compare=compare)
    stacks, frames = compared
    for ours, theirs in stacks:
        assert ours.shape == theirs.shape == (10, 2, 24, 24) and ours.dtype == theirs.dtype == np.float32
        assert np.allclose(ours, theirs, atol=1e-5 if codes == "tsn" else 0.8)  # twice through JPEG
    for ours, theirs in frames:
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 4  # another decoder's upsampling


def test_the_bench_of_reading_says_rates(corpus, path, cli):
    found = json.loads(cli("bench", "read", path, "--json").stdout)
    for what in ("stacks", "frames"):
        assert found[what]["ratio"] > 0 and found[what]["folder"]["per_core_second"] > 0
    assert "stacks of 10 flows a second" in cli("bench", "read", path).stdout
    result = cli("bench", "--read", path, "--truth", path)
    assert result.exit_code == 2 and "No such option '--read'" in result.stderr


# ---- import ----


@pytest.mark.parametrize("layout", [n for n in NAMES if n in LAYOUTS])
def test_what_was_exported_comes_back_byte_by_byte(corpus, tmp_path, layout):
    export(corpus, tmp_path / "x", layout)
    summary = import_folders(tmp_path / "x", tmp_path / "c", layout, range=8)
    assert summary.videos.ok == 5 and not summary.partial and not summary.failures
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()
    names = folder_names(corpus.labels, flat=LAYOUTS[layout].flat)
    theirs = open_corpus(tmp_path / "c")
    lost = int(LAYOUTS[layout].leads_to)  # the first frame is not in such a folder, nor what begins there
    for video in corpus.values():
        other = theirs[names[video.id]]
        assert other.num_pairs == video.num_pairs - lost and other.num_frames == video.num_frames - lost
        assert np.array_equal(other.flow(0, other.num_pairs), video.flow(lost, other.num_pairs))
        for i in range(other.num_frames):
            assert other.stored("rgb", i) == video.stored("rgb", i + lost)
        # Means of codes, after JPEG: within a level of 16/255 px of those before quantisation.
        assert np.abs(other.mean_flow - video.mean_flow[lost:]).max() < 16 / 255
        assert other.label == ("" if LAYOUTS[layout].flat else names[video.id].split("/")[0])
        assert np.isnan(other.times_seconds).all()


def test_flow_alone_loses_nothing(corpus, tmp_path):
    export(corpus, tmp_path / "x", "tsn")
    import_folders(tmp_path / "x", tmp_path / "c", "tsn", range=8, rgb=False)
    name = folder_names(corpus.labels, flat=True)["left/long.mp4"]
    flow = open_corpus(tmp_path / "c")[name].flow(0, 25)
    assert np.array_equal(flow, corpus["left/long.mp4"].flow(0, 25))
    export(open_corpus(tmp_path / "c"), tmp_path / "again", "gpu_flow")  # and out again as they were
    jpeg = (tmp_path / "again" / "u" / name / "frame000025.jpg").read_bytes()
    assert jpeg == corpus["left/long.mp4"].stored("flow_u", 24)


def test_lists_name_the_classes_of_flat_folders(corpus, tmp_path):
    export(corpus, tmp_path / "x", "tsn")
    import_folders(tmp_path / "x", tmp_path / "c", "tsn", range=8, labels=tmp_path / "x" / "flow_all.txt")
    names = folder_names(corpus.labels, flat=True)
    assert open_corpus(tmp_path / "c").labels == {names[i]: label for i, label in corpus.labels.items()}
    (tmp_path / "list.txt").write_text(f"/elsewhere/{names['left/long.mp4']} crawl\n", "utf-8")
    import_folders(tmp_path / "x", tmp_path / "d", "tsn", range=8, labels=tmp_path / "list.txt")
    assert set(open_corpus(tmp_path / "d").labels.values()) == {"", "crawl"}
    (tmp_path / "list.txt").write_text("alone\n", "utf-8")
    with pytest.raises(UsageError, match="'alone' is not `folder count class`"):
        import_folders(tmp_path / "x", tmp_path / "e", "tsn", range=8, labels=tmp_path / "list.txt")


def test_what_is_wrong_is_said_per_video(corpus, tmp_path, cli):
    root = tmp_path / "x"
    export(corpus, root, "denseflow")
    shutil.rmtree(root / "to_right")
    source = root / "left" / "long"
    expected = {}

    def spoil(name: str, reason: str, pairs: int | None):
        shutil.copytree(source, root / "bad" / name)
        expected[f"bad/{name}"] = reason, pairs
        return root / "bad" / name

    (spoil("gap", "number 7 of flow_u is missing", 7) / "flow_x_00007.jpg").unlink()
    (
        spoil("start", "begins with flow_y_00001.jpg, and the layout numbers from 0", None)
        / "flow_y_00000.jpg"
    ).unlink()
    (spoil("counts", "25 images of u and 24 of v", 24) / "flow_y_00024.jpg").unlink()
    (spoil("images", "25 frames and 25 pairs; 25 pairs go with 26 frames", 24) / "img_00025.jpg").unlink()
    folder = spoil("cut", "flow_y_00012.jpg is no whole JPEG", 12)
    (folder / "flow_y_00012.jpg").write_bytes((folder / "flow_y_00012.jpg").read_bytes()[:300])
    Image.new("L", (20, 20)).save(
        spoil("size", "is 20x20 pixels, those before 48x32", 5) / "flow_x_00005.jpg"
    )
    Image.new("L", (48, 32)).save(
        spoil("grey", "img_00003.jpg is grey, and colour is needed", 2) / "img_00003.jpg"
    )
    (spoil("first", "img_00000.jpg is no whole JPEG", None) / "img_00000.jpg").write_bytes(b"")
    large = spoil("large", "flow_x_00002.jpg cannot be read: 8300x8300 pixels are declared; allowed", 2)
    Image.new("L", (8300, 8300)).save(large / "flow_x_00002.jpg")
    huge = spoil("huge", "flow_x_00003.jpg cannot be read", 3)
    Image.new("L", (8, 8)).save(huge / "flow_x_00003.jpg")
    header = (huge / "flow_x_00003.jpg").read_bytes()
    (huge / "flow_x_00003.jpg").write_bytes(header.replace(b"\x08\x00\x08\x00\x08", b"\x08\xff\xdc\xff\xdc"))
    result = cli("import", root, "--out", tmp_path / "c", "--layout", "denseflow", "--range", 8, "--json")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    reasons = {**summary["failures"], **summary["partial"]}
    assert set(reasons) == set(expected) and summary["videos"]["ok"] == 3 + len(summary["partial"])
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()
    made = open_corpus(tmp_path / "c")
    for name, (reason, pairs) in expected.items():
        assert reason in reasons[name]
        assert (name in summary["failures"]) == (pairs is None)
        if pairs is not None:
            assert made[name].num_pairs == pairs == made[name].num_frames - 1
    assert cli("status", tmp_path / "c").exit_code == 0
    facts = json.loads(cli("info", tmp_path / "c", "--json").stdout)
    assert facts["settings"]["engine"] == "imported" and "tvl1" not in facts["settings"]


def test_an_import_tries_again_what_has_been_mended(corpus, tmp_path, cli):
    root, out = tmp_path / "x", tmp_path / "c"
    export(corpus, root, "denseflow")
    names = folder_names(corpus.labels, flat=False)
    folder = root / "left" / "long"
    other = root / names["left/v_1 é.mp4"]
    lost = {p: p.read_bytes() for p in (folder / "flow_x_00002.jpg", other / "img_00000.jpg")}
    for path in lost:
        path.unlink()
    command = ("import", root, "--out", out, "--layout", "denseflow", "--range", 8, "--shard-pairs", 10)
    first = cli(*command, "--json")
    assert first.exit_code == 3
    counts = json.loads(first.stdout)["videos"]
    assert (counts["failed"], counts["partial"]) == (1, 1)
    for path, image in lost.items():
        path.write_bytes(image)
    assert cli(*command).exit_code == 3  # what is done is done
    again = cli(*command, "--retry-failed")
    assert again.exit_code == 0 and "5 of 5 videos stored, 0 failed" in again.stdout
    made = open_corpus(out)
    for video in corpus.values():
        pairs = 0, video.num_pairs
        assert np.array_equal(made[names[video.id]].flow(*pairs), video.flow(*pairs))
    (root / "new").mkdir()
    shutil.copytree(folder, root / "new" / "long")
    more = cli(*command)
    assert more.exit_code == 2 and "is another corpus already" in more.stderr


def test_flow_of_another_tool_is_taken_as_it_is(shared_data, tmp_path, cli):
    """10 images and 5 pairs that do not go together are said to be so, and what can be read is."""
    folder = shared_data / "peer_flow_jpegs"
    result = cli(
        "import", folder, "--out", tmp_path / "c", "--layout", "tsn", "--range", 20, "--quantiser", "tsn"
    )
    assert result.exit_code == 3 and "10 frames and 5 pairs" in result.stderr
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()
    video = open_corpus(tmp_path / "c")["peer_flow_jpegs"]
    assert (video.num_pairs, video.num_frames, video.width, video.height) == (5, 6, 320, 240)
    assert [video.stored("flow_v", i) for i in range(5)] == [
        (folder / f"y_{i + 1:05d}.jpg").read_bytes() for i in range(5)
    ]
    codes = np.asarray(Image.open(folder / "x_00002.jpg")).astype(np.float32)
    assert np.allclose(video.flow(1, 1)[0, 0], codes * 40 / 255 - 20, atol=1e-5)


def test_imports_that_cannot_be_are_refused(corpus, tmp_path):
    export(corpus, tmp_path / "x", "denseflow")
    with pytest.raises(UsageError, match="--no-rgb does without"):
        import_folders(tmp_path / "x", tmp_path / "c", "gpu_flow", range=8)
    with pytest.raises(UsageError, match="adaptive"):
        import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8, codes="adaptive")
    with pytest.raises(UsageError, match="is not empty"):
        import_folders(tmp_path / "x", tmp_path / "x", "denseflow", range=8)


@pytest.mark.parametrize("flow", [True, False])
def test_imports_are_not_made_by_extraction(corpus, tmp_path, cli, flow):
    export(corpus, tmp_path / "x", "denseflow")
    import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8, flow=flow)
    for record in (tmp_path / "c" / "records").glob("*.json"):
        record.unlink()
    result = cli("retry", tmp_path / "c", "--jobs", 1)
    assert result.exit_code == 1 and "stored by the command that made the corpus" in result.stderr
    assert len(open_corpus(tmp_path / "c")) == 0
    import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8, flow=flow)
    assert len(open_corpus(tmp_path / "c")) == 5


# ---- merge, subset, repack ----


def test_parts_merge_to_the_whole(corpus, tmp_path):
    copy_videos([corpus], tmp_path / "a", wanted=["left"])
    copy_videos([corpus], tmp_path / "b", wanted=["to right"])
    parts = [open_corpus(tmp_path / name) for name in "ab"]
    assert {len(p) for p in parts} == {2, 3}
    summary = copy_videos(parts, tmp_path / "m")
    merged = open_corpus(tmp_path / "m")
    same(corpus, merged)
    assert list(merged) == list(corpus) and merged.settings == corpus.settings
    assert summary.failures == corpus.failures and merged.failures == corpus.failures
    for name in "abm":
        assert verify_corpus(CorpusStore(tmp_path / name)).problems == ()


@pytest.mark.parametrize("pairs", [1, 4, 1000])
def test_repacking_changes_shards_alone(corpus, path, tmp_path, pairs):
    copy_videos([corpus], tmp_path / "r", shard_pairs=pairs)
    same(corpus, open_corpus(tmp_path / "r"))
    assert verify_corpus(CorpusStore(tmp_path / "r")).problems == ()
    counts = {p: len(list((p / "shards").glob("*.h5"))) for p in (path, tmp_path / "r")}
    assert counts[tmp_path / "r"] > counts[path] if pairs < 10 else counts[tmp_path / "r"] == 1
    copy_videos([open_corpus(tmp_path / "r")], tmp_path / "back", shard_pairs=10)
    same(corpus, open_corpus(tmp_path / "back"))


def test_what_is_not_done_yet_is_not_left_out_silently(path, tmp_path, caplog):
    shutil.copytree(path, tmp_path / "c")
    task = next(t for t in CorpusStore(path).read_plan().tasks if t.segments[0].id == "left/long.mp4")
    (tmp_path / "c" / "records" / f"{task.id}.json").unlink()
    summary = copy_videos([open_corpus(tmp_path / "c")], tmp_path / "r")
    assert summary.videos.ok == 4
    assert "1 planned videos are not done yet and are left out, such as left/long.mp4" in caplog.text


def test_warnings_come_along(videos, tmp_path):
    make_corpus([videos], tmp_path / "c", dataclasses.replace(SETTINGS, range=0.5), jobs=1)
    source = open_corpus(tmp_path / "c")
    assert "are clipped" in source.warnings["left/v_1 é.mp4"]
    summary = copy_videos([source], tmp_path / "r", shard_pairs=20)
    assert summary.warnings == source.warnings


def test_shards_of_frames_alone_have_their_size(videos, tmp_path):
    make_corpus([videos], tmp_path / "c", dataclasses.replace(SETTINGS, flow=False), jobs=1)
    source = open_corpus(tmp_path / "c")
    copy_videos([source], tmp_path / "r")
    export(source, tmp_path / "x", "mmaction2")
    import_folders(tmp_path / "x", tmp_path / "i", "mmaction2", range=8, flow=False, shard_pairs=10)
    whole = {v.id: v.num_frames for v in source.values()}
    assert {v.id: v.num_frames for v in open_corpus(tmp_path / "r").values()} == whole
    counts = {name: len(list((tmp_path / name / "shards").glob("*.h5"))) for name in "cri"}
    # 26 frames in three shards where videos are cut, in one of its own where not; then one or two of 7 or 8.
    assert counts["r"] == counts["c"] > counts["i"] >= 3


def test_backward_flow_and_the_camera_come_along(videos, tmp_path):
    more = {"backward": True, "stabilise": True, "step": 2}
    settings = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"], shard_pairs=10, **more)
    make_corpus([videos / "left"], tmp_path / "c", settings, jobs=1)
    source = open_corpus(tmp_path / "c")
    copy_videos([source], tmp_path / "r", shard_pairs=7)
    same(source, open_corpus(tmp_path / "r"))
    assert verify_corpus(CorpusStore(tmp_path / "r")).problems == ()


def test_a_copy_can_be_added_to_and_failures_tried_again(corpus, videos, tmp_path, cli):
    shutil.copytree(videos, tmp_path / "v")
    make_corpus([tmp_path / "v"], tmp_path / "c", SETTINGS, jobs=1)
    copy_videos([open_corpus(tmp_path / "c")], tmp_path / "r", shard_pairs=30)
    write_video(tmp_path / "v" / "left" / "bad.mp4", 5)
    write_video(tmp_path / "v" / "left" / "new.mp4", 5)
    options = "--size source --engine opencv --quantiser tsn --range 8 --shard-pairs 30 --jobs 1"
    result = cli("extract", tmp_path / "v", "--out", tmp_path / "r", "--retry-failed", *options.split())
    assert result.exit_code == 0, result.stderr
    made = open_corpus(tmp_path / "r")
    assert len(made) == 7 and made["left/bad.mp4"].num_frames == 5
    same(corpus, made)


def test_partial_videos_stay_partial(corpus, tmp_path):
    export(corpus, tmp_path / "x", "denseflow")
    (tmp_path / "x" / "left" / "long" / "flow_x_00020.jpg").unlink()
    import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8)
    source = open_corpus(tmp_path / "c")
    copy_videos([source], tmp_path / "r", shard_pairs=6)
    made = open_corpus(tmp_path / "r")
    same(source, made)
    assert made["left/long"].partial and made.partial == source.partial
    assert verify_corpus(CorpusStore(tmp_path / "r")).problems == ()


def test_merging_what_does_not_go_together_is_refused(corpus, videos, tmp_path):
    other = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"], codes="tsn", range=9.0)
    make_corpus([videos / "left" / "long.mp4"], tmp_path / "o", other, jobs=1)
    with pytest.raises(SettingsConflict, match=r"range: 8\.0, 9\.0\. One corpus has one kind"):
        copy_videos([corpus, open_corpus(tmp_path / "o")], tmp_path / "m")
    with pytest.raises(UsageError, match="5 videos are in both"):
        copy_videos([corpus, corpus], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with pytest.raises(UsageError, match="one of the corpora to read"):
        copy_videos([corpus], corpus.path, shard_pairs=3)
    copy_videos([corpus], tmp_path / "m", wanted=["left"])
    with pytest.raises(UsageError, match="another corpus already"):
        copy_videos([corpus], tmp_path / "m", wanted=["to right"])


def test_a_copy_resumes(corpus, path, tmp_path):
    copy_videos([corpus], tmp_path / "r", shard_pairs=5)
    for task in [t.id for t in CorpusStore(tmp_path / "r").read_plan().tasks][::2]:
        (tmp_path / "r" / "records" / f"{task}.json").unlink()
    killed = "from pathlib import Path; from flowprep.system.atomic import temporary_path as t;"
    killed += f"t(Path({str(tmp_path)!r}) / 'r' / 'shards' / 'x.h5').touch()"
    subprocess.run([sys.executable, "-c", killed], check=True)
    kept = {p.stat().st_ino for p in (tmp_path / "r" / "shards").glob("*.h5")}
    copy_videos([corpus], tmp_path / "r", shard_pairs=5)
    assert 0 < len(kept & {p.stat().st_ino for p in (tmp_path / "r" / "shards").glob("*.h5")}) < len(kept)
    same(corpus, open_corpus(tmp_path / "r"))
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_damaged_video_fails_and_the_others_are_copied(path, tmp_path, cli):
    shutil.copytree(path, tmp_path / "c")
    video = open_corpus(tmp_path / "c")["left/v_1 é.mp4"]
    shard = tmp_path / "c" / "shards" / video.info()["shards"][0]
    data = bytearray(shard.read_bytes())
    data[data.find(video.stored("rgb", 2)) + 40] ^= 1
    shard.write_bytes(data)
    result = cli("repack", tmp_path / "c", "-o", tmp_path / "r", "--shard-pairs", 20)
    assert result.exit_code == 3 and "does not match its checksum" in result.stderr
    assert len(open_corpus(tmp_path / "r")) == 4 and verify_corpus(CorpusStore(tmp_path / "r")).problems == ()


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
