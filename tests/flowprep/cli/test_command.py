"""Flags that all commands share, in front of a command and after it; errors; and help."""

from __future__ import annotations

import io
import json
import logging
from contextlib import redirect_stderr

import pytest
from click.testing import CliRunner

from flowprep.cli import main
from flowprep.cli.command import LogHandler
from flowprep.cli.program import SECTIONS

SIZE = ("--size", "source", "--engine", "opencv", "--jobs", 1)


@pytest.mark.parametrize("arguments", [["--json", "plan"], ["plan", "--json"], ["--json", "plan", "--json"]])
def test_json_stands_before_or_after_the_command(cli, clips, tmp_path, arguments):
    before, after = arguments[: arguments.index("plan")], arguments[arguments.index("plan") + 1 :]
    result = cli(*before, "plan", clips, "-o", tmp_path / "c", *after)
    assert json.loads(result.stdout)["videos"] == 4


def test_a_quiet_command_prints_results_and_failures_only(cli, clips, tmp_path):
    (clips / "left" / "bad.mp4").write_text("no video")
    for arguments in (["-q", "extract"], ["extract", "--quiet"]):
        result = cli(*arguments, clips, "--out", tmp_path / "c", *SIZE)
        assert result.exit_code == 3 and "4 of 5 videos stored" in result.stdout
        assert result.stderr.splitlines() == [
            line for line in result.stderr.splitlines() if line.startswith("failed: left/bad.mp4: ")
        ]
    assert "to do; engine opencv" in cli("extract", clips, "--out", tmp_path / "c", *SIZE).stderr


@pytest.mark.parametrize(
    ("arguments", "level"),
    [([], logging.WARNING), (["-v"], logging.INFO), (["-vv"], logging.DEBUG)],
)
def test_verbosity_is_the_level_of_the_log(cli, tmp_path, monkeypatch, arguments, level):
    levels = []
    (tmp_path / "records").mkdir()
    monkeypatch.setattr(logging, "basicConfig", lambda **options: levels.append(options["level"]))
    cli(*arguments, "status", tmp_path)
    cli("status", tmp_path, *arguments)
    assert levels == [level, level]


def test_lines_of_the_log_begin_with_their_level_if_it_is_a_warning():
    log = logging.Logger("test")
    log.addHandler(LogHandler())
    with redirect_stderr(io.StringIO()) as stream:
        log.info("begun")
        log.warning("slow")
        log.error("broken")
    assert stream.getvalue().splitlines() == ["begun", "warning: slow", "error: broken"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["extract"], 2),
        (["nothing"], 2),
        (["extract", "--nothing"], 2),
        (["extract", "/none", "-o", "/tmp/none"], 2),
        (["status", "/"], 2),
    ],
)
def test_every_failure_begins_with_error(cli, arguments, code):
    result = cli(*arguments)
    assert result.exit_code == code and result.stdout == ""
    assert result.stderr.startswith("error: ") and "Error:" not in result.stderr


def test_an_error_that_follows_from_ctrl_c_is_no_error_of_the_program(cli, tmp_path, monkeypatch):
    def interrupted_library(*_args):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected position")

    (tmp_path / "records").mkdir()
    monkeypatch.setattr("flowprep.corpus.reader.open_corpus", interrupted_library)
    result = cli("info", tmp_path)
    assert result.exit_code == 1 and result.stderr == "error: stopped\n"


def test_an_error_of_a_setting_has_the_names_of_the_options(cli, clips, tmp_path):
    result = cli("plan", clips, "-o", tmp_path / "c", "--quantiser", "tsn", "--step-px", 0.2)
    assert result.exit_code == 2 and result.stderr.startswith("error: --step-px is 0.2 with --quantiser tsn")


@pytest.mark.parametrize("width", [60, 80, 100])
def test_help_fits_the_terminal(width):
    for commands in SECTIONS.values():
        for command in commands:
            text = CliRunner().invoke(main, [str(command.name), "--help"], terminal_width=width).stdout
            long = [line for line in text.splitlines() if len(line) > width]
            assert not long, (command.name, long)
            assert "--json" in text and "--quiet" in text and "--verbose" in text


def test_every_command_is_in_one_section():
    listed = [command for commands in SECTIONS.values() for command in commands]
    assert sorted(c.name for c in listed) == sorted(main.commands)
