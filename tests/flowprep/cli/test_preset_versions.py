"""A corpus of an older version of flowprep, whose default preset had other values."""

from __future__ import annotations

import json
import logging

import h5py
import numpy as np
import pytest
from click.shell_completion import ShellComplete

import flowprep
from flowprep.cli import main
from flowprep.corpus.store import CorpusStore
from flowprep.errors import SettingsConflict
from flowprep.presets import NEWEST, PRESET_VERSIONS, preset_names, tvl1_settings
from flowprep.settings import Settings
from tests.support.preset_versions import add_version, first_settings
from tests.support.videos import write_video

OPTIONS = ("--size", "source", "--engine", "cpu", "--jobs", 1)
# The values of the old default: few iterations, so that the tests are quick.
OLD = tvl1_settings("accurate@1", ["scales=2", "warps=1", "inner_iterations=2"])
NEW = tvl1_settings("accurate@1", ["scales=2", "warps=1", "inner_iterations=9", "coupled=true"])


@pytest.fixture
def old_corpus(clips, tmp_path, monkeypatch):
    """A corpus made when "accurate" meant the values OLD, and before later parameters; now it means NEW."""
    out = tmp_path / "corpus"
    add_version(monkeypatch, "accurate@98", OLD)
    with first_settings():
        flowprep.make_corpus([clips], out, Settings(size="source"), jobs=1)
    (shard, *_) = (out / "shards").iterdir()
    with h5py.File(shard) as file:
        assert "coupled" not in file.attrs["settings"] + (out / "plan.jsonl").read_text("utf-8")
    add_version(monkeypatch, "accurate@99", NEW)
    write_video(clips / "new" / "n.mp4", 5)
    return out


def test_an_old_corpus_is_extended_with_its_own_preset(cli, clips, old_corpus, tmp_path, caplog):
    line = f"{old_corpus} was made with preset accurate@98, which is used again instead of accurate@99"
    tasks = [task.id for task in CorpusStore(old_corpus).read_plan().tasks]
    extended = cli("extract", clips, "--out", old_corpus, *OPTIONS)
    assert extended.exit_code == 0 and caplog.messages == [line]
    assert "5 videos in 2 tasks, 1 to do; engine cpu accurate@98;" in extended.stderr
    assert cli("verify", old_corpus).exit_code == 0
    assert [task.id for task in CorpusStore(old_corpus).read_plan().tasks][:1] == tasks
    # The new video is the one of a corpus that names the version, and not that of the new default.
    flows = {}
    for version in ("accurate@98", "accurate@99"):
        settings = Settings(size="source", tvl1=tvl1_settings(version))
        flowprep.make_corpus([clips / "new"], tmp_path / version, settings, jobs=1)
        flows[version] = flowprep.open_corpus(tmp_path / version)["n.mp4"].flow(0, 4)
    corpus = flowprep.open_corpus(old_corpus)
    assert np.array_equal(corpus["new/n.mp4"].flow(0, 4), flows["accurate@98"])
    assert not np.array_equal(corpus["new/n.mp4"].flow(0, 4), flows["accurate@99"])
    assert {video.settings.tvl1 for video in map(corpus.shard, corpus.index.tasks)} == {OLD}
    again = cli("extract", clips, "--out", old_corpus, *OPTIONS)
    assert again.exit_code == 0 and "0 to do" in again.stderr


def test_the_version_of_an_old_corpus_may_be_named(cli, clips, old_corpus):
    extended = cli("plan", clips, "--out", old_corpus, "--size", "source", "--preset", "opencv")
    assert extended.exit_code == 2
    message = (
        f"error: {old_corpus} has other settings (requested, stored): --preset: opencv, accurate@98."
        " Use the stored ones (`--preset accurate@98`), or another --out\n"
    )
    assert extended.stderr == message
    flowprep.make_corpus(
        [clips], old_corpus, Settings(size="source", tvl1=tvl1_settings("accurate@98")), jobs=1
    )
    assert len(flowprep.open_corpus(old_corpus)) == 5


