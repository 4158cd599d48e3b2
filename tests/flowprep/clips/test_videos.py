"""The videos of a data set, and the numbers of their classes."""

from __future__ import annotations

import pytest

import flowprep
from flowprep.clips.videos import video_table
from flowprep.errors import UsageError
from flowprep.presets import PRESETS
from tests.support.clip_corpus import IDS, PAIRS


def labelled(source: flowprep.ClipSource) -> dict[str, str]:
    return {i: source.classes[n] for i, n in zip(source.ids, source.labels, strict=True)}


def test_a_list_file_chooses_the_videos_and_its_classes_count(clip_corpus, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("Sit/c1.avi Kneel\nRun/b2.avi Run\n")
    source = flowprep.ClipSource(clip_corpus, 2, videos=path)
    assert labelled(source) == {"Sit/c1": "Kneel", "Run/b2": "Run"} and source.classes == ("Kneel", "Run")


def test_numbers_of_a_list_stand_for_the_classes_of_a_class_index(clip_corpus, tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Sit\n2 Run\n3 Jump\n")
    path = tmp_path / "train.txt"
    path.write_text("Sit/c1 1\nRun/b2 2\n")
    source = flowprep.ClipSource(clip_corpus, 2, videos=path, classes=tmp_path / "classInd.txt")
    assert source.classes == ("Sit", "Run", "Jump") and source.labels.tolist() == [0, 1]
    test = flowprep.ClipSource(clip_corpus, 2, videos=["Jump/a2"], classes=source.classes)
    assert test.labels.tolist() == [2]


def test_names_in_a_list_of_ids_need_no_folder(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 2, videos=["c2.avi", "Jump/a1"])
    assert source.ids == ("Sit/c2", "Jump/a1")


def test_labels_from_a_mapping(clip_corpus):
    moving = {i: "still" if "Sit" in i else "moving" for i in IDS}
    source = flowprep.ClipSource(
        clip_corpus, 2, labels={**moving, "else/where": "moving"}, allow_missing=True
    )
    assert labelled(source) == moving
    numbers = flowprep.ClipSource(clip_corpus, 2, labels=dict(zip(IDS, range(20, 13, -1), strict=True)))
    assert numbers.labels.tolist() == list(range(20, 13, -1)) and len(numbers.classes) == 21
    named = flowprep.ClipSource(clip_corpus, 2, videos=IDS[:2], labels={"a1": 1, "a2": 0}, classes=["x", "y"])
    assert labelled(named) == {"Jump/a1": "y", "Jump/a2": "x"}


def test_missing_videos_are_refused_or_left_out(clip_corpus, caplog):
    with pytest.raises(
        UsageError, match=r"videos: 2 of 3 .*Run/broken \(failed: no video\), Run/b9.*b1"
    ) as error:
        flowprep.ClipSource(clip_corpus, 2, videos=["Run/b9", "Run/broken", "Sit/c1"])
    assert "did you mean Run/b" in str(error.value) and "; allow_missing=True leaves them out" in str(
        error.value
    )
    source = flowprep.ClipSource(clip_corpus, 2, videos=["Run/b9", "Sit/c1"], allow_missing=True)
    assert source.ids == ("Sit/c1",) and "left out" in caplog.text
    with pytest.raises(UsageError, match="no video of the list is in the corpus"):
        flowprep.ClipSource(clip_corpus, 2, videos=["Run/b9"], allow_missing=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": ["Jump", "Runs", "Sit"]}, "classes= lacks: Run; did you mean Runs"),
        ({"classes": ["Jump", "Run", "Sit", "Run"]}, "classes has 'Run' twice"),
        (
            {"labels": {**dict.fromkeys(IDS, "x"), "Jump/a11": "x"}},
            "labels has 1 videos that .* does not have: Jump/a11; did you mean Jump/a1 .*allow_missing=True",
        ),
        ({"labels": {"Jump/a1": "x"}}, "labels has no class for 6 videos: Jump/a2, Run/b1"),
        ({"labels": dict.fromkeys(IDS, 3), "classes": ["x"]}, "Jump/a1 has class 3; classes has 0 to 0"),
        ({"videos": ["Run/b1", "b1.avi"]}, "videos: named more than once: Run/b1"),
        ({"videos": "nowhere.txt"}, "nowhere.txt: cannot be read"),
    ],
)
def test_wrong_labels(clip_corpus, options, says):
    with pytest.raises(UsageError, match=says):
        flowprep.ClipSource(clip_corpus, 2, **options)


def test_a_corpus_without_flow_or_frames(tmp_path, clips):
    for option, content in (("flow", "flow"), ("rgb", "rgb")):
        settings = flowprep.Settings(size="32x24", engine="opencv", tvl1=PRESETS["opencv"], **{option: False})
        folder = tmp_path / option
        flowprep.make_corpus([clips], folder, settings, jobs=1)
        with pytest.raises(UsageError, match=rf"content is '{content}', and .* \(--no-{option}\); it has "):
            flowprep.ClipSource(folder, content=content)
        other = flowprep.ClipSource(folder, 2, content="rgb" if option == "flow" else "codes")
        assert len(other) == 4 and set(other[0]) > {"label", "id", "start", "times"}


def test_the_table_of_videos_agrees_with_the_videos(clip_corpus):
    table = video_table(clip_corpus, IDS[::-1])
    videos = [clip_corpus[i] for i in IDS[::-1]]
    assert table.frames.tolist() == [v.num_frames for v in videos]
    assert table.pairs.tolist() == PAIRS[::-1] == [v.num_pairs for v in videos]
    assert set(table.height.tolist()) == {24} and set(table.width.tolist()) == {40}
    assert len(set(table.shard[[0, 1]])) == 1 and len(set(table.shard.tolist())) == 3
