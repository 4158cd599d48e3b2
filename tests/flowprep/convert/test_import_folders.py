"""Import: the same images, byte by byte, and the faults of folders."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from flowprep import open_corpus
from flowprep.convert.export import NAMES, export
from flowprep.convert.import_folders import import_folders
from flowprep.convert.layouts import LAYOUTS
from flowprep.convert.names import folder_names
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.errors import ListMismatch, UsageError
from flowprep.parameters import Tvl1Settings
from tests.support.preset_versions import add_version


@pytest.mark.parametrize("layout", [n for n in NAMES if n in LAYOUTS])
def test_an_export_is_imported_byte_by_byte(corpus, tmp_path, layout):
    export(corpus, tmp_path / "x", layout)
    summary = import_folders(tmp_path / "x", tmp_path / "c", layout, range=8)
    assert summary.videos.ok == 5 and not summary.partial and not summary.failures
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()
    names = folder_names(corpus.labels, flat=LAYOUTS[layout].flat)
    theirs = open_corpus(tmp_path / "c")
    lost = int(LAYOUTS[layout].leads_to)  # such a folder lacks the first frame and its pair
    for video in corpus.values():
        other = theirs[names[video.id]]
        assert other.num_pairs == video.num_pairs - lost and other.num_frames == video.num_frames - lost
        assert np.array_equal(other.flow(0, other.num_pairs), video.flow(lost, other.num_pairs))
        for i in range(other.num_frames):
            assert other.stored("rgb", i) == video.stored("rgb", i + lost)
        # Means of codes after JPEG are within a level of 16/255 px of the means before quantisation.
        assert np.abs(other.mean_flow - video.mean_flow[lost:]).max() < 16 / 255
        assert other.label == ("" if LAYOUTS[layout].flat else names[video.id].split("/")[0])
        assert np.isnan(other.times_seconds).all()


def test_an_import_resumes_after_the_default_preset_changed(corpus, tmp_path, monkeypatch):
    export(corpus, tmp_path / "x", "tsn")
    import_folders(tmp_path / "x", tmp_path / "c", "tsn", range=8)
    before = (tmp_path / "c" / "plan.jsonl").read_bytes()
    add_version(monkeypatch, "accurate@99", Tvl1Settings(scales=3))
    again = import_folders(tmp_path / "x", tmp_path / "c", "tsn", range=8)  # another plan would be refused
    assert again.videos.ok == 5 and (tmp_path / "c" / "plan.jsonl").read_bytes() == before


def test_flow_alone_loses_nothing(corpus, tmp_path):
    export(corpus, tmp_path / "x", "tsn")
    import_folders(tmp_path / "x", tmp_path / "c", "tsn", range=8, rgb=False)
    name = folder_names(corpus.labels, flat=True)["left/long.mp4"]
    flow = open_corpus(tmp_path / "c")[name].flow(0, 25)
    assert np.array_equal(flow, corpus["left/long.mp4"].flow(0, 25))
    export(open_corpus(tmp_path / "c"), tmp_path / "again", "gpu_flow")  # and exported again without change
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
    (tmp_path / "list.txt").write_text(f"/elsewhere/{names['left/long.mp4']}\tfront crawl\n", "utf-8")
    import_folders(tmp_path / "x", tmp_path / "f", "tsn", range=8, labels=tmp_path / "list.txt")
    assert set(open_corpus(tmp_path / "f").labels.values()) == {"", "front crawl"}
    (tmp_path / "list.txt").write_text("alone\n", "utf-8")
    with pytest.raises(UsageError, match="'alone' is not `folder count class`"):
        import_folders(tmp_path / "x", tmp_path / "e", "tsn", range=8, labels=tmp_path / "list.txt")


def import_labels(root, out, text, index="", **options):
    """Import folders with a list; gives the labels."""
    (root.parent / "list.txt").write_text(text, "utf-8")
    (root.parent / "classInd.txt").write_text(index, "utf-8")
    if not index:
        (root.parent / "classInd.txt").unlink()
    import_folders(root, out, "tsn", range=8, labels=root.parent / "list.txt", **options)
    return open_corpus(out).labels


def test_class_numbers_of_an_import_are_checked(corpus, tmp_path):
    export(corpus, tmp_path / "x", "tsn")
    names = sorted(folder_names(corpus.labels, flat=True).values())
    index = "1 Jump\n2 Run\n"
    from_zero = "".join(f"{name} 10 {k % 2}\n" for k, name in enumerate(names))
    expected = {name: ("Jump", "Run")[k % 2] for k, name in enumerate(names)}
    assert import_labels(tmp_path / "x", tmp_path / "c", from_zero, index) == expected
    paths = "".join(f"some/{name}.avi {k % 2 + 1}\n" for k, name in enumerate(names))  # as in UCF-101
    assert import_labels(tmp_path / "x", tmp_path / "d", paths, index) == expected
    from_one = "".join(f"{name} 10 {k % 2 + 1}\n" for k, name in enumerate(names))
    with pytest.raises(UsageError, match=r"the class numbers go from 1 to 2, but .* count from 0"):
        import_labels(tmp_path / "x", tmp_path / "e", from_one, index)
    with pytest.raises(UsageError, match=r"class number 7, but classInd.txt has classes 1 to 2"):
        import_labels(tmp_path / "x", tmp_path / "e", from_zero.replace(" 1\n", " 7\n"), index)
    for wrong, message in (("Jump\nRun\n", "is not `number name`"), ("1 A\n3 B\n", "without gaps")):
        with pytest.raises(UsageError, match=message):
            import_labels(tmp_path / "x", tmp_path / "e", from_zero, wrong)
    assert not (tmp_path / "e").exists()


def test_a_list_of_other_videos_is_refused(corpus, tmp_path, caplog):
    export(corpus, tmp_path / "x", "tsn")
    names = sorted(folder_names(corpus.labels, flat=True).values())
    with pytest.raises(ListMismatch, match=r"3 of 3 videos are not folders of the import: a, b, c"):
        import_labels(tmp_path / "x", tmp_path / "c", "a 3 run\nb 3 run\nc 3 run\n")
    partly = f"{names[0]} 3 run\n" + "a 3 run\nb 3 run\n"
    with pytest.raises(ListMismatch, match=r"2 of 3 videos .*; --allow-missing"):
        import_labels(tmp_path / "x", tmp_path / "c", partly)
    labels = import_labels(tmp_path / "x", tmp_path / "c", partly, allow_missing=True)
    assert labels == {name: "run" if name == names[0] else "" for name in names}
    assert "lacks 4 videos of 5" in caplog.text
    with pytest.raises(UsageError, match=rf"line 2: {names[0]} has the labels 'run' and 'jump'"):
        import_labels(tmp_path / "x", tmp_path / "d", f"{names[0]} 3 run\n/x/{names[0]} 3 jump\n")


def test_exported_lists_of_odd_class_names_are_imported(corpus, tmp_path, monkeypatch):
    odd = {"left": 'a "quoted" name', "to right": "two\nlines\tand a tab\x07 "}
    labels = {video_id: odd[label] for video_id, label in corpus.labels.items()}
    monkeypatch.setattr(type(corpus), "labels", property(lambda self: labels))
    export(corpus, tmp_path / "x", "tsn")
    monkeypatch.undo()
    import_folders(tmp_path / "x", tmp_path / "c", "tsn", range=8, labels=tmp_path / "x" / "rgb_all.txt")
    names = folder_names(labels, flat=True)
    assert open_corpus(tmp_path / "c").labels == {names[i]: label for i, label in labels.items()}


def test_the_faults_of_each_video_are_reported(corpus, tmp_path, cli):
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
        spoil("start", "begins with flow_y_00001.jpg, but the layout begins at 0", None) / "flow_y_00000.jpg"
    ).unlink()
    (spoil("counts", "25 images of u and 24 of v", 24) / "flow_y_00024.jpg").unlink()
    (spoil("images", "25 frames and 25 pairs; 25 pairs go with 26 frames", 24) / "img_00025.jpg").unlink()
    folder = spoil("cut", "flow_y_00012.jpg is not a complete JPEG", 12)
    (folder / "flow_y_00012.jpg").write_bytes((folder / "flow_y_00012.jpg").read_bytes()[:300])
    Image.new("L", (20, 20)).save(
        spoil("size", "is 20x20 pixels, those before 48x32", 5) / "flow_x_00005.jpg"
    )
    Image.new("L", (48, 32)).save(
        spoil("grey", "img_00003.jpg is grey, and colour is needed", 2) / "img_00003.jpg"
    )
    (spoil("first", "img_00000.jpg is not a complete JPEG", None) / "img_00000.jpg").write_bytes(b"")
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
    imported = open_corpus(tmp_path / "c")
    for name, (reason, pairs) in expected.items():
        assert reason in reasons[name]
        assert (name in summary["failures"]) == (pairs is None)
        if pairs is not None:
            assert imported[name].num_pairs == pairs == imported[name].num_frames - 1
    assert cli("status", tmp_path / "c").exit_code == 0
    facts = json.loads(cli("info", tmp_path / "c", "--json").stdout)
    assert facts["settings"]["engine"] == "imported" and "tvl1" not in facts["settings"]


def test_an_import_retries_videos_that_were_repaired(corpus, tmp_path, cli):
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
    assert cli(*command).exit_code == 3  # finished tasks are not repeated
    again = cli(*command, "--retry-failed")
    assert again.exit_code == 0 and "5 of 5 videos stored, 0 failed" in again.stdout
    imported = open_corpus(out)
    for video in corpus.values():
        pairs = 0, video.num_pairs
        assert np.array_equal(imported[names[video.id]].flow(*pairs), video.flow(*pairs))
    (root / "new").mkdir()
    shutil.copytree(folder, root / "new" / "long")
    more = cli(*command)
    assert more.exit_code == 2 and "is another corpus already" in more.stderr


def test_flow_of_another_tool_is_stored_unchanged(shared_data, tmp_path, cli):
    """10 images and 5 pairs do not fit. This is reported, and the sound part is stored."""
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


def test_impossible_imports_are_refused(corpus, tmp_path):
    export(corpus, tmp_path / "x", "denseflow")
    with pytest.raises(UsageError, match="allowed for these files: --layout denseflow"):
        import_folders(tmp_path / "x", tmp_path / "c", "gpu_flow", range=8)
    with pytest.raises(UsageError, match="adaptive"):
        import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8, codes="adaptive")
    with pytest.raises(UsageError, match="is not empty"):
        import_folders(tmp_path / "x", tmp_path / "x", "denseflow", range=8)


@pytest.mark.parametrize("flow", [True, False])
def test_extraction_does_not_run_tasks_of_an_import(corpus, tmp_path, cli, flow):
    export(corpus, tmp_path / "x", "denseflow")
    import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8, flow=flow)
    for record in (tmp_path / "c" / "records").glob("*.json"):
        record.unlink()
    result = cli("retry", tmp_path / "c", "--jobs", 1)
    assert result.exit_code == 1 and "stored by the command that made the corpus" in result.stderr
    assert len(open_corpus(tmp_path / "c")) == 0
    import_folders(tmp_path / "x", tmp_path / "c", "denseflow", range=8, flow=flow)
    assert len(open_corpus(tmp_path / "c")) == 5


@pytest.mark.parametrize(
    ("written", "given", "fitting"),
    [
        ("denseflow", "tsn", "denseflow"),
        ("gpu_flow", "mmaction2", "gpu_flow"),
        ("tsn", "denseflow", "tsn or mmaction2"),
    ],
)
def test_the_wrong_layout_is_one_error_that_names_the_right_one(corpus, tmp_path, written, given, fitting):
    export(corpus, tmp_path / "x", written)
    with pytest.raises(UsageError, match=rf"--layout {given}; allowed for these files: --layout {fitting}\."):
        import_folders(tmp_path / "x", tmp_path / "c", given, range=8)
    assert not (tmp_path / "c").exists()
