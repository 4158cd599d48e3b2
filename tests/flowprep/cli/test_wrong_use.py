"""Wrong use: one line with what was found, what is allowed, what to do; code 2; nothing heavy loaded."""

from __future__ import annotations

import pytest

from flowprep import Settings, make_corpus, open_corpus
from flowprep.cli import main
from flowprep.presets import PRESETS
from flowprep.synthetic.samples import MAX_CLASSES, MAX_CLIPS
from tests.support.videos import write_frames, write_video
from tests.support.wrong_use import check_no_heavy_library, check_wrong_use


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus of three videos, and files of other kinds. The tests only read it."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("left/v_left_g01.mp4", "left/v_left_g02.mp4", "right/v_right_g01.mp4"):
        write_video(folder / "clips" / name, 5)
    settings = Settings(engine="opencv", tvl1=PRESETS["opencv"], size="source")
    assert make_corpus([folder / "clips"], folder / "corpus", settings, jobs=1).complete
    (folder / "empty").mkdir()
    (folder / "bad.mp4").write_text("not a video")
    write_frames(folder / "frames", 3)
    return folder


# Command, and a part of the message. PLACE names are relative to the folder.
WRONG = [
    ("exract clips", "no command exract; did you mean extract"),
    ("--bad", "no option --bad; see `"),
    ("plan clips --sizee 3 -o x", "no option --sizee; did you mean --size"),
    ("plan", "INPUT is missing; see `"),
    ("plan clips", "--out CORPUS is missing: Folder of the corpus to write"),
    ("export corpus --out x", "--layout is missing; allowed: tsn, denseflow"),
    ("info corpus a b", "extra argument (b); see `"),
    ("samples -o s --classes 0", "--classes is 0; allowed: a whole number from 2 to 16"),
    ("samples -o s --classes x", "--classes is x; allowed: a whole number from 2 to 16"),
    ("samples -o bad.mp4", "bad.mp4 is a file; allowed: a folder"),
    ("plan nofile -o x", "no such input: nofile"),
    ("plan corpus -o x", "corpus is a corpus; allowed: videos, folders of videos"),
    ("plan s3://bucket/x -o x", "s3://bucket/x is an address; only files of this machine"),
    ("plan clips -o s3://bucket/x", "s3://bucket/x is an address; only files of this machine"),
    ("plan clips -o bad.mp4", "bad.mp4 is a file; allowed: a folder"),
    ("plan clips -o x --size big", "--size is 'big'; allowed: short:S"),
    ("plan clips -o x --step 0", "--step is 0; allowed: a whole number from 1"),
    ("plan clips -o x --shard-pairs 0", "--shard-pairs is 0; allowed: a whole number from 1"),
    ("plan clips -o x --engine foo", "--engine is 'foo'; allowed: auto, cpu, cuda, opencv, reference"),
    ("plan clips -o x --preset foo", "--preset is foo; allowed: accurate (= accurate@"),
    ("plan clips -o x --preset fast@0", "--preset is 'fast@0'; allowed: accurate (= accurate@"),
    ("plan clips -o x --tvl1 scales=0", "--tvl1 scales is 0; allowed: a whole number from 1"),
    ("plan clips -o x --quantiser fixed --step-px 1", "--step-px is 1.0 with --quantiser fixed"),
    ("extract clips -o x --jobs 0", "--jobs is 0; allowed: a whole number from 1"),
    ("extract clips -o x --timeout-per-video 0", "--timeout-per-video is 0; allowed: a number above 0"),
    ("extract clips -o x --scratch nofolder", "--scratch: no such folder: nofolder"),
    (
        "extract clips -o x --scheduler tcp://h:1 --slurm 2",
        "allowed: one of --scheduler ADDRESS, --local-cluster N",
    ),
    ("status nofolder", "nofolder is not a corpus: there is no such folder"),
    ("status clips", "clips is not a corpus: it has neither records nor a plan; allowed: a folder that"),
    ("status bad.mp4", "bad.mp4 is not a corpus"),
    ("status .", "Did you mean corpus?"),
    ("verify empty", "empty is not a corpus"),
    ("log clips", "clips is not a corpus"),
    ("index empty", "empty is not a corpus"),
    ("retry clips", "clips is not a corpus"),
    ("run-task clips --array", "clips is not a corpus"),
    ("run-task corpus", "name tasks, as in plan.jsonl, or give --array"),
    ("export clips --out x --layout tsn", "clips is not a corpus"),
    ("export corpus --out x --layout tsn --shard-mb 9", "--shard-mb has no effect here; allowed: only with"),
    (
        "export corpus --out x --layout tsn --quality 9",
        "--quality has no effect here; allowed: only with --conv",
    ),
    ("export corpus --out x --layout tsn --convert --quality 0", "--quality is 0; allowed: a whole number"),
    (
        "export corpus --out x --layout npy --convert",
        "--convert has no effect here; allowed: only with --layout",
    ),
    (
        "export corpus --out x --layout flo --range 9",
        "--range has no effect here; allowed: only with --layout",
    ),
    ("export corpus --out x --layout webdataset --quality 9", "--quality has no effect here"),
    ("merge corpus clips --out x", "clips is not a corpus"),
    ("merge corpus corpus", "--out CORPUS is missing"),
    ("subset bad.mp4 --select a --out x", "bad.mp4 is not a corpus"),
    ("view nofile -o v.png", "no such video, folder, list or corpus: nofile"),
    (
        "view corpus left -o v.jpg",
        "v.jpg is not a name of such a file; allowed: a name that ends in .png or .mp4",
    ),
    ("view corpus left -o v.png --pairs 3", "--pairs has no effect here; allowed: only with .mp4"),
    ("view corpus left -o v.mp4 --columns 3", "--columns has no effect here; allowed: only with .png"),
    ("view clips -o v.png --size big", "--size is 'big'"),
    ("view clips -o empty", "empty"),
    ("report clips -o r.html", "clips is not a corpus"),
    ("report corpus -o r.png", "allowed: a name that ends in .html or .htm"),
    ("flow frames/1.png -o f.jpg", "allowed: a name that ends in .flo or .png"),
    ("flow nofile -o f.flo", "no such video, folder, list or corpus: nofile"),
    ("tune corpus", "corpus is a corpus"),
    ("tune clips --pairs 0", "--pairs is 0; allowed: a whole number from 1"),
    ("tune clips --target-error -1", "--target-error is -1; allowed: a number above 0"),
    ("tune clips --target-error 1 --target-ratio 2", "allowed: one of the two"),
    ("tune clips -o t.jpg", "allowed: a name that ends in .png"),
    ("bench foo", "no command foo"),
    ("bench flow --size big", "--size is 'big'"),
    ("bench flow --pairs 0", "--pairs is 0"),
    ("bench read clips", "clips is not a corpus"),
    ("bench gpu --preset foo", "--preset is foo"),
    ("doctor x", "extra argument (x)"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_wrong_use_is_one_line_and_changes_nothing(cli, place, monkeypatch, line, message):
    monkeypatch.chdir(place)
    check_wrong_use(cli, place, line, message)


def test_wrong_use_and_help_load_no_heavy_library(place):
    helps = [f"{name} --help" for name in main.commands] + ["--help", "--version", "bench flow --help"]
    check_no_heavy_library("flowprep", [*(line for line, _ in WRONG), *helps], place)


def test_limits_of_samples_are_those_of_the_function():
    limits = {p.name: p.type.max for p in main.commands["samples"].params if p.name in ("classes", "clips")}
    assert limits == {"classes": MAX_CLASSES, "clips": MAX_CLIPS}


@pytest.mark.parametrize(
    "name", ["v_left_g01", "left/v_left_g01", "*left_g01*", "right", "left/v_left_g01.mp4"]
)
def test_a_video_is_named_by_id_file_label_or_pattern(cli, place, tmp_path, name):
    video = "right/v_right_g01.mp4" if name == "right" else "left/v_left_g01.mp4"
    corpus = place / "corpus"
    assert f"id: {video}" in cli("info", corpus, name).stdout
    assert video in cli("log", corpus, name).stdout
    assert cli("view", corpus, name, "-o", tmp_path / "v.png", "--width", 800).exit_code == 0
    assert cli("subset", corpus, "--select", name, "-o", tmp_path / "s").exit_code == 0
    assert list(open_corpus(tmp_path / "s")) == [video]


@pytest.mark.parametrize(
    "command",
    ["info {c} left/v_left_g1.mp4", "view {c} v_left_g1 -o v.png", "log {c} v_left_g1",
     "export {c} --out e --layout npy --select v_left_g1", "subset {c} -o e --select left/v_left_g1.mp4",
     "flow {c} v_left_g1 -o v.png"],
)  # fmt: skip
def test_an_unknown_name_suggests_the_nearest(cli, place, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    result = cli(*command.format(c=place / "corpus").split())
    assert result.exit_code == 2 and "did you mean left/v_left_g01.mp4" in result.stderr


def test_a_label_names_several_videos(cli, place):
    result = cli("info", place / "corpus", "left")
    assert (
        result.exit_code == 2
        and "left names 2 videos: left/v_left_g01.mp4, left/v_left_g02.mp4" in result.stderr
    )
    listed = cli("info", place / "corpus", "left", "--list").stdout.splitlines()
    assert [line.split("\t")[0] for line in listed] == ["left/v_left_g01.mp4", "left/v_left_g02.mp4"]
