"""Quantities as people read them."""

from __future__ import annotations


def count_noun(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 video" or "2 videos"."""
    return f"{count} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    """Return a noun in the form that follows a count: "class" after 1, "classes" after 2."""
    return noun if count == 1 else f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def format_bytes(size: float) -> str:
    """Return a number of bytes with three digits and a decimal unit, such as "1.34 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def format_duration(seconds: float) -> str:
    """Return a duration in at most two units, such as "4 min 12 s"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 100 else f"{hours:,} h"
