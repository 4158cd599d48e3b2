"""Progress on a terminal, and in a log."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

from flowprep.system import progress
from flowprep.system.progress import no_progress, progress_bar


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def output(stream, *reports, **options):
    """What a bar writes into a stream for these reports."""
    with redirect_stderr(stream), progress_bar("pairs", **options) as show:
        for report in reports:
            show(*report)
    return stream.getvalue()


def test_a_bar_shows_counts_and_a_note():
    text = output(Terminal(), (3, 10), (10, 10, "1 failed"))
    assert "10/10" in text and "pairs" in text and "1 failed" in text


def test_an_unknown_total_and_a_count_that_falls_are_shown():
    assert "copy: 2 pairs" in output(Terminal(), (5, 0), (2, 0), label="copy")


def test_a_transient_bar_appears_late():
    assert output(Terminal(), (1, 2), transient=True) == ""


def test_a_log_has_no_line_for_a_short_operation():
    assert output(io.StringIO(), *((done, 100) for done in range(100))) == ""


def test_a_log_has_lines_for_a_long_operation(monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    lines = output(io.StringIO(), (7, 100, "1 failed"), (8, 0), label="copy").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("copy, 7 of 100 pairs in ") and lines[0].endswith(" s, 1 failed")
    assert lines[1].startswith("copy, 8 pairs in ")


def test_nothing_is_shown_if_hidden():
    assert output(Terminal(), (1, 2, "note"), hidden=True) == ""
    with progress_bar("pairs", hidden=True) as show:
        assert show is no_progress
