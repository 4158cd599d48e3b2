"""A ClipSource is a source of grain."""

from __future__ import annotations

import numpy as np
import pytest

import flowprep
from tests.support.clip_corpus import same

grain = pytest.importorskip("grain.python")


@pytest.fixture
def source(clip_corpus):
    return flowprep.ClipSource(clip_corpus, 3, crop=8, random=True, mirror=True)


def test_it_has_the_protocol(source):
    assert isinstance(source, grain.RandomAccessDataSource)


def test_a_map_dataset_reads_it(source):
    data = grain.MapDataset.source(source).shuffle(seed=1).batch(3)
    ids = [i for batch in data.to_iter_dataset() for i in batch["id"].tolist()]
    assert sorted(ids) == sorted(source.ids)
    assert data[0]["flow"].shape == (3, 3, 2, 8, 8)


def test_random_choices_of_grain_are_new_in_each_epoch_and_resume(source):
    data = grain.MapDataset.range(len(source)).seed(4).repeat(2).random_map(source.sample)
    clips = list(data.to_iter_dataset())
    assert len(clips) == 14 and not same(clips[3], clips[10]) and clips[3]["id"] == clips[10]["id"]
    iterator = iter(data.to_iter_dataset())
    first = [next(iterator) for _ in range(5)]
    state = iterator.get_state()
    other = iter(data.to_iter_dataset())
    other.set_state(state)
    assert all(same(a, b) for a, b in zip([*first, *other], clips, strict=True))
    assert np.isfinite(clips[0]["flow"]).all()
