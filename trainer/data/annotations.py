"""Videos of a corpus with their classes."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowprep.errors import UsageError
from trainer.data.lists import Entry, read_list, some_names

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
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, keep: Sequence[int]) -> Examples:
        """The videos at the positions `keep`, under the same classes."""
        return Examples(tuple(self.ids[i] for i in keep), tuple(self.labels[i] for i in keep), self.classes)


def match_list(
    source: str,
    corpus: Corpus,
    index: Sequence[str] | None = None,
    *,
    allow_missing: bool = False,
    check_folders: bool = True,
) -> list[tuple[str, str]]:
    """The videos of a list that the corpus holds, as (id, class name).

    Args:
        source: as for read_list.
        corpus: where the videos are.
        index: class names in the order of classInd.txt, that a list's class numbers stand for.
        allow_missing: leave out, with a warning, videos that the corpus does not hold.
        check_folders: refuse a number whose class is not the video's folder, where that is a class too.

    Raises:
        UsageError: videos are missing or failed (named, with the reason) or have no class; a class number
            does not agree with the folder or with `index`; or no video is left.
    """
    failures = corpus.failures
    entries = read_list(source, {*corpus.labels, *failures})
    missing = [e.id for e in entries if e.id not in corpus.labels]
    hint = _path_hint([i for i in missing if i not in failures], corpus)
    if missing:
        text = f"{source}: {len(missing)} of {len(entries)} videos are not in the corpus {corpus.path}: "
        text += some_names(
            [f"{i} (failed: {failures[i]})" if i in failures else i for i in _failed_first(missing, failures)]
        )
        if allow_missing:
            log.warning("%s%s; left out", text, hint)
        else:
            raise UsageError(f"{text}{hint}; --allow-missing leaves them out")
    found = [
        (e, _label(source, e, corpus.labels[e.id], index, check_folders))
        for e in entries
        if e.id in corpus.labels
    ]
    if not found:
        raise UsageError(f"{source}: no video of the list is in the corpus{hint}")
    renamed = [(e.id, label) for e, label in found if e.label and corpus.labels[e.id] not in ("", label)]
    if renamed:
        video, label = renamed[0]
        log.warning(
            "%s: %d videos have another class than their folder in the corpus: %s is %r here, %r there",
            source,
            len(renamed),
            video,
            label,
            corpus.labels[video],
        )
    _check_numbers(source, [(e.index, label) for e, label in found if e.index is not None])
    return [(e.id, label) for e, label in found]


def class_order(
    names: Sequence[str], index: Sequence[str] | None, *, allow_missing: bool = False
) -> tuple[str, ...]:
    """The classes of a run: those of `index` in its order, else the names sorted.

    Args:
        names: class names of the training videos.
        index: class names in the order of classInd.txt.
        allow_missing: leave out, with a warning, classes of `index` that have no training video.

    Raises:
        UsageError: a training video's class is not in `index`, a class of `index` has no training video, or
            there are fewer than two classes.
    """
    present = set(names)
    if index and (strange := sorted(present.difference(index))):
        raise UsageError(f"classes of training videos that are not in classInd.txt: {some_names(strange)}")
    order = tuple(index) if index else tuple(sorted(present))
    absent = [name for name in order if name not in present]
    if absent:
        text = f"{len(absent)} of {len(order)} classes have no training video: {some_names(absent)}"
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
    """Number the classes of matched videos by their position in `classes`.

    Raises:
        UsageError: a video's class is not among them (with allow_missing it is left out), or none is left.
    """
    number = {name: i for i, name in enumerate(classes)}
    strange = sorted({label for _, label in pairs if label not in number})
    if strange:
        text = f"{source}: classes without training videos: {some_names(strange)}"
        if not allow_missing:
            raise UsageError(f"{text}; the classes are {some_names(list(classes), 10)}")
        log.warning("%s; their videos are left out", text)
    kept = [(video, number[label]) for video, label in pairs if label in number]
    if not kept:
        raise UsageError(f"{source}: no video is left")
    return Examples(tuple(v for v, _ in kept), tuple(n for _, n in kept), tuple(classes))


def corpus_examples(corpus: Corpus, source: str, *, allow_missing: bool = False) -> Examples:
    """Videos under the classes that they show, sorted by name.

    Args:
        corpus: where the videos are.
        source: a list as for read_list; or "all", every video of the corpus.
        allow_missing: see match_list.

    Raises:
        UsageError: as match_list; or videos without a class.
    """
    if source == "all":
        pairs = sorted(corpus.labels.items())
        check_labels(pairs)
    else:
        pairs = match_list(source, corpus, allow_missing=allow_missing)
    if not pairs:
        raise UsageError(f"the corpus {corpus.path} holds no video")
    return label_examples(source, pairs, sorted({label for _, label in pairs}))


def auxiliary_examples(
    corpus: Corpus, source: str, judged: Examples, own: Corpus, *, allow_missing: bool = False
) -> Examples:
    """Videos of a further data set that a network learns from beside its own: see corpus_examples.

    Args:
        corpus, source, allow_missing: as there.
        judged: the test videos of the run.
        own: the corpus that they are in. In another corpus a video of the same id is another one, unless it
            has as many frames at the same rate: then it is the same video, extracted again.

    Raises:
        UsageError: as there; or videos are among those judged.
    """
    examples = corpus_examples(corpus, source, allow_missing=allow_missing)
    shared = sorted(set(examples.ids) & set(judged.ids))
    if corpus.path.resolve() != own.path.resolve():
        facts = [{i: (c[i].num_frames, c[i].frame_rate) for i in shared} for c in (corpus, own)]
        shared = [i for i in shared if facts[0][i] == facts[1][i]]
    if shared:
        raise UsageError(f"{source}: {len(shared)} videos are in the test list: {some_names(shared)}")
    return examples


def append_examples(classes: Sequence[str], examples: Examples) -> Examples:
    """The same videos, with their classes numbered behind `classes`.

    Raises:
        UsageError: a class is among those.
    """
    if shared := sorted(set(classes) & set(examples.classes)):
        raise UsageError(f"classes that are added and there already: {some_names(shared)}")
    labels = tuple(n + len(classes) for n in examples.labels)
    return Examples(examples.ids, labels, (*classes, *examples.classes))


def write_list(path: Path, examples: Examples, *, numbers: bool = True) -> None:
    """Write a list as UCF-101 does: a path per line, with the class's number from 1 if `numbers`."""
    rows = zip(examples.ids, examples.labels, strict=True)
    path.write_text("".join(f"{i} {n + 1}\n" if numbers else f"{i}\n" for i, n in rows), encoding="utf-8")


