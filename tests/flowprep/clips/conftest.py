"""The corpus of the tests of clips."""

from __future__ import annotations

import pytest

from tests.support.clip_corpus import make_corpus


@pytest.fixture(scope="session")
def clip_corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("clips"))
