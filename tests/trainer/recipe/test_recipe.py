import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from flowprep.errors import UsageError
from tests.support.fakes import small, toml
from trainer.models import registry
from trainer.recipe.schema import Recipe
from trainer.recipe.toml import as_toml, read_recipe

PIPELINES = Path(__file__).parents[3] / "pipelines"
of_the_pipelines = pytest.mark.parametrize(
    "path", sorted(PIPELINES.rglob("*.toml")), ids=lambda p: str(p.relative_to(PIPELINES))
)


def test_round_trip():
    recipe = small("temporal")
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@of_the_pipelines
def test_recipes_of_the_pipelines_are_valid(path):
    recipe = read_recipe(path)
    assert recipe.stream == "both" or recipe.stream in path.stem
    assert not recipe.train.milestones or recipe.train.milestones[-1] < recipe.train.steps


@of_the_pipelines
def test_a_recipe_is_printed_whole(path, tmp_path):
    recipe = read_recipe(path)
    text = as_toml(recipe)
    (tmp_path / "whole.toml").write_text(text)
    assert read_recipe(tmp_path / "whole.toml") == recipe
    assert max(map(len, text.splitlines())) <= 110
    # Every key stands below a comment with its meaning.
    keys, said, section = 0, "", ""
    for line in text.splitlines():
        if line.startswith("#"):
            said += line
        elif " = " in line and section != "[model.options]":
            key = line.partition(" = ")[0]
            assert said and (not said.endswith("|") or re.search(rf"\b{key}\b", said)), line
            keys, said = keys + 1, said.removesuffix("|") + "|"
        else:
            section, said = line if line.startswith("[") else section, ""
    assert keys > 40


