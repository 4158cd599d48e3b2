"""Groups of UCF-101, of HMDB-51, of a pattern and of a list."""

import logging
from collections import defaultdict

import pytest

from flowprep.errors import UsageError
from flowprep.planning import list_entries as lists
from tests.support.fakes import FakeCorpus
from trainer.data import splits
from trainer.data.annotations import Examples
from trainer.data.groups import find_groups, recording_groups

PERSONS = tuple(f"PS7A{action}P{person}T{k}.avi" for action in (1, 2) for person in (1, 2, 3) for k in (1, 2))


def persons():
    return Examples(PERSONS, tuple(int(i[4]) - 1 for i in PERSONS), ("A1", "A2"))


def test_a_group_of_ucf101_is_a_number_of_its_class():
    ids = ["A/v_A_g08_c01.avi", "A/v_A_g8_c02.avi", "v_B_g08_c01"]
    assert recording_groups(ids) == ["g0008"] * 3
    assert all(group.of_class and group.known for group in find_groups(ids))


@pytest.mark.parametrize(
    ("video", "source"),
    [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "April_09"),
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_11", "April_09"),
        ("kick/Bad.Boys_kick_f_cm_np2_ri_bad_3.avi", "Bad.Boys"),
        # A source may have the class in its name, and a list may lack the folder.
        ("kick/best_kick_ever_kick_l_nm_np1_fr_med_3.avi", "best_kick_ever"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "April_09_brush_hair"),
    ],
)
def test_a_group_of_hmdb51_is_the_source(video, source):
    assert find_groups([video]) == [(source, False, True)]


@pytest.mark.parametrize("split", [1, 2, 3])
def test_the_official_lists_of_hmdb51_share_no_source_within_a_class(shared_data, split):
    folder = shared_data / "splits" / "hmdb51"
    sources = {}
    for part in ("train", "test"):
        entries = lists.read_list(f"{folder}:{part}{split}")
        groups = find_groups([entry.id for entry in entries])
        assert all(group.known for group in groups)
        sources[part] = {(entry.label, group.name) for entry, group in zip(entries, groups, strict=True)}
    assert not sources["train"] & sources["test"]
    assert len(sources["train"]) > 1400  # sources, not videos or classes


def test_no_held_out_video_of_hmdb51_shares_its_source_with_a_training_video(shared_data):
    entries = lists.read_list(f"{shared_data / 'splits' / 'hmdb51'}:train1")
    classes = tuple(sorted({entry.label for entry in entries}))
    examples = Examples(tuple(e.id for e in entries), tuple(classes.index(e.label) for e in entries), classes)
    rest, held = splits.hold_out(examples, 0.1, seed=0)
    assert not set(recording_groups(rest.ids)) & set(recording_groups(held.ids))
    shares = [held.labels.count(n) / examples.labels.count(n) for n in range(51)]
    assert 0.09 < len(held) / len(examples) < 0.14  # a class of few sources gives a whole one
    assert min(shares) > 0.04 and max(shares) < 0.4


def test_a_pattern_finds_groups_that_span_classes():
    for seed in range(9):
        rest, held = splits.hold_out(persons(), 0.3, seed, r"P(\d)T")
        assert len(held) == 4 and set(held.labels) == {0, 1}
        assert len({i[6] for i in held.ids}) == 1 and not {i[6] for i in held.ids} & {i[6] for i in rest.ids}
    # Without parentheses the match is the group; a video without a match is a group of its own.
    assert recording_groups(["aP1T", "bP1T", "c"], r"P\dT") == ["P1T", "P1T", "c"]
    assert recording_groups(["v_A_g08_c01"], "none") == ["v_A_g08_c01"]


