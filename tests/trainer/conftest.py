"""Fixtures of the trainer's tests."""

import pytest
from fakes import FakeCorpus

import flowprep


@pytest.fixture
def corpus():
    return FakeCorpus()


@pytest.fixture
def opened(corpus, monkeypatch, tmp_path):
    """flowprep.open_corpus gives the corpus in memory, whatever the path."""
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: corpus, raising=False)
    return corpus
