"""Names of exported folders."""

from __future__ import annotations

from flowprep.convert.names import folder_names


def test_names_are_safe_and_never_collide():
    ids = ["a.avi", "a.mp4", "A.avi", "a/b.avi", "a/b/c.avi", "../x.avi", "/etc/passwd", "q/..", "sp ace.avi"]
    ids += ["x" * 300 + "1.avi", "x" * 300 + "2.avi", "export.json.mp4", "tab\tnew\nline", "a.b.c.avi", ""]
    for flat in (True, False):
        for dots in (True, False):
            names = folder_names(ids, flat=flat, dots=dots)
            assert len({n.casefold() for n in names.values()}) == len(ids)
            for name in names.values():
                assert not name.startswith("/") and all(p.strip(".") for p in name.split("/"))
                assert not any(c.isspace() for c in name) and max(map(len, name.split("/"))) < 200
                assert not any(other.startswith(name + "/") for other in names.values())
    # A name depends on the corpus, and not on the other exported videos.
    assert folder_names(["k/v.avi", "l/w.avi"], flat=True) == {"k/v.avi": "v", "l/w.avi": "w"}