def test_values_of_any_text_are_printed(tmp_path):
    recipe = replace(Recipe("spatial"), model=replace(Recipe("spatial").model, weights='a "b"\\ü\n\x7f\x01'))
    (tmp_path / "r.toml").write_text(as_toml(recipe), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml") == recipe


def test_the_command_in_the_header_of_a_recipe_trains():
    """The spatial recipe of UCF-101 needs weights. The command in its header names them."""
    path = PIPELINES / "ucf101" / "spatial.toml"
    with pytest.raises(UsageError, match=r"without model.weights"):
        registry.check_recipe(read_recipe(path))
    header = "".join(
        line.lstrip("# ").rstrip("\\") + " " for line in path.read_text().split("\n") if line.startswith("#")
    )
    words = shlex.split(header[header.index("trainer train") :])
    changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    recipe = read_recipe(path, changes)
    registry.check_recipe(recipe)
    assert (recipe.model.weights, recipe.model.trainable) == ("cnn_m_2048.pt", "last")


def test_dropout_is_one_number_or_a_list(tmp_path):
    path = toml(small(), tmp_path / "r.toml")
    assert read_recipe(path, ["model.dropout=0"]).model.dropout == 0.0
    several = read_recipe(path, ["model.dropout=[0.9, 0]"])
    assert several.model.dropout == (0.9, 0.0)
    assert Recipe.from_dict(several.to_dict()) == several


def test_changes_are_parsed_as_toml(tmp_path):
    path = toml(small(), tmp_path / "r.toml")
    changes = [
        "train.lr=1",
        "train.milestones=[1, 2]",
        "model.name=cnn_m_2048",
        "input.flip = false",
        "seed=3",
    ]
    recipe = read_recipe(path, changes)
    assert recipe.train.lr == 1.0
    assert recipe.train.milestones == (1, 2)
    assert recipe.model.name == "cnn_m_2048"
    assert recipe.input.flip is False
    assert recipe.seed == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.epochs=3", r"unknown key train.epochs; known: train.steps, train.batch"),
        ("colour=1", r"unknown key colour; known: stream, seed, model"),
        ("train.steps=many", r"train.steps is 'many'; allowed: a whole number"),
        ("model.dropout=much", r"model.dropout is 'much'; allowed: a number"),
        (
            "model.dropout=[0.5, 1.0]",
            r"model.dropout is \[0.5, 1.0\]; allowed: a number in \[0, 1\), or a list",
        ),
        ("model.dropout=[]", r"model.dropout is \[\]; allowed: a number in"),
        ("train.steps=1.5", r"train.steps is 1.5; allowed: a whole number"),
        ("train.steps=true", r"train.steps is True; allowed: a whole number"),
        ("input.flip=1", r"input.flip is 1; allowed: a truth value"),
        ("train.milestones=5", r"train.milestones is 5; allowed: a list of whole numbers"),
        ("train.milestones=[9, 3]", r"train.milestones is \[9, 3\]; allowed: steps in rising order"),
        ("train=3", r"train is 3; it is a section"),
        ("stream=audio", r"stream is 'audio'; allowed: spatial \| temporal"),
        ("test.crops=3", r"test.crops is 3; allowed: 1, 2, 5 or 10"),
        ("input.resize=30", r"input.crop is 32; allowed: at most input.resize, 30"),
        ("train.keep=first", r"train.keep is 'first'; allowed: last \| best"),
        ("seed", r"write key=value"),
        ("train.lr=0", r"train.lr is 0.0; allowed: a number above 0"),
        ("train.steps=-1", r"train.steps is -1; allowed: a whole number from 0"),
        ("train.momentum=1", r"train.momentum is 1.0; allowed: a number in \[0, 1\)"),
        ("train.factor=0", r"train.factor is 0.0; allowed: a number in \(0, 1\]"),
        ("train.validation_share=0.6", r"train.validation_share is 0.6; allowed: a number in \[0, 0.5\]"),
        ("train.micro_batch=9", r"train.micro_batch is 9; allowed: 0 to train.batch"),
        ("test.spacing=-2", r"test.spacing is -2; allowed: a whole number from -1"),
        ("input.spacing=[3, 2]", r"input.spacing is \[3, 2\]; allowed: \[least, greatest\]"),
        ("input.rgb_scale=[1, 0, 1]", r"input.rgb_scale is \[1.0, 0.0, 1.0\]; allowed: 3 numbers above 0"),
        ("input.scales=[20, 30]", r"input.scales is \[20, 30\]; allowed: sides in pixels, in falling order"),
        (
            "input.control=reversed",
            r"input.control is 'reversed'; allowed: reversed \| shuffled, of a temporal",
        ),
        ("model.cross_modality=true", r"model.cross_modality is True; allowed: false, unless"),
        ("seed=9223372036854775808", r"allowed: a whole number from 0, below 2\^63"),
    ],
)
def test_refusals_say_what_is_allowed(tmp_path, change, says):
    path = toml(small(), tmp_path / "r.toml")
    with pytest.raises(UsageError, match=says):
        read_recipe(path, [change])


def test_unreadable_files(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("stream = ")
    with pytest.raises(UsageError, match="not a TOML file"):
        read_recipe(tmp_path / "bad.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(UsageError, match="no `stream`"):
        read_recipe(tmp_path / "empty.toml")


def test_differences_name_the_key_and_both_values():
    assert small().differences(small(train={"lr": 0.1})) == ["train.lr: 0.05, 0.1"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.lr=inf", "train.lr is inf; allowed: a number"),
        ("input.jitter=nan", "input.jitter is nan; allowed: a number"),
        ("model.options.since=2014-06-09", "allowed: a number, text or truth value"),
        ("model.options.a b=1", "is no name of an option"),
    ],
)
def test_values_that_a_recipe_cannot_hold(tmp_path, change, says):
    path = toml(small(), tmp_path / "r.toml")
    with pytest.raises(UsageError, match=says):
        read_recipe(path, [change])


@pytest.mark.parametrize(
    "model", [{"weights": "s3://b/w.pth"}, {"tower_weights": ["a.pth", "https://h/b.pth"]}]
)
def test_addresses_of_weights_are_refused(model):
    with pytest.raises(UsageError, match=r"model.weights: .* is an address"):
        Recipe.from_dict({"stream": "both", "model": {"name": "conv_fusion", **model}})
