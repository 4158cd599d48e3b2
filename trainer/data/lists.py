"""Lists of videos with their classes: read, matched against a corpus, split and written.

A list is a text file with a video per line. Three ways of writing a line are read:

    Punch/v_Punch_g08_c01.avi 3         UCF-101's training lists: the class's number in classInd.txt
    Punch/v_Punch_g01_c01.avi           UCF-101's test lists: the class is the folder
    some/clip.mp4 Punch                 a path and the class's name (or, after a tab, a name with spaces),
                                        which counts before the folder's

and HMDB-51's folders of `<class>_test_split<N>.txt`, written `FOLDER:train1` or `FOLDER:test1` for split 1.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from flowprep import VIDEO_SUFFIXES
from flowprep.errors import UsageError

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One line of a list.

    Attributes:
        id: the video's id in a corpus: its path in POSIX style.
        label: its class by name, where the line gives one.
        index: its class by number, counted from 1, where the line gives one.
    """

    id: str
    label: str | None = None
    index: int | None = None


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


def read_list(source: str, known: Container[str] = ()) -> list[Entry]:
    """Read one list.

    Args:
        source: a file, or HMDB-51's folder with the wanted part: `FOLDER:train1`, `FOLDER:test2`.
        known: ids of videos. A line that is one of them, whole or before its class, is read so, whatever
            spaces and tabs the id has.

    Raises:
        UsageError: it cannot be read, is empty, or names a video twice.
    """
    part = re.fullmatch(r"(.+):(train|test)([123])", source)
    if part and Path(part[1]).is_dir():
        entries = _read_hmdb(Path(part[1]), part[2], part[3])
    elif Path(source).is_dir():
        raise UsageError(f"{source} is a folder; write {source}:train1 or {source}:test1 for HMDB-51's lists")
    else:
        entries = [_read_line(line, known) for line in _lines(Path(source))]
    if not entries:
        raise UsageError(f"{source}: the list is empty")
    twice = [name for name, count in Counter(e.id for e in entries).items() if count > 1]
    if twice:
        raise UsageError(f"{source}: named more than once: {_some(twice)}")
    return entries


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of a classInd.txt, whose lines are `number name`, numbered from 1.

    Raises:
        UsageError: it cannot be read, or its numbers are not 1, 2, 3, ...
    """
    numbered: list[tuple[int, str]] = []
    for line in _lines(path):
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name.strip():
            raise UsageError(f"{path}: the line {line!r} is not `number name`")
        numbered.append((int(number), name.strip()))
    numbered.sort()
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise UsageError(f"{path}: the classes are not numbered 1, 2, 3, ... without gaps")
    return tuple(name for _, name in numbered)


def match(
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
        text += _some(
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
        raise UsageError(f"classes of training videos that are not in classInd.txt: {_some(strange)}")
    order = tuple(index) if index else tuple(sorted(present))
    absent = [name for name in order if name not in present]
    if absent:
        text = f"{len(absent)} of {len(order)} classes have no training video: {_some(absent)}"
        if not allow_missing:
            raise UsageError(f"{text}; --allow-missing leaves them out")
        log.warning("%s; left out", text)
    classes = tuple(name for name in order if name in present)
    if len(classes) < 2:
        raise UsageError(f"the training list has videos of {classes[0]!r} only; two classes are needed")
    return classes


def with_classes(
    source: str, pairs: Sequence[tuple[str, str]], classes: Sequence[str], *, allow_missing: bool = False
) -> Examples:
    """Number the classes of matched videos by their position in `classes`.

    Raises:
        UsageError: a video's class is not among them (with allow_missing it is left out), or none is left.
    """
    number = {name: i for i, name in enumerate(classes)}
    strange = sorted({label for _, label in pairs if label not in number})
    if strange:
        text = f"{source}: classes without training videos: {_some(strange)}"
        if not allow_missing:
            raise UsageError(f"{text}; the classes are {_some(list(classes), 10)}")
        log.warning("%s; their videos are left out", text)
    kept = [(video, number[label]) for video, label in pairs if label in number]
    if not kept:
        raise UsageError(f"{source}: no video is left")
    return Examples(tuple(v for v, _ in kept), tuple(n for _, n in kept), tuple(classes))


def prepare(
    corpus: Corpus,
    train_list: str,
    test_list: str,
    class_index: Path | None = None,
    *,
    allow_missing: bool = False,
) -> tuple[Examples, Examples]:
    """Training and test videos of a run, checked: see match, class_order, check_leak."""
    index = read_classes(class_index) if class_index else None
    train = match(train_list, corpus, index, allow_missing=allow_missing)
    test = match(test_list, corpus, index, allow_missing=allow_missing)
    classes = class_order([label for _, label in train], index, allow_missing=allow_missing)
    examples = with_classes(train_list, train, classes)
    judged = with_classes(test_list, test, classes, allow_missing=allow_missing)
    check_leak(examples, judged)
    return examples, judged


def under_own_classes(corpus: Corpus, source: str, *, allow_missing: bool = False) -> Examples:
    """Videos under the classes that they show, sorted by name.

    Args:
        corpus: where the videos are.
        source: a list as for read_list; or "all", every video of the corpus.
        allow_missing: see match.

    Raises:
        UsageError: as match; or videos without a class.
    """
    if source == "all":
        pairs = sorted(corpus.labels.items())
        _check_labels(pairs)
    else:
        pairs = match(source, corpus, allow_missing=allow_missing)
    if not pairs:
        raise UsageError(f"the corpus {corpus.path} holds no video")
    return with_classes(source, pairs, sorted({label for _, label in pairs}))


def auxiliary(
    corpus: Corpus, source: str, judged: Examples, own: Corpus, *, allow_missing: bool = False
) -> Examples:
    """Videos of a further data set that a network learns from beside its own: see under_own_classes.

    Args:
        corpus, source, allow_missing: as there.
        judged: the test videos of the run.
        own: the corpus that they are in. In another corpus a video of the same id is another one, unless it
            has as many frames at the same rate: then it is the same video, extracted again.

    Raises:
        UsageError: as there; or videos are among those judged.
    """
    examples = under_own_classes(corpus, source, allow_missing=allow_missing)
    shared = sorted(set(examples.ids) & set(judged.ids))
    if corpus.path.resolve() != own.path.resolve():
        facts = [{i: (c[i].num_frames, c[i].frame_rate) for i in shared} for c in (corpus, own)]
        shared = [i for i in shared if facts[0][i] == facts[1][i]]
    if shared:
        raise UsageError(f"{source}: {len(shared)} videos are in the test list: {_some(shared)}")
    return examples


def behind(classes: Sequence[str], examples: Examples) -> Examples:
    """The same videos, with their classes numbered behind `classes`.

    Raises:
        UsageError: a class is among those.
    """
    if shared := sorted(set(classes) & set(examples.classes)):
        raise UsageError(f"classes that are added and there already: {_some(shared)}")
    labels = tuple(n + len(classes) for n in examples.labels)
    return Examples(examples.ids, labels, (*classes, *examples.classes))


def groups(ids: Sequence[str]) -> list[str]:
    """The group of each video: clips of one group were cut from one recording and must not be separated.

    UCF-101 names it in the file (`v_Punch_g08_c01.avi` is of group 08). A video whose name has none is its
    own group.
    """
    found = [(i, re.search(r"_g(\d+)_", PurePosixPath(i).name)) for i in ids]
    return [f"g{int(m[1]):04d}" if m else i for i, m in found]


def check_leak(train: Examples, test: Examples) -> None:
    """Refuse a test list that shares videos, or groups of a class, with the training list.

    Raises:
        UsageError: naming what they share.
    """
    if shared := sorted(set(train.ids) & set(test.ids)):
        raise UsageError(f"{len(shared)} videos are in the training and in the test list: {_some(shared)}")
    both = groups([*train.ids, *test.ids])
    mine = set(zip(train.labels, both[: len(train)], strict=True))
    theirs = set(zip(test.labels, both[len(train) :], strict=True))
    if common := sorted(mine & theirs):
        names = [f"{train.classes[label]} {group}" for label, group in common]
        raise UsageError(f"groups that are in the training and in the test list: {_some(names)}")


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Separate about `share` of each class's videos, whole groups at a time, one at least.

    Groups are taken in one random order for all classes, so that a group number that stands for one
    recording place goes to one side in every class. A class keeps at least one group; a class of one
    group gives nothing, which is logged.

    Returns:
        (the rest, what is held out), each in the order of the list.
    """
    names = groups(examples.ids)
    order = sorted(set(names))
    np.random.default_rng([seed, 1]).shuffle(order)
    members: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (label, name) in enumerate(zip(examples.labels, names, strict=True)):
        members[label][name].append(position)
    held: set[int] = set()
    alone = [examples.classes[label] for label, by_group in sorted(members.items()) if len(by_group) < 2]
    if alone and share > 0:
        log.warning("%d classes of a single group, of which none is held out: %s", len(alone), _some(alone))
    for by_group in members.values():
        wanted = share * sum(map(len, by_group.values()))
        mine: list[int] = []
        for name in [n for n in order if n in by_group][:-1]:
            more = len(mine) + len(by_group[name])
            if wanted > 0 and (not mine or abs(more - wanted) < abs(len(mine) - wanted)):
                mine += by_group[name]
        held.update(mine)
    everything = range(len(examples))
    return examples.subset([i for i in everything if i not in held]), examples.subset(sorted(held))


