"""The forms of a list, and files that are no lists."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprep.errors import UsageError
from flowprep.planning.class_index import format_class_index, read_class_index
from flowprep.planning.list_lines import format_line
from flowprep.planning.video_lists import read_list_rows, read_lists


def rows(tmp_path, text, name="list.txt", known=()):
    """Path and label of each row; frames and first frame, too, if the list has them."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [
        (row.path, row.label, *((row.frames, row.first) if row.base == 0 else ()))
        for row in read_list_rows(path, known.__contains__)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A/a.avi 3\n", [("A/a.avi", "3")]),
        ("A/a.avi\n", [("A/a.avi", "")]),
        ("A/a b.avi 3\nA/a b.AVI\n", [("A/a b.avi", "3"), ("A/a b.AVI", "")]),
        ("A/a.avi High Jump\n", [("A/a.avi", "High Jump")]),
        ("a.mp4\tHigh Jump\n", [("a.mp4", "High Jump")]),
        ("A/v_a_g01 3\n", [("A/v_a_g01", "3")]),
        ('A/v_a_g01 "High Jump"\n', [("A/v_a_g01", "High Jump")]),
        ("'a b' 'High Jump'\n", [("a b", "High Jump")]),
        ('"a b.mp4" "High Jump"  # the second try\n', [("a b.mp4", "High Jump")]),
        ('"it is # 1.mp4" 3\n', [("it is # 1.mp4", "3")]),
        ("don't.mp4 run\n", [("don't.mp4", "run")]),
        ("v_a_g01 120 3\n", [("v_a_g01", "3", 120, 0)]),
        ("/data/a b/v_a 120 3\n", [("/data/a b/v_a", "3", 120, 0)]),
        ("v_a_g01 120 run\n", [("v_a_g01", "run", 120, 0)]),
        ("v_a.avi 120 3\n", [("v_a.avi", "3", 120, 0)]),
        ("v_a_g01\t120\t3\n", [("v_a_g01", "3", 120, 0)]),
        ("v_a 120 -1\n", [("v_a", "", 120, 0)]),
        ("some/v_a 10 120 3\n", [("some/v_a", "3", 120, 10)]),
        ("001 120 3\n", [("001", "3", 120, 0)]),
        ("# a comment\n\n  \na.avi 3  # the rest\n#b.avi 4\n", [("a.avi", "3")]),
        ("\ufeffa.avi 3\r\n\r\nb.avi 4\r\n", [("a.avi", "3"), ("b.avi", "4")]),
        ("a.avi 3\rb.avi 4\r", [("a.avi", "3"), ("b.avi", "4")]),
        ("a.mp4,Jump\nb.mp4,High Jump\n", [("a.mp4", "Jump"), ("b.mp4", "High Jump")]),
        ('path,label\na,"High, wide"\n', [("a", "High, wide")]),
        ("label;path\nJump;a.mp4\n", [("a.mp4", "Jump")]),
        ("video\tclass\na b.mp4\tHigh Jump\n", [("a b.mp4", "High Jump")]),
    ],
)
def test_forms_of_a_text_list(tmp_path, text, expected):
    assert rows(tmp_path, text) == expected
    if "\ufeff" not in text:
        for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            assert rows(tmp_path, text.encode(encoding)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b.mp4,High Jump\n\n# no\nc.mp4\n", [("a b.mp4", "High Jump"), ("c.mp4", "")]),
        ("Video,Class\na.mp4,x\n", [("a.mp4", "x")]),
        ('"a ""b"".mp4","two\nlines"\n', [('a "b".mp4', "two\nlines")]),
        ("a.mp4 3\nb.mp4 4\n", [("a.mp4", "3"), ("b.mp4", "4")]),  # as in Kinetics lists of SlowFast
    ],
)
def test_forms_of_a_csv_list(tmp_path, text, expected):
    assert rows(tmp_path, text, "list.csv") == expected


def test_known_names_decide_where_a_name_ends(tmp_path):
    text = "clip 4 120 3\nclip 4 run\nclip 4 9 120 run\nclip 5 120 3\n#6.avi 1\nx # y 2\n 7.avi\n"
    known = {"clip 4", "#6.avi", "x # y", " 7.avi"}
    assert rows(tmp_path, text, known=known) == [
        ("clip 4", "3", 120, 0),
        ("clip 4", "run"),
        ("clip 4", "run", 120, 9),
        ("clip", "3", 120, 5),
        ("#6.avi", "1"),
        ("x # y", "2"),
        (" 7.avi", ""),
    ]


