"""Groups: the videos that were cut from one recording, by the names of the videos.

The clips of a group show one scene and one person. If some of them train a network and others test it, the
accuracy is that of a scene that the network knows. So all videos of a group stay on one side.

Two data sets have the group in the names of their videos:

    v_Punch_g08_c01.avi                       UCF-101: the number of the group in its class, g08
    April_09_brush_hair_u_nm_np1_ba_goo_0.avi HMDB-51: the source, April_09, then the class, five attributes
                                              (body, camera motion, number of people, view, quality), a number

A pattern tells the groups of other names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from flowprep.errors import UsageError
from flowprep.planning.list_entries import join_names

log = logging.getLogger(__name__)

_UCF101 = re.compile(r"_g(\d+)_")
_HMDB51 = re.compile(r"(.+)_[fhlu]_(?:nm|cm)_np\d+_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+")


class Group(NamedTuple):
    """The group of a video.

    Attributes:
        name: its name; the id of the video if no group was found.
        of_class: whether the name holds within a class only. Group 8 of two classes of UCF-101 are two
            recordings, but a source of HMDB-51 is one film in every class.
        known: whether a group was found.
    """

    name: str
    of_class: bool = False
    known: bool = True


def find_groups(ids: Sequence[str], pattern: str = "", given: Sequence[str] = ()) -> list[Group]:
    """The group of each video. A video without one is a group of its own.

    Args:
        ids: ids of the videos.
        pattern: a regular expression that finds the group in an id: see compile_pattern. "" uses the rules of
            UCF-101 and HMDB-51.
        given: the group of each video if a list names it, or "" where it does not; () if no list does.

    Raises:
        UsageError: as compile_pattern.
    """
    rule = compile_pattern(pattern) if pattern else None
    named = given or [""] * len(ids)
    return [
        Group(name) if name else _match(rule, video) if rule else _built_in(video)
        for video, name in zip(ids, named, strict=True)
    ]


def recording_groups(ids: Sequence[str], pattern: str = "", given: Sequence[str] = ()) -> list[str]:
    """The names of the groups that find_groups gives."""
    return [group.name for group in find_groups(ids, pattern, given)]


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of groups: a regular expression whose part in parentheses is the name of the group.

    Without parentheses the whole match is the name.

    Raises:
        UsageError: it is no regular expression, or has two or more pairs of parentheses.
    """
    try:
        rule = re.compile(pattern)
    except re.error as exc:
        raise UsageError(f"--groups {pattern!r} is not a regular expression: {exc}") from exc
    if rule.groups > 1:
        raise UsageError(
            f"--groups {pattern!r} has {rule.groups} pairs of parentheses; allowed: one, around the name of "
            r"the group, as in 'person(\d+)'. Write (?:...) for the others"
        )
    return rule


def warn_of_unknown(ids: Sequence[str], groups: Sequence[Group], pattern: str = "") -> None:
    """Warn of videos that have no group, and so are separated one by one."""
    unknown = [video for video, group in zip(ids, groups, strict=True) if not group.known]
    if unknown:
        rule = f"the pattern {pattern!r}" if pattern else "the rules of UCF-101 and HMDB-51"
        log.warning(
            "%d of %d videos have no group by %s: %s. Each is its own group. If they were cut from longer "
            "recordings, give --groups PATTERN: else videos held out show scenes that the network has seen",
            len(unknown),
            len(ids),
            rule,
            join_names(unknown, 3),
        )


def _match(rule: re.Pattern[str], video: str) -> Group:
    match = rule.search(video)
    name = match[1 if rule.groups else 0] if match else None
    return Group(name) if name else Group(video, known=False)


def _built_in(video: str) -> Group:
    path = PurePosixPath(video)
    # An id may lack the suffix, and a source may have dots.
    if match := _HMDB51.fullmatch(path.name) or _HMDB51.fullmatch(path.stem):
        return Group(match[1].removesuffix(f"_{path.parent.name}"))
    if match := _UCF101.search(path.name):
        return Group(f"g{int(match[1]):04d}", of_class=True)
    return Group(video, known=False)
