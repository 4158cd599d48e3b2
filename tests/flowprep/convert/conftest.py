"""A corpus that the tests of conversions share. No test changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprep import Corpus, make_corpus, open_corpus
from tests.support.conversions import SETTINGS, write_two_classes


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def path(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    make_corpus([videos], out, SETTINGS, jobs=1)
    return out


@pytest.fixture
def corpus(path: Path) -> Corpus:
    return open_corpus(path)
