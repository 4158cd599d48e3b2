"""The public names of flowprep."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import flowprep
from flowprep import errors


def test_every_public_name_exists_and_is_known_to_type_checkers():
    tree = ast.parse(Path(flowprep.__file__).read_text("utf-8"))
    typed = {
        name.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname
    }
    assert {"__version__", *typed} == set(flowprep.__all__) == set(dir(flowprep))
    for name, module in typed.items():
        assert getattr(flowprep, name) is getattr(import_module(module), name)


def test_every_error_is_public():
    classes = {name for name, value in inspect.getmembers(errors, inspect.isclass)}
    assert classes <= set(flowprep.__all__)
    assert all(issubclass(getattr(flowprep, name), flowprep.FlowprepError) for name in classes)


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(AttributeError, match=r"no attribute 'extract'; it has .*make_corpus"):
        _ = flowprep.extract
