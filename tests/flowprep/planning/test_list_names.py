"""Names of lists among the ids of videos, and class numbers."""

from __future__ import annotations

import pytest

from flowprep.errors import ListMismatch, UsageError
from flowprep.planning.class_index import name_classes
from flowprep.planning.list_names import NameMatcher, check_coverage
from flowprep.planning.video_lists import ListRow, read_list_rows

IDS = {"Punch/v_Punch_g01.avi", "Punch/v_Punch_g02.avi", "Jump/1.mp4", "Run/1.mp4", "Run/1.avi", "flat.mov"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Punch/v_Punch_g01.avi", "Punch/v_Punch_g01.avi"),
        ("./Punch/v_Punch_g01.avi", "Punch/v_Punch_g01.avi"),
        ("Punch/v_Punch_g01", "Punch/v_Punch_g01.avi"),
        ("Punch/v_Punch_g01.mp4", "Punch/v_Punch_g01.avi"),  # converted since the list was written
        ("v_Punch_g01", "Punch/v_Punch_g01.avi"),
        ("UCF-101/Punch/v_Punch_g01.avi", "Punch/v_Punch_g01.avi"),
        ("/data/rawframes/Punch/v_Punch_g01", "Punch/v_Punch_g01.avi"),
        ("/data/rawframes/v_Punch_g01", "Punch/v_Punch_g01.avi"),
        ("rawframes/v_Punch_g01", None),  # a folder of another name may be another class
        ("Swim/1.mp4", None),
        ("Jump/1", "Jump/1.mp4"),
        ("Run/1.avi", "Run/1.avi"),
        ("data/flat", "flat.mov"),
        ("none", None),
        ("", None),
        ("..", None),
    ],
)
def test_names_are_found_with_and_without_suffix_and_folders(name, expected):
    assert NameMatcher(IDS).find(name) == expected


@pytest.mark.parametrize("name", ["Run/1", "1.mp4", "/data/1"])
def test_a_name_of_several_videos_is_refused(name):
    with pytest.raises(UsageError, match=r"may be .*1\..* or .*1\..*; write the whole id"):
        NameMatcher(IDS).find(name)


@pytest.mark.parametrize(
    ("total", "missing", "allowed", "refused"),
    [
        (3, ["a", "b", "c"], False, True),
        (3, ["a", "b"], False, True),
        (4, ["a", "b"], False, False),
        (3, ["a", "b"], True, False),
        (3, ["a", "b", "c"], True, True),
    ],
)
def test_a_list_of_which_less_than_half_exists_is_refused(total, missing, allowed, refused):
    if refused:
        with pytest.raises(
            ListMismatch, match=rf"l.txt: {len(missing)} of {total} videos are not here: a, b"
        ):
            check_coverage("l.txt", total, missing, "here", allowed=allowed)
    else:
        check_coverage("l.txt", total, missing, "here", allowed=allowed)


CLASSES = ("Jump", "Run", "High Dive")


def names(tmp_path, text, folders=None):
    """The class of each row of a list."""
    path = tmp_path / "l.txt"
    path.write_text(text)
    return name_classes("l.txt", list(read_list_rows(path, lambda name: False)), CLASSES, folders)


def test_numbers_count_from_one_in_lists_of_paths_and_from_zero_in_lists_of_folders(tmp_path):
    assert names(tmp_path, "a.avi 1\nb.avi 3\nc.avi Swim\n") == ["Jump", "High Dive", "Swim"]
    assert names(tmp_path, "a 10 0\nb 10 2\n") == ["Jump", "High Dive"]
    assert names(tmp_path, "a 3 10 1\nb 10 -1\n") == ["Run", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.avi 1\nb.avi 4\n", r"line 2: class number 4, but classInd.txt has classes 1 to 3"),
        (
            "a.avi 0\nb.avi 2\n",
            r"line 1: class number 0, but .* `path class`.* count from 1",
        ),
        ("a 10 1\nb 10 3\n", r"the class numbers go from 1 to 3, but .* `folder frames class`.* from 0"),
        ("a 10 0\nb 10 3\n", r"line 2: class number 3, but classInd.txt has classes 1 to 3"),
        (
            "v_Jump_g01 10 1\nv_Run_g01 10 2\n",
            r"names of the videos tell that .* count from 1",
        ),
        ("v_Run_g01.avi 1\nb.avi 2\n", r"names of the videos tell that .* count from 0"),
    ],
)
def test_wrong_class_numbers_are_refused(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        names(tmp_path, text)


def test_a_number_that_contradicts_the_folder_is_refused(tmp_path):
    assert names(tmp_path, "a.avi 1\nb.avi 2\n", ["Jump", "clips"]) == ["Jump", "Run"]
    with pytest.raises(UsageError, match=r"line 2: b.avi has class number 2, which is 'Run', but .* 'Jump'"):
        names(tmp_path, "a.avi 1\nb.avi 2\n", ["Jump", "Jump"])


def test_names_that_mention_other_classes_are_no_proof(tmp_path):
    """A video of one class may have the name of another one in its own, as "left" and "right" of a camera."""
    assert names(tmp_path, "Run_1 10 0\nJump_2 10 0\n") == ["Jump", "Jump"]


def test_a_label_of_digits_that_are_not_ascii_is_a_name():
    assert ListRow(1, "a", "\u0663").number is None and ListRow(1, "a", "3").number == 3
