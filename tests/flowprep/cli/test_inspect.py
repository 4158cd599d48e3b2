"""The commands status, verify, info, log and index."""

from __future__ import annotations

import json

SIZE = ("--size", "source", "--engine", "opencv")


def test_verify_reports_a_damaged_first_shard_too(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    assert cli("extract", clips, "--out", out, *SIZE, "--jobs", 1).exit_code == 0
    shard = next((out / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:3000])
    (out / "records" / "notes.json").write_text("{}")
    (out / "index.npz").unlink()
    damaged = cli("verify", out, "--json")
    assert damaged.exit_code == 1
    assert {p["shard"] for p in json.loads(damaged.stdout)["problems"]} == {shard.name, "notes.h5"}
