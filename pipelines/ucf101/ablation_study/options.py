"""The options of a study, and the parts of the videos on which its rows are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ablation_study.rows import BY_NAME, Network, Row

if TYPE_CHECKING:
    from flowprep import Corpus
    from trainer.data.annotations import Examples

UCF101 = Path(__file__).resolve().parents[1]


class MissingInput(Exception):
    """A row cannot be made, because an option that it needs is not given."""


@dataclass(frozen=True)
class Part:
    """Videos to learn from and videos to evaluate: a split, or one group against the others.

    Attributes:
        name: name of its folder.
        options: options of `trainer train` that name the lists.
        left_out: the evaluated groups; empty for a split.
    """

    name: str
    options: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def option(self, name: str) -> str | None:
        """The value of an option, or None."""
        return dict(zip(self.options[::2], self.options[1::2], strict=True)).get(name)


@dataclass(frozen=True)
class StudyOptions:
    """The options of the command, which documents them."""

    corpus: Path
    lists: str | None
    leave_out: str | None
    second: tuple[str, str] | None
    out: Path
    weights: Path | None
    split: int
    seeds: int
    fit_folds: int
    small: bool
    changes: tuple[str, ...]

    @cached_property
    def opened(self) -> Corpus:
        """The corpus of UCF-101."""
        import flowprep

        return flowprep.open_corpus(self.corpus)

    @property
    def spatial(self) -> Network:
        """The spatial network of all fusions: that of the paper, if there are ImageNet weights."""
        row = BY_NAME["spatial-last-0.5" if self.weights else "spatial-scratch-0.5"]
        assert isinstance(row, Network)
        return row

    @property
    def second_corpus(self) -> str:
        """The corpus of the second data set."""
        if not self.second:
            raise MissingInput("needs --second")
        return self.second[0]

    @property
    def second_lists(self) -> str:
        """The lists of the second data set."""
        if not self.second:
            raise MissingInput("needs --second")
        return self.second[1]

    def folder(self, seed: int, part: Part) -> Path:
        """The folder of the networks and scores of a part."""
        return self.out / f"seed{seed}" / part.name

    def parts(self, row: Row) -> list[Part]:
        """The parts of a row. Its accuracy is the mean over them."""
        lists = self.lists
        if isinstance(row, Network) and row.hmdb51:
            lists = self.second[1] if self.second else None
        elif self.leave_out:
            labels = self.opened.labels
            groups = sorted(set(self.groups(labels).values()))
            return [self.part_without(labels, (group,)) for group in groups]
        return [Part(f"split{self.split}", split_options(lists, self.split))] if lists else []

    def part_without(self, labels: Mapping[str, str], left_out: tuple[str, ...], prefix: str = "") -> Part:
        """The part that evaluates some groups and learns from the others. Writes its lists.

        Args:
            labels: class of each video, by id.
            left_out: the evaluated groups.
            prefix: first part of its name.
        """
        name = f"{prefix}without-{'+'.join(left_out)}"
        groups = self.groups(labels)
        folder = self.out / "lists"
        folder.mkdir(parents=True, exist_ok=True)
        options: list[str] = []
        for use in ("train", "test"):
            path = folder / f"{name}-{use}.txt"
            ids = [video for video in sorted(labels) if (groups[video] in left_out) == (use == "test")]
            path.write_text("".join(f"{video}\t{labels[video]}\n" for video in ids), encoding="utf-8")
            options += [f"--{use}-list", str(path)]
        return Part(name, tuple(options), left_out)

    def groups(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The group of each video: --leave-out finds it, or else the rules of UCF-101 and HMDB-51."""
        from trainer.data.groups import find_groups

        groups = dict(zip(labels, find_groups(list(labels), self.leave_out or ""), strict=True))
        for video, group in groups.items():
            if not group.known:
                rule = repr(self.leave_out) if self.leave_out else "the names of UCF-101 and HMDB-51"
                raise MissingInput(f"{video} has no group: its id does not match {rule}")
        return {video: group.name for video, group in groups.items()}

    def check_inputs(self, row: Network) -> None:
        """Check that everything is given that a network needs.

        Raises:
            MissingInput: something is not given.
        """
        if row.weights and not self.weights:
            raise MissingInput("needs --weights")
        if row.hmdb51 and Path(self.second_lists).is_file():
            raise MissingInput("needs splits of the second data set")
        if row.second_task and not self.second:
            raise MissingInput("needs --second")
        if "input.bidirectional=true" in row.changes and not self.opened.settings.backward:
            raise MissingInput("needs a corpus made with --backward")

    def examples(self, part: Part) -> tuple[Examples, Examples]:
        """The training and the test videos of a part."""
        from trainer.data.splits import read_split

        index = part.option("--class-index")
        return read_split(
            self.opened,
            part.option("--train-list") or "",
            part.option("--test-list") or "",
            Path(index) if index else None,
            allow_missing=True,
        )


def recipe_of(row: Network, *, small: bool) -> Path:
    """The file of a row's recipe. At a small scale it is the recipe of its stream in small/."""
    stream = "spatial" if "spatial" in row.recipe else "temporal"
    return UCF101 / "small" / f"{stream}.toml" if small else UCF101.parent / f"{row.recipe}.toml"


def split_options(lists: str, number: int) -> tuple[str, ...]:
    """Options that name the lists of a split: the files of UCF-101, or the folder of HMDB-51."""
    folder = Path(lists)
    train = folder / f"trainlist{number:02d}.txt"
    if not train.exists():
        return "--train-list", f"{lists}:train{number}", "--test-list", f"{lists}:test{number}"
    options = ("--train-list", str(train), "--test-list", str(folder / f"testlist{number:02d}.txt"))
    index = folder / "classInd.txt"
    return (*options, "--class-index", str(index)) if index.exists() else options
