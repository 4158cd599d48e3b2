"""Counts the words of the sentences in README and docs: python tests/support/sentences.py."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class SentenceLengths(NamedTuple):
    """Words a sentence in some documents.

    Attributes:
        sentences: the number of sentences.
        mean: mean number of words.
        p90: 90th percentile of the number of words.
        longest: the longest sentence.
    """

    sentences: int
    mean: float
    p90: int
    longest: str

    def __str__(self) -> str:
        words = len(words_of(self.longest))
        return (
            f"{self.sentences} sentences, mean {self.mean:.1f} words, 90th percentile {self.p90},"
            f" longest {words}: {self.longest[:70]}"
        )


def documents() -> dict[str, list[Path]]:
    """Groups of Markdown files: README, and everything else that is read as documentation."""
    others = [ROOT / name for name in ("FORMAT.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return {"README": [ROOT / "README.md"], "docs": [*others, *sorted((ROOT / "docs").rglob("*.md"))]}


def words_of(sentence: str) -> list[str]:
    """The words of a sentence; numbers and names of options are words, too."""
    return re.findall(r"[\w`'./%-]+", sentence)


def sentences_of(markdown: str) -> list[str]:
    """The sentences of the paragraphs and list items; without code blocks, tables and headings."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    paragraphs: list[str] = [""]
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith(("|", "#", "!", ":::", "---", "<")):
            paragraphs.append("")
        elif re.match(r"[-*:] |\d+\. ", line):
            paragraphs.append(line.split(maxsplit=1)[1])
        else:
            paragraphs[-1] += " " + line
    split = [re.split(r"(?<=[.!?:;])\s+(?=[A-Z`*\[(0-9])", p.strip()) for p in paragraphs]
    return [s for sentences in split for s in sentences if len(words_of(s)) > 2]


def sentence_lengths(paths: Iterable[Path]) -> SentenceLengths:
    """Measure the sentences of Markdown files."""
    sentences = [s for path in paths for s in sentences_of(path.read_text("utf-8"))]
    lengths = sorted(len(words_of(s)) for s in sentences)
    longest = max(sentences, key=lambda s: len(words_of(s)))
    return SentenceLengths(len(lengths), statistics.mean(lengths), lengths[int(0.9 * len(lengths))], longest)


if __name__ == "__main__":
    for group, paths in documents().items():
        print(f"{group}: {sentence_lengths(paths)}")