def write_list(path: Path, examples: Examples, *, numbers: bool = True) -> None:
    """Write a list as UCF-101 does: a path per line, with the class's number from 1 if `numbers`."""
    rows = zip(examples.ids, examples.labels, strict=True)
    path.write_text("".join(f"{i} {n + 1}\n" if numbers else f"{i}\n" for i, n in rows), encoding="utf-8")


def write_split(
    corpus: Corpus, out: Path, *, test_share: float = 0.3, seed: int = 0
) -> tuple[Examples, Examples]:
    """Split a corpus that has no lists: writes classInd.txt, trainlist01.txt and testlist01.txt to `out`.

    Returns:
        (training videos, test videos).

    Raises:
        UsageError: videos without a class, or a class whose videos cannot be separated.
    """
    pairs = sorted(corpus.labels.items())
    _check_labels(pairs)
    if not pairs:
        raise UsageError(f"the corpus {corpus.path} holds no video")
    classes = class_order([label for _, label in pairs], None)
    train, test = hold_out(with_classes(str(corpus.path), pairs, classes), test_share, seed)
    if alone := sorted(set(range(len(classes))) - set(test.labels)):
        raise UsageError(
            f"classes with a single video or group, which cannot be separated into training and test: "
            f"{_some([classes[n] for n in alone])}"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "classInd.txt").write_text(
        "".join(f"{n} {c}\n" for n, c in enumerate(classes, 1)), encoding="utf-8"
    )
    write_list(out / "trainlist01.txt", train)
    write_list(out / "testlist01.txt", test, numbers=False)
    return train, test


