"""The table of the videos of a corpus, and the filters of `flowprep info`."""

import csv
import json
import shutil
import sys

import pytest

from flowprep import open_corpus
from flowprep.api import make_corpus
from flowprep.presets import PRESETS
from flowprep.reports import table
from flowprep.reports.filters import parse_conditions
from flowprep.reports.quality import measure_quality
from flowprep.reports.table import COLUMNS, video_rows, write_table
from flowprep.settings import Settings
from tests.support.videos import write_video

OPENCV = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of two classes with a still video, a copy, and a file that is no video."""
    root = tmp_path_factory.mktemp("table")
    for name, speed in (("slow/a, b.mp4", 0), ("fast/c.mp4", 3), ("fast/d.mp4", 2)):
        write_video(root / "in" / name, 6, speed=speed)
    shutil.copy(root / "in" / "fast" / "c.mp4", root / "in" / "slow" / "z.mp4")
    (root / "in" / "fast" / "bad.mp4").write_text("no video")
    make_corpus([root / "in"], root / "out", OPENCV, jobs=1)
    return root / "out"


def test_every_row_has_the_figures_of_its_video(folder):
    corpus = open_corpus(folder)
    rows = {row["id"]: row for row in video_rows(corpus, quality=True)}
    assert list(rows) == ["fast/bad.mp4", "fast/c.mp4", "fast/d.mp4", "slow/a, b.mp4", "slow/z.mp4"]
    assert all(list(row) == list(COLUMNS) for row in rows.values())
    for name, video in corpus.items():
        row, quality = rows[name], measure_quality(video)
        assert (row["label"], row["status"], row["frames"], row["pairs"]) == (video.label, "ok", 6, 5)
        assert (row["seconds"], row["width"], row["height"]) == (0.24, 48, 32)
        assert row["frame_bytes"] == video.sizes("rgb").sum()
        assert row["flow_bytes"] == video.sizes("flow_u").sum() + video.sizes("flow_v").sum()
        assert row["still_share"] == quality.still_pairs / 5 and row["cuts"] == quality.cuts == 0
        assert row["motion_px"] == pytest.approx(quality.motion_px, abs=1e-4)
        assert row["mean_u"] == pytest.approx(video.mean_flow[:, 0].mean(), abs=1e-4)
    assert rows["slow/a, b.mp4"]["still_share"] == 1 and rows["slow/a, b.mp4"]["repeated_share"] == 0.8333
    assert rows["fast/c.mp4"]["still_pairs"] == 0
    assert [row["duplicate_of"] for row in rows.values()] == [None, "", "", "", "fast/c.mp4"]
    bad = rows["fast/bad.mp4"]
    assert (bad["label"], bad["status"], bad["frames"], bad["cuts"]) == ("fast", "failed", None, None)
    assert "not a video" in bad["reason"]


def test_the_length_is_that_of_the_time_stamps(tmp_path):
    """An AVI file counts empty chunks, which repeat a picture, in the rate that it declares."""
    write_video(tmp_path / "in" / "sparse.avi", 25, times=list(range(0, 50, 2)))
    make_corpus([tmp_path / "in"], tmp_path / "out", Settings(size="source", flow=False), jobs=1)
    corpus = open_corpus(tmp_path / "out")
    (row,) = video_rows(corpus)
    (video,) = corpus.values()
    assert row["seconds"] == 2 == 2 * row["frames"] / video.frame_rate


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"failed": True}, ["fast/bad.mp4"]),
        ({"name": "bad", "failed": True}, ["fast/bad.mp4"]),
        ({"name": "*/[cz]*"}, ["fast/c.mp4", "slow/z.mp4"]),
        ({"label": "slow"}, ["slow/a, b.mp4", "slow/z.mp4"]),
        ({"where": "still_share > 0.5"}, ["slow/a, b.mp4"]),
        ({"where": "frames = 6 and id ~ fast", "label": "fast"}, ["fast/c.mp4", "fast/d.mp4"]),
        ({"where": "duplicate_of != ''"}, ["slow/z.mp4"]),
    ],
)
def test_filters_select_rows(folder, options, names):
    conditions = parse_conditions(options.pop("where"), COLUMNS) if "where" in options else ()
    rows = video_rows(open_corpus(folder), conditions=conditions, **options)
    assert [row["id"] for row in rows] == names


def test_images_are_read_only_of_videos_that_are_left(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(table, "measure_all", lambda _, ids, *__: asked.append(ids) or {})
    video_rows(open_corpus(folder), conditions=parse_conditions("pairs > 4", COLUMNS))
    assert asked == []
    video_rows(open_corpus(folder), conditions=parse_conditions("cuts > 0 and id ~ d.mp4", COLUMNS))
    assert asked == [["fast/d.mp4"]]


def test_csv_has_what_the_rows_have(folder, tmp_path):
    rows = video_rows(open_corpus(folder), quality=True)
    write_table(tmp_path / "new" / "t.csv", rows)
    with (tmp_path / "new" / "t.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [list(row) for row in read] == [list(COLUMNS)] * 5
    for row, written in zip(rows, read, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == written


def test_parquet_has_what_the_rows_have(folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = video_rows(open_corpus(folder), quality=True)
    write_table(tmp_path / "t.parquet", rows)
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows
    write_table(tmp_path / "none.parquet", [])
    assert parquet.read_table(tmp_path / "none.parquet").column_names == list(COLUMNS)


def test_parquet_without_its_package_is_refused_before_the_work(folder, tmp_path, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(table, "measure_all", None)
    result = cli("info", folder, "--table", tmp_path / "t.parquet")
    assert result.exit_code == 2 and "pip install 'flowprep[table]'" in result.stderr
    result = cli("info", folder, "--table", tmp_path / "t.xlsx")
    assert result.exit_code == 2 and "ends in .csv or .parquet" in result.stderr


def test_the_command(folder, tmp_path, cli):
    result = cli("info", folder, "--table", tmp_path / "t.csv", "--where", "pairs>4", "--json")
    assert json.loads(result.stdout) == {"table": str(tmp_path / "t.csv"), "videos": 4}
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 5
    assert "t.csv: 1 video" in cli("info", folder, "--table", tmp_path / "t.csv", "--failed").stdout
    failed = cli("info", folder, "--failed").stdout
    assert failed.startswith("fast/bad.mp4\tfast\t\t\tfailed\tnot a video") and failed.count("\n") == 1
    listed = json.loads(cli("info", folder, "--where", "cuts=0", "--label", "slow", "--json").stdout)
    assert [set(row) for row in listed] == [{"id", "label", "frames", "pairs", "cuts"}] * 2
    plain = json.loads(cli("info", folder, "--list", "--json").stdout)
    assert [set(row) for row in plain] == [{"id", "label", "frames", "pairs"}] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("c.mpg", "--failed"), "no video 'c.mpg' in"),
        (("--label", "walk"), "no video has the label 'walk'; allowed: fast, slow"),
        (("--where", "pears>3"), "did you mean pairs?"),
    ],
)
def test_wrong_use_is_refused(folder, cli, arguments, message):
    result = cli("info", folder, *arguments)
    assert result.exit_code == 2 and message in result.stderr
