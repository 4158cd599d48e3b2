"""Old spellings of the command line: each still works, and says on standard error what to write instead."""

from __future__ import annotations

import json

import pytest

from flowprep import Settings, make_corpus, open_corpus
from flowprep.bench.truth import EndpointErrors
from flowprep.presets import PRESETS
from tests.support.videos import write_frames, write_video

SIZE = ("--size", "source", "--engine", "opencv", "--jobs", 1)
WARNING = "is an old spelling that the next version will not accept; use"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus of one video, which the tests only read."""
    folder = tmp_path_factory.mktemp("old")
    video = write_video(folder / "clips" / "left" / "v_left_g01.mp4", 5)
    settings = Settings(engine="opencv", tvl1=PRESETS["opencv"], size="source")
    assert make_corpus([video.parents[1]], folder / "corpus", settings, jobs=1).complete
    return folder / "corpus"


def warnings(result):
    """Lines about old spellings."""
    return [line for line in result.stderr.splitlines() if WARNING in line]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("--codes", "fixed"), ("--quantiser", "fixed")),
        (("--codes=fixed",), ("--quantiser=fixed",)),
        (("--codes", "fixed", "--codec", "png"), ("--quantiser", "fixed", "--image-format", "png")),
        (("--error-px", "0.3"), ("--step-px", "0.3")),
    ],
)
def test_old_names_of_options_give_the_same_plan(cli, clips, tmp_path, old, new):
    results = [
        cli("plan", clips, "--out", tmp_path / name, "--json", *options)
        for name, options in (("old", old), ("new", new))
    ]
    first, second = (json.loads(result.stdout)["settings"] for result in results)
    assert first == second
    names = [option.partition("=")[0] for option in old if option.startswith("-")]
    assert [line.split()[1] for line in warnings(results[0])] == names
    assert warnings(results[1]) == []


def test_a_name_after_the_options_is_never_an_old_option(cli, tmp_path):
    result = cli("extract", "--out", tmp_path / "c", "--", "--codes")
    assert result.exit_code == 2 and "no such input: --codes" in result.stderr and warnings(result) == []


@pytest.mark.parametrize(
    ("command", "options"),
    [("export", ["--layout", "npy"]), ("subset", ["--select", "left"]), ("repack", ["--shard-pairs", 9])],
)
def test_a_destination_as_the_last_argument(cli, corpus, tmp_path, command, options):
    old = cli(command, corpus, tmp_path / "old", *options)
    new = cli(command, corpus, "--out", tmp_path / "new", *options)
    assert old.exit_code == new.exit_code == 0
    assert len(warnings(old)) == 1 and f"use --out {tmp_path / 'old'}" in old.stderr and warnings(new) == []
    written = [
        sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*.[hn]*")) for n in ("old", "new")
    ]
    assert written[0] == written[1] != []


def test_a_destination_as_the_first_argument_of_merge(cli, corpus, tmp_path):
    old = cli("merge", tmp_path / "old", corpus)
    new = cli("merge", corpus, "-o", tmp_path / "new")
    assert old.exit_code == new.exit_code == 0 and len(warnings(old)) == 1 and warnings(new) == []
    assert (
        list(open_corpus(tmp_path / "old"))
        == list(open_corpus(tmp_path / "new"))
        == list(open_corpus(corpus))
    )


def test_a_destination_of_samples(cli, tmp_path):
    result = cli("samples", tmp_path / "s", "--classes", 2, "--clips", 2)
    assert result.exit_code == 0 and len(warnings(result)) == 1 and (tmp_path / "s" / "splits").is_dir()


@pytest.mark.parametrize("command", ["export", "subset", "repack", "merge", "samples"])
def test_a_missing_or_double_destination_is_refused(cli, corpus, tmp_path, command):
    options = {"export": ["--layout", "npy"], "subset": ["--select", "left"], "repack": ["--shard-pairs", 9]}
    sources = [] if command == "samples" else [corpus]
    missing = cli(command, *sources, *options.get(command, []))
    assert missing.exit_code == 2 and "--out" in missing.stderr
    assert missing.stderr.startswith("error: ")
    double = cli(command, *sources, tmp_path / "a", "-o", tmp_path / "b", *options.get(command, []))
    assert double.exit_code == 2 and not (tmp_path / "b").exists()


def test_output_is_out_now(cli, corpus, tmp_path):
    images = sorted(write_frames(tmp_path / "frames", 2).iterdir())
    for command in (
        ["view", corpus, "left/v_left_g01.mp4", "--output", tmp_path / "a.png"],
        ["report", corpus, f"--output={tmp_path / 'b.html'}"],
        ["flow", *images, "--engine", "opencv", "--output", tmp_path / "c.flo"],
    ):
        result = cli(*command)
        assert result.exit_code == 0 and len(warnings(result)) == 1, result.stderr
    assert all((tmp_path / name).exists() for name in ("a.png", "b.html", "c.flo"))


def test_failed_is_retry_failed_now(cli, clips, tmp_path):
    out, video = tmp_path / "c", clips / "left" / "v_left_g01.mp4"
    whole = video.read_bytes()
    video.write_bytes(b"damaged")
    assert cli("extract", clips, "--out", out, *SIZE).exit_code == 3
    video.write_bytes(whole)
    result = cli("retry", out, "--failed", "--jobs", 1)
    assert result.exit_code == 0 and len(warnings(result)) == 1 and len(open_corpus(out)) == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--read", "PATH"], ["read", "PATH"]),
        (["--json", "--read", "PATH"], ["read", "PATH", "--json"]),
        (["--truth=PATH", "--preset", "fast"], ["truth", "PATH", "--preset", "fast"]),
        (["--preset", "fast", "PATH", "--pairs", "2"], ["flow", "--preset", "fast", "PATH", "--pairs", "2"]),
        ([], ["flow"]),
    ],
)
def test_bench_without_a_command(cli, tmp_path, monkeypatch, old, new):
    calls = []
    place = tmp_path / "corpus" if "read" in str(new) else tmp_path
    (tmp_path / "corpus" / "records").mkdir(parents=True)
    for module, name in (("flow", "bench"), ("truth", "endpoint_errors"), ("read", "bench_reading")):

        def record(*arguments, _name=name, **options):
            calls.append((_name, str(arguments), options))
            return EndpointErrors("cpu", PRESETS["fast"], {})

        monkeypatch.setattr(f"flowprep.bench.{module}.{name}", record)
    monkeypatch.setattr("flowprep.corpus.reader.open_corpus", str)
    first, second = (
        cli("bench", *[arg.replace("PATH", str(place)) for arg in args], *json_flag)
        for args, json_flag in ((old, ["--json"]), (new, ["--json"]))
    )
    assert first.exit_code == second.exit_code == 0, (first.stderr, second.stderr)
    assert calls[0] == calls[1] and len(warnings(first)) == 1 and warnings(second) == []