def _check_labels(pairs: Sequence[tuple[str, str]]) -> None:
    if nameless := [video for video, label in pairs if not label]:
        raise UsageError(f"{len(nameless)} videos have no class folder: {_some(nameless)}")


def unlisted(corpus: Corpus, folder: Path) -> list[str]:
    """Videos of the corpus that are in neither list that write_split wrote to `folder`.

    Raises:
        UsageError: as read_list.
    """
    sources = [str(folder / name) for name in ("trainlist01.txt", "testlist01.txt")]
    named = {entry.id for source in sources for entry in read_list(source, corpus.labels)}
    return [video for video in corpus.labels if video not in named]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: not a text file in UTF-8") from exc
    # By line feeds alone: what else str.splitlines divides by may be part of a file's name.
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def _read_line(line: str, known: Container[str]) -> Entry:
    if line in known:
        return Entry(line)
    for mark in ("\t", " "):
        path, _, label = line.rpartition(mark)
        if path in known and label:
            return _entry(path, label)
    line = line.strip()
    path, tab, label = line.partition("\t")
    if not tab:
        path, _, label = line.rpartition(" ")
        if not path or PurePosixPath(line.lower()).suffix in VIDEO_SUFFIXES:
            path, label = line, ""
    path = path.strip().removeprefix("./")
    return _entry(path, label.strip())


def _entry(path: str, label: str) -> Entry:
    if label.isdecimal():
        return Entry(path, index=int(label))
    return Entry(path, label=label or None)


def _read_hmdb(folder: Path, part: str, split: str) -> list[Entry]:
    files = sorted(folder.glob(f"*_test_split{split}.txt"))
    if not files:
        raise UsageError(f"{folder} has no files <class>_test_split{split}.txt")
    wanted = {"train": "1", "test": "2"}[part]  # 0: in neither
    entries = []
    for file in files:
        label = file.name.removesuffix(f"_test_split{split}.txt")
        for line in _lines(file):
            name, _, use = line.strip().rpartition(" ")
            if use == wanted:
                entries.append(Entry(f"{label}/{name.strip()}", label=label))
    return entries


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


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