def test_a_class_keeps_a_group_that_another_class_would_give_away():
    ids, labels = ("A-x1", "A-x2", "B-x1", "B-x2", "B-y1", "B-z1"), (0, 0, 1, 1, 1, 1)
    for seed in range(9):
        rest, held = splits.hold_out(Examples(ids, labels, ("A", "B")), 0.4, seed, r"-(\w)")
        assert set(rest.labels) == {0, 1}  # A has the group x only
        assert not {i[2] for i in rest.ids} & {i[2] for i in held.ids}


@pytest.mark.parametrize(("pattern", "says"), [("(", "not a regular"), ("(a)(b)", "has 2 pairs")])
def test_wrong_patterns_are_refused(pattern, says):
    with pytest.raises(UsageError, match=says):
        find_groups(["a"], pattern)


def test_videos_without_a_group_are_a_warning(caplog):
    caplog.set_level(logging.WARNING, "trainer")
    ids = ("A/v_A_g01_c01.avi", "A/v_A_g02_c01.avi", "A/odd.avi")
    splits.hold_out(Examples(ids, (0, 0, 0), ("A", "B")), 0.3, seed=0)
    assert "1 of 3 videos have no group by the rules of UCF-101 and HMDB-51: A/odd.avi" in caplog.text
    assert "--groups PATTERN" in caplog.text
    caplog.clear()
    splits.hold_out(persons(), 0.3, 0, "person")
    assert "12 of 12 videos have no group by the pattern 'person'" in caplog.text
    caplog.clear()
    splits.hold_out(persons(), 0.3, 0, r"P(\d)T")
    splits.hold_out(persons(), 0.0, 0)
    assert not caplog.text


def test_the_column_of_a_list_names_the_groups(tmp_path):
    corpus = FakeCorpus()
    by_class = defaultdict(list)
    for video, label in corpus.labels.items():
        by_class[label].append(video)
    rows = {"train": [], "test": []}
    for label, videos in by_class.items():
        for n, video in enumerate(videos):
            rows["test" if n == 0 else "train"].append(f"{video},{label},day{n // 2}\n")
    for name, lines in rows.items():
        (tmp_path / f"{name}.csv").write_text("path,label,group\n" + "".join(lines))
    paths = [str(tmp_path / f"{name}.csv") for name in ("train", "test")]
    with pytest.raises(
        UsageError, match=r"groups that are in the training and in the test list: BlueSpin day0"
    ):
        splits.read_split(corpus, *paths)
    (tmp_path / "train.csv").write_text(
        "path,label,group\n" + "".join(line for line in rows["train"] if "day0" not in line)
    )
    train, _ = splits.read_split(corpus, *paths)
    assert set(train.groups) == {"day1", "day2", "day3"}
    rest, held = splits.hold_out(train, 0.3, seed=0)
    assert set(held.groups) and not set(rest.groups) & set(held.groups)


def test_folds_are_blocks_of_neighbouring_groups_in_every_class():
    ids = [f"{c}/v_{c}_g{g:02d}_c{k}.avi" for c in "AB" for g in range(8, 26) for k in (1, 2)]
    folds = splits.divide_groups(Examples(tuple(ids), tuple("AB".index(i[0]) for i in ids), ("A", "B")), 3)
    assert [sorted({i[6:9] for i in fold.ids}) for _, fold in folds] == [
        [f"g{g:02d}" for g in range(first, first + 6)] for first in (8, 14, 20)
    ]
    for rest, fold in folds:
        assert sorted(rest.ids + fold.ids) == sorted(ids) and len(fold) == 24


def test_a_group_that_spans_classes_is_in_one_fold():
    folds = splits.divide_groups(persons(), 3, r"P(\d)T")
    assert [{i[6] for i in fold.ids} for _, fold in folds] == [{"1"}, {"2"}, {"3"}]
    assert len(splits.divide_groups(persons(), 9, r"P(\d)T")) == 3
    with pytest.raises(UsageError, match=r"all videos of A1, A2 are in one fold.*needs two"):
        splits.divide_groups(persons(), 3, "PS7")