def test_lists_of_hmdb(tmp_path):
    (tmp_path / "kick_test_split1.txt").write_text("#1_a_kick.avi 1 \nb kick.avi 2 \nc_kick.avi 0 \n")
    assert [(row.path, row.label, row.mark) for row in read_list_rows(tmp_path / "kick_test_split1.txt")] == [
        ("kick/#1_a_kick.avi", "kick", "1"),
        ("kick/b kick.avi", "kick", "2"),
        ("kick/c_kick.avi", "kick", "0"),
    ]
    assert [row.path for row in read_lists(f"{tmp_path}:test1")] == ["kick/b kick.avi"]
    with pytest.raises(UsageError, match=r"has no files <class>_test_split3.txt"):
        read_lists(f"{tmp_path}:train3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a " + "7" * 5000 + "\n", r"line 1: a number of 5000 digits; allowed are 18"),
        ("a 5 " + "7" * 5000 + " 3\n", r"line 1: a number of 5000 digits"),
        ("x\n" + "a" * 131_073 + " 3\n", r"line 2: 131075 characters; a line has at most 16384"),
        ("a 163 1 3 5\n", r"line 1: 'a 163 1 3 5' has 4 numbers; allowed are `folder class`"),
        ("a 120 -3\n", r"line 1: the number -3"),
        ("a.mp4 1\ns3://bucket/b.mp4 2\n", r"line 2: s3://bucket/b.mp4 is an address"),
        (b"a.mp4 1\ncaf\xe9.mp4 2\n", r"line 2: byte 0xe9 is not UTF-8; in Latin-1 \(ISO-8859-1\) it is 'é'"),
        (b"a.mp4 M\xfcller\n", r"line 1: byte 0xfc is not UTF-8; .* iconv -f latin1 -t utf-8 list.txt"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file"),
        (bytes(range(1, 200)) * 9, "is a binary file"),
        (bytes(5000), "is a binary file"),
        ("a.mp4 1\n" * 9000 + "b\0.mp4", "is a binary file: it has zero bytes"),
        (b"\xff\xfea\0b", "begins like a text in UTF-16, but byte 4 is not UTF-16"),
    ],
)
def test_files_that_are_no_lists_are_refused_in_words(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        rows(tmp_path, text)


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n", "path,label\n"])
def test_empty_lists_are_refused(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UsageError, match=r"list.txt: the list is empty"):
        read_lists(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4," + "b" * 131_073, r"line 1: 131079 characters"),
        ("a.mp4,b\n" * 200 + "a.mp4," + "b" * 131_073, r"line 201: field larger than field limit"),
        ("a.mp4,b\n" * 200 + "a.mp4," + "b" * 100_000, r"line 201: 100000 characters; a cell has at most"),
        ("path,frames\na.mp4," + "7" * 5000, r"line 2: a number of 5000 digits"),
        ('a.mp4,"never closed\nb.mp4,x\n', r"line 2: unexpected end of data"),
        ("path,seconds\na.mp4,1\n", r"allowed columns: path,label,frames,bytes,group"),
    ],
)
def test_tables_that_are_wrong_are_refused_in_words(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        rows(tmp_path, text, "list.csv")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")  # opening it would never return
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(100 * 10**9)
    for name, message in (("pipe", "is a pipe"), ("zero", "is a device"), ("huge", "has 100 GB; at most")):
        for read in (read_list_rows, read_class_index):
            with pytest.raises(UsageError, match=message):
                list(read(tmp_path / f"{name}.txt"))
    with pytest.raises(UsageError, match=r"none.txt: cannot be read: No such file"):
        list(read_list_rows(tmp_path / "none.txt"))


NAMES = st.text(
    st.one_of(
        st.sampled_from("ab .#\"',;\\/\t\n\r\x0b\x85\u2028-019éß路"), st.characters(exclude_categories=["Cs"])
    ),
    min_size=1,
).filter(lambda name: "\0" not in name)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, st.one_of(st.just(""), NAMES, st.integers(0, 999).map(str))), min_size=1))
def test_written_lines_are_read_back(tmp_path_factory, pairs):
    """Whatever the names are: with new lines, tabs, control characters, quotes, or like another form."""
    pairs = [(path, label) for path, label in pairs if "://" not in path and label not in ("-1", "path")]
    pairs = [(p, n) for p, n in pairs if not n.lstrip("-").isdecimal() or (n.isdecimal() and len(n) < 4)]
    folder = tmp_path_factory.getbasetemp()
    text = "".join(format_line(path, label) + "\n" for path, label in pairs)
    assert rows(folder, text, "round.txt") == pairs


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, min_size=1, unique=True))
def test_written_class_names_are_read_back(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "classInd.txt"
    path.write_text(format_class_index(names), newline="")
    assert read_class_index(path) == tuple(names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"Jump\nRun\n", r"line 1: 'Jump' is not `number name`"),
        (b"1\n2\n", r"line 1: '1' is not `number name`"),
        (b"1 A\n3 B\n", "without gaps"),
        (b"0 A\n1 B\n", "are not numbered 1, 2, 3"),
        (b"1 A\n2 A\n", "two classes have the name 'A'"),
        (b"", "is empty"),
        (b"7" * 5000 + b" A\n", "is not `number name`"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file"),
        (b"1 M\xfcller\n", "byte 0xfc is not UTF-8; in Latin-1"),
        ("\u00b2 A\n".encode(), "is not `number name`"),
    ],
)
def test_files_that_are_no_class_index_are_refused_in_words(tmp_path, text, message):
    (tmp_path / "classInd.txt").write_bytes(text)
    with pytest.raises(UsageError, match=message):
        read_class_index(tmp_path / "classInd.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms_of_a_class_index(tmp_path, encoding):
    (tmp_path / "classInd.txt").write_bytes("1 High Jump\r\n\r\n2\tRun\r\n3  Müll \n".encode(encoding))
    assert read_class_index(tmp_path / "classInd.txt") == ("High Jump", "Run", "Müll")
