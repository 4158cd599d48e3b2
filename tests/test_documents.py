"""The code and the commands in the documents: code runs, commands and options exist, links lead somewhere."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

import flowprep
import flowprep.cli
import trainer
import trainer.cli
from flowprep.parameters import Tvl1Settings
from flowprep.presets import PRESET_VERSIONS, PRESETS
from flowprep.settings import Settings
from tests.support.planning import plan_inputs
from tests.support.sentences import documents, sentence_lengths
from trainer.recipe.schema import EvaluationRecipe, InputRecipe, ModelRecipe, Recipe, TrainRecipe

ROOT = Path(__file__).resolve().parents[1]


def code_blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two sample classes, every clip in three segments of which the last is empty, and one bad video."""
    root = tmp_path_factory.mktemp("documents")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "flowprep.cli",
            "samples",
            str(root / "clips"),
            "--classes",
            "2",
            "--clips",
            "2",
        ],
        check=True,
        capture_output=True,
    )
    (root / "clips" / "bad.mp4").write_text("no video")
    settings = Settings(size="32x24", engine="opencv", tvl1=PRESETS["opencv"], shard_pairs=20)
    plan_inputs(root / "corpus", root / "clips", settings=settings, estimate=lambda path: 60)
    flowprep.make_corpus([root / "clips"], root / "corpus", settings, jobs=1)
    return root / "corpus"


def test_the_plain_reader_of_the_format_reads_what_ours_reads(corpus):
    (code,) = code_blocks("FORMAT.md", "python")
    assert len(code.splitlines()) <= 60
    names: dict = {}
    exec(code, names)
    videos = list(names["read"](corpus))
    ours = flowprep.open_corpus(corpus)
    assert [v[0] for v in videos] == list(ours) and len(videos) == 4
    for name, label, frames, flow in videos:
        video = ours[name]
        assert label == video.label and len(frames) == video.num_frames
        assert np.array_equal(flow, video.flow(0, video.num_pairs))
        assert np.abs(frames[3].astype(int) - video.rgb(3)).max() <= 4  # another decoder's upsampling


PROGRAMS: dict[str, click.Group] = {"flowprep": flowprep.cli.main, "trainer": trainer.cli.main}
DOCUMENTS = [path.relative_to(ROOT).as_posix() for paths in documents().values() for path in paths]


@pytest.mark.parametrize(
    "document", ["README.md", "docs/quickstart.md", "docs/guides/read.md", "docs/guides/datasets.md"]
)
def test_python_code_runs(document, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").symlink_to(corpus)
    blocks = code_blocks(document, "python")
    assert blocks
    for code in blocks:
        exec(code, {})


def test_no_place_holder_is_left():
    for document in DOCUMENTS:
        text = (ROOT / document).read_text("utf-8")
        assert "@@" not in text and "PLACEHOLDER" not in text, document


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_shown(program):
    text = "".join((ROOT / document).read_text("utf-8") for document in DOCUMENTS)
    missing = [name for name in PROGRAMS[program].commands if f"{program} {name}" not in text]
    assert not missing


def commands_shown(document: str) -> list[list[str]]:
    """The words of each command of our programs in the code blocks without a language."""
    text = "".join(code_blocks(document, "")).replace("\\\n", " ")
    lines = [re.sub(r"\s#.*| > .*", "", line.removeprefix("$ ")) for line in text.splitlines()]
    return [line.split() for line in lines if line.split()[:1] and line.split()[0] in PROGRAMS]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_exist(document):
    for words in commands_shown(document):
        command: click.Command = PROGRAMS[words[0]]
        rest = words[1:]
        while isinstance(command, click.Group):
            assert rest[0] in command.commands, " ".join(words)
            command = command.commands[rest.pop(0)]
        shown = [param for param in command.params if not getattr(param, "hidden", False)]
        known = {option for param in shown for option in (*param.opts, *param.secondary_opts)}
        unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word not in known]
        assert not unknown, " ".join(words)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(document):
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_exist(document):
    text = (ROOT / document).read_text("utf-8")
    top = "flowprep|trainer|tests|pipelines|examples|docs"
    paths = [p for p in re.findall(rf"`((?:{top})/[\w./-]+)`", text) if "NAME" not in p]
    assert len(paths) > 5
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("package", [flowprep, trainer])
def test_every_public_name_is_in_the_reference(package):
    text = (ROOT / "docs/reference/api.md").read_text("utf-8")
    errors = {name for name in package.__all__ if isinstance(getattr(package, name), type)}
    errors = {name for name in errors if issubclass(getattr(package, name), Exception)}
    names = set(package.__all__) - errors - {"__version__"}
    assert not [name for name in names if f"{package.__name__}.{name}" not in text]


def test_every_recipe_key_has_its_row():
    spec = importlib.util.spec_from_file_location("recipe_hook", ROOT / "docs/hooks/recipe.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = hook.on_page_markdown(hook.MARK)
    for section in (Recipe, ModelRecipe, InputRecipe, TrainRecipe, EvaluationRecipe):
        for field in dataclasses.fields(section):
            assert f"| `{field.name}` |" in text or f"`[{field.name}]`" in text


def test_the_table_of_presets_has_the_values_of_each_version():
    spec = importlib.util.spec_from_file_location("presets_hook", ROOT / "docs/hooks/presets.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.on_page_markdown((ROOT / "docs/reference/presets.md").read_text("utf-8"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line[:1] == "|"]
    assert rows[0] == ["parameter", *PRESET_VERSIONS]
    shown = {name: column for name, *column in rows[2:]}
    for field in dataclasses.fields(Tvl1Settings):
        values = [getattr(tvl1, field.name) for tvl1 in PRESET_VERSIONS.values()]
        texts = shown.get(f"`{field.name}`", [str(field.default).lower()] * len(values))
        assert texts == [str(value).lower() for value in values], field.name
        # The docstring, which the page shows, explains each parameter.
        assert re.search(rf"^ +{field.name}: \w", Tvl1Settings.__doc__, re.MULTILINE), field.name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_sentence_lengths_are_printed(capsys):
    """A measure, not a bound: `pytest -s` or `python tests/support/sentences.py` shows it."""
    for group, paths in documents().items():
        lengths = sentence_lengths(paths)
        assert lengths.sentences
        with capsys.disabled():
            print(f"\n{group}: {lengths}", end="")
