"""Videos of a corpus with their classes, numbered in the order of a network's outputs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowprep.errors import UsageError
from flowprep.planning.list_entries import join_names
from flowprep.planning.list_lines import format_line
from flowprep.planning.list_matching import match_list
from trainer.data.groups import Group, find_groups
from trainer.files import write_atomically

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Videos with their classes, in the order of their list.

    Attributes:
        ids: ids in the corpus, (N,).
        labels: class of each video as its position in `classes`, (N,).
        classes: names of the classes.
        groups: group of each video as its list names it, or "" for a video without one; () if the list names
            no groups.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, positions: Sequence[int]) -> Examples:
        """The videos at the positions, with the same classes."""
        return Examples(
            tuple(self.ids[i] for i in positions),
            tuple(self.labels[i] for i in positions),
            self.classes,
            tuple(self.groups[i] for i in positions) if self.groups else (),
        )

    def with_groups(self, groups: Mapping[str, str]) -> Examples:
        """The same videos with the groups that `groups` gives by id; "" for a video that it lacks."""
        names = tuple(groups.get(video, "") for video in self.ids)
        return replace(self, groups=names if any(names) else ())

    def find_groups(self, pattern: str = "") -> list[Group]:
        """The group of each video: that of its list, or else that of its name: see trainer.data.groups."""
        return find_groups(self.ids, pattern, self.groups)


def class_order(
    names: Sequence[str], index: Sequence[str] | None, *, allow_missing: bool = False
) -> tuple[str, ...]:
    """The classes of a run: those of `index` in its order, or else the names in alphabetical order.

    Args:
        names: class names of the training videos.
        index: class names in the order of classInd.txt.
        allow_missing: leave out classes of `index` without a training video, with a warning.

    Raises:
        UsageError: the class of a training video is not in `index`; a class of `index` has no training video;
            or there are fewer than two classes.
    """
    present = set(names)
    if index and (unknown := sorted(present.difference(index))):
        raise UsageError(f"classes of training videos that are not in classInd.txt: {join_names(unknown)}")
    order = tuple(index) if index else tuple(sorted(present))
    absent = [name for name in order if name not in present]
    if absent:
        text = f"{len(absent)} of {len(order)} classes have no training video: {join_names(absent)}"
        if not allow_missing:
            raise UsageError(f"{text}; --allow-missing leaves them out")
        log.warning("%s; left out", text)
    classes = tuple(name for name in order if name in present)
    if len(classes) < 2:
        raise UsageError(f"the training list has videos of {classes[0]!r} only; two classes are needed")
    return classes


def label_examples(
    source: str, pairs: Sequence[tuple[str, str]], classes: Sequence[str], *, allow_missing: bool = False
) -> Examples:
    """Number the classes of videos by their position in `classes`.

    Args:
        source: the list that the videos are from, for messages.
        pairs: (id, class name) of each video.
        classes: the classes.
        allow_missing: leave out videos of other classes, with a warning.

    Raises:
        UsageError: the class of a video is not in `classes`, or no video is left.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted({label for _, label in pairs if label not in numbers})
    if unknown:
        text = f"{source}: classes without training videos: {join_names(unknown)}"
        if not allow_missing:
            raise UsageError(f"{text}; the classes are {join_names(list(classes), 10)}")
        log.warning("%s; their videos are left out", text)
    rows = [(video, numbers[label]) for video, label in pairs if label in numbers]
    if not rows:
        raise UsageError(f"{source}: no video is left")
    return Examples(tuple(video for video, _ in rows), tuple(number for _, number in rows), tuple(classes))


def corpus_examples(corpus: Corpus, source: str, *, allow_missing: bool = False) -> Examples:
    """Videos with the classes that occur among them, in alphabetical order.

    Args:
        corpus: the corpus.
        source: a list as for read_list, or "all" for every video of the corpus.
        allow_missing: see match_list.

    Raises:
        UsageError: as match_list; or videos have no class.
    """
    if source == "all":
        pairs = labelled_videos(corpus)
    else:
        pairs = match_list(source, corpus, allow_missing=allow_missing)
    return label_examples(source, pairs, sorted({label for _, label in pairs}))


def labelled_videos(corpus: Corpus) -> list[tuple[str, str]]:
    """(id, class name) of every video of a corpus, by id.

    Raises:
        UsageError: the corpus is empty, or videos have no class.
    """
    pairs = sorted(corpus.labels.items())
    if unlabelled := [video for video, label in pairs if not label]:
        raise UsageError(f"{len(unlabelled)} videos have no class folder: {join_names(unlabelled)}")
    if not pairs:
        raise UsageError(f"the corpus {corpus.path} holds no video")
    return pairs


def auxiliary_examples(
    corpus: Corpus, source: str, test: Examples, test_corpus: Corpus, *, allow_missing: bool = False
) -> Examples:
    """Videos of a further data set to learn from; none may be a test video of the run.

    Another corpus may hold a video with the id of a test video. If it has the same number of frames at the
    same rate, it is the same video, extracted twice. Otherwise it is another video.

    Args:
        corpus, source, allow_missing: see corpus_examples.
        test: the test videos of the run.
        test_corpus: the corpus of the test videos.

    Raises:
        UsageError: as corpus_examples; or test videos are among the videos.
    """
    examples = corpus_examples(corpus, source, allow_missing=allow_missing)
    shared = sorted(set(examples.ids) & set(test.ids))
    if corpus.path.resolve() != test_corpus.path.resolve():
        shared = [video for video in shared if _same_length(corpus, test_corpus, video)]
    if shared:
        raise UsageError(f"{source}: {len(shared)} videos are in the test list: {join_names(shared)}")
    return examples


def _same_length(first: Corpus, second: Corpus, video: str) -> bool:
    a, b = first[video], second[video]
    return (a.num_frames, a.frame_rate) == (b.num_frames, b.frame_rate)


def append_examples(classes: Sequence[str], examples: Examples) -> Examples:
    """The same videos with their classes appended to `classes`.

    Raises:
        UsageError: a class exists in both.
    """
    if shared := sorted(set(classes) & set(examples.classes)):
        raise UsageError(f"added classes that exist already: {join_names(shared)}")
    labels = tuple(number + len(classes) for number in examples.labels)
    return Examples(examples.ids, labels, (*classes, *examples.classes))


def format_list(examples: Examples, *, numbers: bool = True) -> str:
    """A list in the form of UCF-101: a path in each line, with the number of the class if `numbers`."""
    rows = zip(examples.ids, examples.labels, strict=True)
    return "".join(format_line(i, str(n + 1) if numbers else "") + "\n" for i, n in rows)


def write_list(path: Path, examples: Examples, *, numbers: bool = True) -> None:
    """Write a list as `format_list` gives it."""
    text = format_list(examples, numbers=numbers)
    write_atomically(path, lambda file: file.write(text.encode()))
