"""Fixtures of the trainer's tests."""

import logging

import pytest

import flowprep
from tests.support.fakes import FakeCorpus


@pytest.fixture(autouse=True)
def logger():
    """The command takes the log for itself; the next test gets it back."""
    yield
    for name in ("trainer", "flowprep.planning"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


@pytest.fixture
def corpus():
    return FakeCorpus()


@pytest.fixture
def opened(corpus, monkeypatch, tmp_path):
    """flowprep.open_corpus gives the corpus in memory, whatever the path."""
    (tmp_path / "records").mkdir()  # the command checks that the path is a corpus
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: corpus, raising=False)
    return corpus
