"""The commands of conversion: JSON, and a new index."""

from __future__ import annotations

import json
import shutil

from flowprep import open_corpus


def test_the_index_is_rebuilt(path, tmp_path, cli):
    shutil.copytree(path, tmp_path / "c")
    (tmp_path / "c" / "index.npz").write_bytes(b"rubbish")
    assert cli("index", tmp_path / "c").exit_code == 0
    for shard in (tmp_path / "c" / "shards").iterdir():
        shard.write_bytes(b"")  # the index does not need them
    assert list(open_corpus(tmp_path / "c")) == list(open_corpus(path))
    assert cli("index", tmp_path).exit_code == 2


def test_the_commands_print_json(path, tmp_path, cli):
    for command in (
        ["subset", path, "-o", tmp_path / "a", "--select", "left"],
        ["subset", path, "-o", tmp_path / "b", "--select", "to right"],
        ["merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "m"],
        ["repack", path, "-o", tmp_path / "r", "--shard-pairs", 50],
        ["index", path],
    ):
        result = cli(*command, "--json")
        assert json.loads(result.stdout)["corpus"]
    assert cli("subset", path, "-o", tmp_path / "n").exit_code == 2
    assert cli("subset", path, "-o", tmp_path / "n", "--select", "up").exit_code == 2