def test_changes_of_the_new_default_are_refused_with_the_options_that_fit(cli, clips, old_corpus):
    before = {p: p.read_bytes() for p in old_corpus.rglob("*") if p.is_file()}
    for options in (("--preset", "accurate"), ("--tvl1", "tau=0.25")):
        refused = cli("extract", clips, "--out", old_corpus, *OPTIONS, *options)
        assert refused.exit_code == 2 and "(`--preset accurate@98`)" in refused.stderr
        assert "--preset: accurate@99, accurate@98." in refused.stderr
    refused = cli("extract", clips, "--out", old_corpus, *OPTIONS, "--engine", "opencv")
    assert "--engine: opencv, cpu; --preset: opencv, accurate@98. Use the stored ones, or" in refused.stderr
    assert {p: p.read_bytes() for p in old_corpus.rglob("*") if p.is_file()} == before


def test_python_programs_extend_an_old_corpus(clips, old_corpus, caplog):
    with pytest.raises(SettingsConflict, match=r"preset: accurate@99, accurate@98\. Use .* accurate@98`"):
        flowprep.make_corpus([clips], old_corpus, Settings(size="source"), jobs=1)
    with pytest.raises(SettingsConflict, match=r"size: short:256, source\. Use the stored ones, or another"):
        flowprep.make_corpus([clips], old_corpus, jobs=1)  # without settings: only the size differs
    assert "accurate@98, which is used again instead of accurate@99" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        from flowprep.api import plan_corpus

        plan = plan_corpus([clips], old_corpus, Settings(size="source"), stored_preset=True).plan
    assert plan.settings.tvl1 == OLD and "accurate@98, which is used" in caplog.text


def test_what_is_shown_names_the_version(cli, clips, old_corpus, tmp_path):
    info = json.loads(cli("info", old_corpus, "--json").stdout)
    assert info["preset"] == "accurate@98" and info["settings"]["tvl1"]["coupled"] is False
    assert "\npreset: accurate@98\n" in cli("info", old_corpus).stdout
    plan = cli("plan", clips, "--out", tmp_path / "x", "--tvl1", "scales=3", "--engine", "cpu")
    assert "; engine cpu accurate@99 scales=3;" in plan.stdout
    plan = json.loads(cli("plan", clips, "--out", old_corpus, *OPTIONS[:4], "--json").stdout)
    assert plan["preset"] == "accurate@98"
    assert cli("report", old_corpus, "-o", tmp_path / "r.html").exit_code == 0
    assert "TV-L1 flow (cpu accurate@98)" in (tmp_path / "r.html").read_text("utf-8")
    assert cli("extract", clips, "--out", tmp_path / "rgb", *OPTIONS, "--no-flow").exit_code == 0
    assert "preset" not in json.loads(cli("info", tmp_path / "rgb", "--json").stdout)


def test_every_version_is_a_choice_of_the_shell():
    complete = ShellComplete(main, {}, "flowprep", "_FLOWPREP_COMPLETE").get_completions
    for command in (["extract"], ["bench", "flow"], ["bench", "gpu"], ["tune"], ["view"], ["flow"]):
        assert [item.value for item in complete([*command, "--preset"], "")] == preset_names()
    names = [item.value for item in complete(["extract", "--preset"], "accurate@")]
    assert (
        names == [name for name in preset_names() if name.startswith("accurate@")]
        and NEWEST["accurate"] in names
    )


@pytest.mark.parametrize("version", PRESET_VERSIONS)
def test_a_version_is_accepted_wherever_a_preset_is(cli, clips, tmp_path, version):
    clip = clips / "left" / "v_left_g01.mp4"
    quick = ("--tvl1", "scales=1", "--tvl1", "inner_iterations=1", "--engine", "reference")
    for number, name in enumerate((version, version.partition("@")[0])):
        out = tmp_path / f"{number}.flo"
        assert cli("flow", clip, "-o", out, "--preset", name, *quick).exit_code == 0
    if NEWEST[version.partition("@")[0]] == version:
        assert (tmp_path / "0.flo").read_bytes() == (tmp_path / "1.flo").read_bytes()
    planned = cli("plan", clip, "--out", tmp_path / "c", "--preset", version, "--json")
    assert json.loads(planned.stdout)["preset"] == version
    frames = np.random.default_rng(0).integers(0, 255, (2, 32, 32)).astype(np.uint8)
    flow = flowprep.tvl1(*frames, engine="reference", preset=version)
    assert np.array_equal(flow, flowprep.tvl1(*frames, engine="reference", preset=PRESET_VERSIONS[version]))
