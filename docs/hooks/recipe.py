"""Generates the reference of recipe keys from the printed default recipe. It cannot be out of date."""

from __future__ import annotations

from typing import Any

from trainer.recipe.schema import Recipe
from trainer.recipe.toml import as_toml

MARK = "<!-- recipe -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark on a page with one table for each section of a recipe."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, recipe_tables(as_toml(Recipe(stream="temporal"))))


def recipe_tables(toml: str) -> str:
    """Markdown tables (key, default, meaning) of a printed recipe.

    Comment lines give the meaning of the keys that follow, up to the next empty line.
    """
    lines = ["## The top of the file", "", *_header()]
    meaning: list[str] = []
    for line in toml.splitlines():
        if line.startswith("#"):
            meaning.append(line.lstrip("# "))
        elif line.startswith("["):
            lines += ["", f"## `{line}`", ""]
            lines += [" ".join(meaning), ""] if meaning else []
            lines += _header() if line != "[model.options]" else []
            meaning = []
        elif " = " in line:
            key, _, value = line.partition(" = ")
            if key == "stream":
                value = "(none)"
            lines.append(f"| `{key}` | `{value}` | {_escaped(' '.join(meaning))} |")
        elif not line:
            meaning = []
    return "\n".join(lines)


def _header() -> list[str]:
    return ["| key | default | meaning |", "|---|---|---|"]


def _escaped(text: str) -> str:
    """The text with a capital letter first and without characters that end a table cell."""
    text = text.replace("|", "\\|")
    return text[:1].upper() + text[1:] if text[:1].isalpha() else text
