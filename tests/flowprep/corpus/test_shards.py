"""Shards: the writer, the format and the versions."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.codec import images, quantise
from flowprep.corpus import format as fmt
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.errors import CorpusDamaged, CorpusFormatError
from tests.support.corpora import SETTINGS, SHAPE, add_segment, make_shards, random_flow


def test_same_input_gives_same_bytes(tmp_path):
    shards = {"aaaa": [("v/x", 4, 7), ("v/y", 2, 8)]}
    one, two = (make_shards(tmp_path / n, shards) / "shards" / "aaaa.h5" for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_shard_can_be_read_with_h5py_alone(corpus):
    """As FORMAT.md says, without our code."""
    with h5py.File(corpus / "shards" / "aaaa.h5") as file:
        assert file.attrs["format"] == "flowprep-shard" and list(file.attrs["version"]) == [1, 1]
        assert json.loads(file.attrs["settings"])["codes"] == "adaptive"
        row = next(r for r in file["videos"][:] if r["id"].decode() == "a/öne.mp4")
        image = file["images"][row["flow_v_first"] + 2]
        jpeg = file["bytes"][image["offset"] : image["offset"] + image["size"]].tobytes()
        pair = file["pairs"][row["first_pair"] + 2]
        v = (images.decode_codes(jpeg, SHAPE).astype(np.float32) - pair["v_zero"]) * pair["v_scale"]
    assert np.array_equal(v, open_corpus(corpus)["a/öne.mp4"].flow(2, 1)[0, 1])


def test_newer_major_versions_are_refused_and_minor_ones_are_read(corpus):
    for task in ("aaaa", "bbbb", "cccc"):
        with h5py.File(corpus / "shards" / f"{task}.h5", "r+") as file:
            file.attrs["version"] = np.array([1, 7], "<u4")
    assert len(open_corpus(corpus)) == 3
    with h5py.File(corpus / "shards" / "aaaa.h5", "r+") as file:
        stored = json.loads(file.attrs["settings"])
        stored["tvl1"]["unheard_of"] = 1
        file.attrs["settings"] = json.dumps({**stored, "codes": "logarithmic", "another": [1, 2]})
    opened = open_corpus(corpus)
    assert opened.settings.codes == "logarithmic" and opened.settings.tvl1 == SETTINGS.tvl1
    assert opened["b/two.mp4"].flow(0, 1).shape == (1, 2, *SHAPE)
    with h5py.File(corpus / "shards" / "aaaa.h5", "r+") as file:
        file.attrs["version"] = np.array([2, 0], "<u4")
    with pytest.raises(CorpusFormatError, match="install a newer flowprep"):
        open_corpus(corpus)


def test_cut_keeps_whole_frames_and_pairs(tmp_path):
    (tmp_path / "shards").mkdir()
    path = tmp_path / "shards" / "x.h5"
    with ShardWriter(path, SETTINGS, {}) as writer:
        writer.begin(id="v", source="v", label="", segments=1)
        flow = random_flow(0, 6)
        for i in range(6):
            writer.add_frame(np.full((*SHAPE, 3), i * 30, np.uint8), i)
            u, v = quantise.encode_pair(flow[i], SETTINGS)
            writer.add_pair(u, v)
            writer.add_pair(u, v, backward=True)
        writer.cut(4)
        stored = writer.end()
        add_segment(writer, "w", 3, 5)
        writer.begin(id="dropped", source="", label="")
        writer.add_frame(np.zeros((*SHAPE, 3), np.uint8), 0)
        writer.drop()
        writer.publish()
    shard = Shard(path)
    row = shard.videos[0]
    assert (stored.frames, stored.pairs, row["rgb_count"], row["flow_back_v_count"]) == (4, 3, 4, 3)
    assert (row["num_frames"], row["num_pairs"]) == (4, 3)
    assert [r["id"] for r in shard.videos] == [b"v", b"w"]
    for i in range(len(shard.images)):
        shard.image(i)
    assert list(tmp_path.glob("shards/*.tmp")) == []


def test_damage_of_the_head_is_found_before_hdf5_reads_it(corpus):
    path = corpus / "shards" / "aaaa.h5"
    intact = path.read_bytes()
    with h5py.File(path) as file:
        length = file[fmt.BYTES].id.get_offset()
    for at in (0, 8, length // 2, length - 1):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        with pytest.raises(CorpusDamaged, match="the part before its images"):
            Shard(path)
    path.write_bytes(intact[:-1])
    with pytest.raises(CorpusDamaged, match="the end of the file is not that of a shard"):
        Shard(path)
    path.write_bytes(intact[: -fmt.SEAL.size])  # as the first shards were
    assert len(Shard(path).images) > 0
