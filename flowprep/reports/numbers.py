"""Numbers as short texts of an HTML page."""

from __future__ import annotations

from flowprep.reports.html import Markup, fragment, tag
from flowprep.system.units import plural


def format_share(share: float) -> str:
    """A share from 0 to 1 in percent with two significant digits, such as "1.2%".

    Only a share of exactly 0 is "0%", and only one of exactly 1 is "100%".
    """
    if share in (0, 1):
        return f"{100 * share:.0f}%"
    if share < 1e-4:
        return "<0.01%"
    if share > 0.9995:
        return ">99.9%"
    percent = 100 * share
    return f"{percent:.0f}%" if percent >= 99.5 else f"{percent:.3g}%" if percent >= 10 else f"{percent:.2g}%"


def format_count(value: float) -> Markup:
    """A number with three significant digits; thousands become a small k, M or G."""
    for unit in ("", "k", "M"):
        if value < 999.5:
            return fragment([f"{value:.3g}", tag("small", unit) if unit else None])
        value /= 1000
    return fragment([f"{value:,.3g}", tag("small", "G")])


def format_noun(count: int, noun: str) -> str:
    """A count with its noun, such as "1 class" or "1,234 videos"."""
    return f"{count:,} {plural(count, noun)}"
