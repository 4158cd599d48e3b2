"""Fixtures of the tests of the pipelines."""

from tests.support.trainer_fixtures import corpus, logger, opened

__all__ = ["corpus", "logger", "opened"]
