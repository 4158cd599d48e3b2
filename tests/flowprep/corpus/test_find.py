"""Names of videos: ids, labels, names of files, patterns; and the nearest ids to a wrong one."""

from __future__ import annotations

import pytest

from flowprep.corpus.find import find_videos, nearest_videos, unknown_video

LABELS = {
    "Punch/v_Punch_g01_c01.avi": "Punch",
    "Punch/v_Punch_g01_c02.avi": "Punch",
    "Run/take.2.mp4": "Run",
    "Run/same.mp4": "Run",
    "Walk/same.mp4": "Walk",
    "plain": "",
}


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("Punch/v_Punch_g01_c01.avi", ["Punch/v_Punch_g01_c01.avi"]),
        ("v_Punch_g01_c01.avi", ["Punch/v_Punch_g01_c01.avi"]),
        ("v_Punch_g01_c01", ["Punch/v_Punch_g01_c01.avi"]),
        ("Punch/v_Punch_g01_c01", ["Punch/v_Punch_g01_c01.avi"]),
        ("take.2", ["Run/take.2.mp4"]),
        ("take", []),
        ("plain", ["plain"]),
        ("same", ["Run/same.mp4", "Walk/same.mp4"]),
        ("Punch", ["Punch/v_Punch_g01_c01.avi", "Punch/v_Punch_g01_c02.avi"]),
        ("*/same*", ["Run/same.mp4", "Walk/same.mp4"]),
        ("*_c02.avi", ["Punch/v_Punch_g01_c02.avi"]),
        ("punch", []),
        ("", []),
    ],
)
def test_what_a_name_stands_for(name, ids):
    assert find_videos(LABELS, name) == ids


def test_an_id_is_not_taken_for_a_label():
    labels = {"Run": "Walk", "other": "Run"}
    assert find_videos(labels, "Run") == ["Run"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("v_Punch_g01_c1", "Punch/v_Punch_g01_c01.avi"),
        ("v_Punch_g1_c01", "Punch/v_Punch_g01_c01.avi"),  # not g21, which is as near by letters
        ("Punch/v_Punch_g1_c02.avi", "Punch/v_Punch_g01_c02.avi"),
    ],
)
def test_the_nearest_id_is_suggested(name, nearest):
    more = ["Punch/v_Punch_g21_c01.avi", *LABELS]
    assert nearest_videos(more, name)[0] == nearest
    assert f"did you mean {nearest}" in unknown_video(LABELS, name, "corpus")


def test_nothing_is_suggested_for_a_name_like_no_other():
    assert unknown_video(LABELS, "qqqq", "corpus") == "no video 'qqqq' in corpus"


@pytest.mark.parametrize("name", ["Run/bad.mp4", "bad.mp4", "bad"])
def test_the_reason_of_a_failed_video_is_given_for_its_short_names_too(name):
    message = unknown_video(LABELS, name, "corpus", {"Run/bad.mp4": "not a video"})
    assert message == "'Run/bad.mp4' could not be extracted: not a video"