def check_labels(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse videos without a class.

    Raises:
        UsageError: naming them.
    """
    if nameless := [video for video, label in pairs if not label]:
        raise UsageError(f"{len(nameless)} videos have no class folder: {some_names(nameless)}")


def _label(source: str, entry: Entry, stored: str, index: Sequence[str] | None, check_folders: bool) -> str:
    label, folder = entry.label, stored or PurePosixPath(entry.id).parent.name
    if entry.index is not None and index is not None:
        if not 1 <= entry.index <= len(index):
            raise UsageError(f"{source}: {entry.id} has class number {entry.index}, of {len(index)} classes")
        label = index[entry.index - 1]
        # A folder that is no class says nothing of the video's.
        if check_folders and folder != label and folder in index:
            raise UsageError(
                f"{source}: {entry.id} is of class {label!r} in the list and {folder!r} in the corpus"
            )
    found = label or folder
    if not found:
        raise UsageError(f"{source}: {entry.id} has no class: neither in the list nor by its folder")
    return found


def _check_numbers(source: str, numbered: Sequence[tuple[int, str]]) -> None:
    """Without a classInd.txt a list's class numbers can still be held against the folders: one each."""
    for which, other in ((0, 1), (1, 0)):
        seen: dict[object, object] = {}
        for row in numbered:
            if seen.setdefault(row[which], row[other]) != row[other]:
                raise UsageError(
                    f"{source}: class {row[which]!r} stands for both {seen[row[which]]!r} and {row[other]!r}"
                )


def _failed_first(ids: Sequence[str], failures: Container[str]) -> list[str]:
    return sorted(ids, key=lambda i: i not in failures)


def _path_hint(missing: Sequence[str], corpus: Corpus) -> str:
    """Why videos may be missing: ids are paths below the extracted input, and a list may differ by a leading
    folder; or they are still to be extracted.
    """
    tails = {PurePosixPath(i).name: i for i in corpus.labels}
    for video in missing:
        other = tails.get(PurePosixPath(video).name)
        if other and other != video:
            return f" (the corpus calls a video of that name {other})"
    return " (flowprep status tells whether any are still to be extracted)" if missing else ""
