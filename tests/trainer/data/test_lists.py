import pytest

from flowprep.errors import UsageError
from flowprep.planning import list_entries as lists
from flowprep.planning.list_entries import ListEntry
from flowprep.planning.list_matching import match_list
from tests.support.fakes import CLASSES, FakeCorpus, write_lists
from trainer.data import splits
from trainer.data.annotations import Examples, write_list
from trainer.data.groups import recording_groups


def write(path, text):
    path.write_text(text)
    return str(path)


def test_forms_of_a_line(tmp_path):
    source = write(
        tmp_path / "l.txt",
        "Punch/v_Punch_g08_c01.avi 3\r\n\r\nPunch/v_Punch_g09_c01.avi\r\n./some/clip 1.mp4\r\n"
        "a b/clip 2.mp4 Kick\r\nframes/clip3\tHigh Jump\r\nframes/clip 4\r\n",
    )
    assert lists.read_list(source, {"frames/clip 4"}) == [
        ListEntry("Punch/v_Punch_g08_c01.avi", index=3),
        ListEntry("Punch/v_Punch_g09_c01.avi"),
        ListEntry("some/clip 1.mp4"),
        ListEntry("a b/clip 2.mp4", label="Kick"),
        ListEntry("frames/clip3", label="High Jump"),
        ListEntry("frames/clip 4"),
    ]


def test_a_csv_file_is_read_as_flowprep_reads_it(tmp_path):
    source = write(tmp_path / "l.csv", "path,label,frames\na b.avi,High Jump,9\nRun/c.avi,,9\nd.avi,2,9\n")
    assert lists.read_list(source) == [
        ListEntry("a b.avi", label="High Jump"),
        ListEntry("Run/c.avi"),
        ListEntry("d.avi", index=2),
    ]
    with pytest.raises(UsageError, match=r"none.csv: cannot be read"):
        lists.read_list(str(tmp_path / "none.csv"))


def test_hmdb_folders(tmp_path):
    (tmp_path / "kick_test_split1.txt").write_text("a_kick.avi 1 \nb kick.avi 2 \nc_kick.avi 0 \n")
    (tmp_path / "run_test_split1.txt").write_text("a_run.avi 2 \nb_run.avi 1 \n")
    train = lists.read_list(f"{tmp_path}:train1")
    assert train == [ListEntry("kick/a_kick.avi", label="kick"), ListEntry("run/b_run.avi", label="run")]
    assert [e.id for e in lists.read_list(f"{tmp_path}:test1")] == ["kick/b kick.avi", "run/a_run.avi"]
    with pytest.raises(UsageError, match=r"_test_split2.txt"):
        lists.read_list(f"{tmp_path}:test2")
    with pytest.raises(UsageError, match=r":train1"):
        lists.read_list(str(tmp_path))


def test_official_lists_are_read(shared_data):
    folder = shared_data / "splits" / "ucf101"
    train = lists.read_list(str(next(folder.rglob("trainlist01.txt"))))
    test = lists.read_list(str(next(folder.rglob("testlist01.txt"))))
    assert (len(train), len(test)) == (9537, 3783)
    assert train[0] == ListEntry("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", index=1)
    classes = lists.read_classes(next(folder.rglob("classInd.txt")))
    assert len(classes) == 101 and classes[0] == "ApplyEyeMakeup" and classes[100] == "YoYo"
    hmdb = lists.read_list(f"{shared_data / 'splits' / 'hmdb51'}:train1")
    assert len(hmdb) == 3570 and len({e.label for e in hmdb}) == 51


def test_a_split_is_read(tmp_path):
    index, train, test = write_lists(tmp_path, crlf=True)
    train_examples, test_examples = splits.read_split(FakeCorpus(), str(train), str(test), index)
    assert (len(train_examples), len(test_examples)) == (24, 8)
    assert train_examples.classes == CLASSES
    assert all(v.startswith(CLASSES[n]) for v, n in zip(test_examples.ids, test_examples.labels, strict=True))


def test_class_order_follows_the_index(tmp_path):
    index, train, test = write_lists(tmp_path)
    turned = tuple(reversed(CLASSES))
    index.write_text("".join(f"{n} {c}\n" for n, c in enumerate(turned, 1)))
    text = train.read_text()
    for n, name in enumerate(CLASSES, 1):
        text = "\n".join(
            line.rsplit(" ", 1)[0] + f" {len(CLASSES) + 1 - n}" if line.startswith(f"{name}/") else line
            for line in text.splitlines()
        )
    train.write_text(text)
    examples, _ = splits.read_split(FakeCorpus(), str(train), str(test), index)
    assert examples.classes == turned
    assert turned[examples.labels[0]] == examples.ids[0].split("/")[0]
    by_name, _ = splits.read_split(FakeCorpus(), str(train), str(test))
    assert by_name.classes == CLASSES


def refused(tmp_path, says, train="", test="", index=None, corpus=None, **options):
    a, b, c = write_lists(tmp_path)
    b.write_text(b.read_text() + train)
    c.write_text(c.read_text() + test)
    if index is not None:
        a.write_text(index)
    with pytest.raises(UsageError, match=says):
        splits.read_split(corpus or FakeCorpus(), str(b), str(c), a, **options)


def test_a_missing_video_is_refused(tmp_path):
    refused(
        tmp_path,
        r"2 of 26 videos are not in the corpus .*: RedZoom/x_g9_1.avi, .*to be extracted.*--allow-missing",
        train="RedZoom/x_g9_1.avi 3\nRedZoom/x_g9_2.avi 3\n",
    )


def test_a_video_that_failed_is_named_with_its_reason(tmp_path):
    corpus = FakeCorpus(failures={"RedZoom/broken_g9_1.avi": "breaks off after 3 frames"})
    refused(
        tmp_path,
        r"broken_g9_1.avi \(failed: breaks off after 3 frames\)",
        train="RedZoom/broken_g9_1.avi 4\n",
        corpus=corpus,
    )


def test_a_list_of_other_folders_is_explained(tmp_path):
    path = write(tmp_path / "l.txt", "other/v_RedZoom_g01_c01.avi RedZoom\n")
    with pytest.raises(UsageError, match=r"calls a video of that name RedZoom/v_RedZoom_g01_c01.avi"):
        match_list(path, FakeCorpus())


def test_wrong_labels(tmp_path):
    refused(
        tmp_path,
        "has class number 1, which is 'BlueSpin', but its folder is 'RedZoom'",
        index=None,
        test="",
        train="RedZoom/v_RedZoom_g01_c01.avi 1\n",
    )
    path = write(tmp_path / "n.txt", "RedZoom/v_RedZoom_g01_c01.avi 1\nRedSpin/v_RedSpin_g01_c01.avi 1\n")
    with pytest.raises(UsageError, match=r"class 1 stands for both 'RedZoom' and 'RedSpin'"):
        match_list(path, FakeCorpus())


def test_a_class_name_in_the_list_replaces_the_folder(tmp_path, caplog):
    caplog.set_level("INFO")
    first, second = list(FakeCorpus())[:2]
    path = write(tmp_path / "l.txt", f"{first} Left\n{second} Right\n")
    assert match_list(path, FakeCorpus()) == [(first, "Left"), (second, "Right")]
    assert match_list(path, FakeCorpus(), CLASSES) == [(first, "Left"), (second, "Right")]
    assert caplog.text.count("2 videos have another class than their folder") == 2
    # A number is refused only if the name of the folder is a class.
    path = write(tmp_path / "n.txt", f"{first} 1\n{second} 2\n")
    assert match_list(path, FakeCorpus(), ("Left", "Right")) == [
        (first, "Left"),
        (second, "Right"),
    ]
    with pytest.raises(UsageError, match=r"line 1: .* which is 'RedZoom', but its folder is 'BlueSpin'"):
        match_list(path, FakeCorpus(), CLASSES[::-1])


def test_training_classes_that_the_index_does_not_name(tmp_path):
    a, b, c = write_lists(tmp_path)
    for path in (b, c):  # lists without class numbers
        path.write_text("".join(line.split()[0] + "\n" for line in path.read_text().split("\n") if line))
    a.write_text("1 BlueSpin\n2 BlueZoom\n")
    with pytest.raises(UsageError, match=r"that are not in classInd.txt: RedSpin, RedZoom"):
        splits.read_split(FakeCorpus(), str(b), str(c), a)
    a.write_text("1 Other\n2 Another\n")
    with pytest.raises(UsageError, match=r"not in classInd.txt: BlueSpin"):
        splits.read_split(FakeCorpus(), str(b), str(c), a, allow_missing=True)


@pytest.mark.parametrize("numbers", [True, False])
def test_written_lists_are_read_back(tmp_path, numbers):
    ids = ("a b.avi", "a\tb.avi", "c\u2028d.avi", "frames/e f", " g.avi", "h 1", "i\t2", "j\x85k", "l ")
    examples = Examples(ids, (0, 1, 0, 1, 0, 1, 0, 1, 0), ("A", "B"))
    write_list(tmp_path / "l.txt", examples, numbers=numbers)
    entries = lists.read_list(str(tmp_path / "l.txt"), set(ids))
    assert tuple(e.id for e in entries) == ids
    assert [e.index for e in entries] == [n + 1 if numbers else None for n in examples.labels]


@pytest.mark.parametrize(
    "line",
    [
        "v_{c}_g01_c01 29 {zero}",
        "/data/rgb/v_{c}_g01_c01 29 {zero}",
        "rawframes/{c}/v_{c}_g01_c01 0 29 {zero}",
        "{c}/v_{c}_g01_c01 {one}",
        "UCF-101/{c}/v_{c}_g01_c01.avi {one}",
        '"{c}/v_{c}_g01_c01.avi" "{c}"',
        "{c}/v_{c}_g01_c01.avi,{c}",
        "{c}/v_{c}_g01_c01.avi",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_form_of_a_list_is_matched(tmp_path, line, encoding):
    lines = [line.format(c=name, zero=k, one=k + 1) for k, name in enumerate(CLASSES)]
    (tmp_path / "l.txt").write_bytes("\r\n".join(["# comment", "", *lines]).encode(encoding))
    expected = [(f"{name}/v_{name}_g01_c01.avi", name) for name in CLASSES]
    assert match_list(str(tmp_path / "l.txt"), FakeCorpus(), CLASSES) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{c}/v_{c}_g01_c01.avi {zero}"], r"class number 0, but .* count from 1"),
        (["v_{c}_g01_c01 29 {one}"], r"the class numbers go from 1 to 4, but .* count from 0"),
        (["{c}/v_{c}_g01_c01.avi 9"], r"class number 9, but classInd.txt has classes 1 to 4"),
        (
            ["{c}/v_{c}_g01_c01.avi", "v_{c}_g01_c01"],
            r"named more than once: BlueSpin/v_BlueSpin_g01_c01.avi",
        ),
    ],
)
def test_wrong_numbers_and_repetitions_are_refused(tmp_path, lines, message):
    text = [line.format(c=name, zero=k, one=k + 1) for k, name in enumerate(CLASSES) for line in lines]
    with pytest.raises(UsageError, match=message):
        match_list(write(tmp_path / "l.txt", "\n".join(text)), FakeCorpus(), CLASSES)


def test_one_file_of_hmdb_is_no_list_of_a_part(tmp_path):
    source = write(tmp_path / "kick_test_split1.txt", "a_kick.avi 1 \nb_kick.avi 2 \n")
    with pytest.raises(UsageError, match=r"is one of HMDB-51's lists; write .*:train1 or :test1"):
        lists.read_list(source)


def test_only_decimal_digits_are_class_numbers(tmp_path):
    assert lists.read_list(write(tmp_path / "l.txt", "a.avi \u00b2\n")) == [
        ListEntry("a.avi", label="\u00b2")
    ]
    with pytest.raises(UsageError, match=r"is not `number name`"):
        lists.read_classes(tmp_path / write(tmp_path / "c.txt", "\u00b2 A\n"))


def test_classes_without_training_videos(tmp_path, caplog):
    more = "".join(f"{n} {c}\n" for n, c in enumerate([*CLASSES, "Green"], 1))
    refused(tmp_path, "1 of 5 classes have no training video: Green", index=more)
    a, b, c = write_lists(tmp_path)
    a.write_text(more)
    examples, _ = splits.read_split(FakeCorpus(), str(b), str(c), a, allow_missing=True)
    assert examples.classes == CLASSES
    assert "Green; left out" in caplog.text


def test_allow_missing_warns(tmp_path, caplog):
    a, b, c = write_lists(tmp_path)
    b.write_text(b.read_text() + "RedZoom/none_g9_1.avi 4\n")
    examples, _ = splits.read_split(FakeCorpus(), str(b), str(c), a, allow_missing=True)
    assert len(examples) == 24
    assert "1 of 25 videos are not in the corpus" in caplog.text and "none_g9_1.avi" in caplog.text


def test_empty_and_repeated(tmp_path):
    with pytest.raises(UsageError, match=r"the list is empty"):
        lists.read_list(write(tmp_path / "e.txt", "\r\n\n"))
    with pytest.raises(UsageError, match=r"named more than once: a.avi"):
        lists.read_list(write(tmp_path / "t.txt", "a.avi\nb.avi\na.avi\n"))
    with pytest.raises(UsageError, match=r"cannot be read"):
        lists.read_list(str(tmp_path / "none.txt"))
    with pytest.raises(UsageError, match=r"without gaps"):
        lists.read_classes(tmp_path / write(tmp_path / "c.txt", "1 A\n3 B\n"))


def test_leaks_are_refused(tmp_path):
    refused(
        tmp_path, "1 videos are in the training and in the test list", test="RedZoom/v_RedZoom_g02_c01.avi\n"
    )
    a, b, c = write_lists(tmp_path)
    moved = "RedZoom/v_RedZoom_g02_c01.avi"
    b.write_text(b.read_text().replace(f"{moved} 4\n", ""))
    c.write_text(c.read_text() + moved + "\n")
    with pytest.raises(
        UsageError, match=r"groups that are in the training and in the test list: RedZoom g0002"
    ):
        splits.read_split(FakeCorpus(), str(b), str(c), a)


def test_a_name_without_a_group_does_not_change_other_groups(tmp_path):
    ids = [f"A/v_A_g{g:02d}_c{k}.avi" for g in range(5) for k in range(3)] + ["A/odd.avi"]
    rest, held = splits.hold_out(Examples(tuple(ids), (0,) * 16, ("A", "B")), 0.4, seed=0)
    assert not set(recording_groups(rest.ids)) & set(recording_groups(held.ids))
    train, test = (Examples((i,), (0,), ("A", "B")) for i in (ids[0], ids[1]))
    odd = Examples((ids[0], ids[-1]), (0, 0), ("A", "B"))
    for one in (train, odd):
        with pytest.raises(UsageError, match=r"groups that are in the training and in the test list"):
            splits.check_leak(one, test)


def test_hold_out_keeps_groups_whole_and_equal_in_all_classes():
    ids = [f"{c}/v_{c}_g{g:02d}_c{k}.avi" for c in "AB" for g in range(10) for k in range(3)]
    examples = Examples(tuple(ids), tuple("AB".index(i[0]) for i in ids), ("A", "B"))
    rest, held = splits.hold_out(examples, 0.2, seed=3)
    assert len(held) == 12 and len(rest) == 48
    assert not set(recording_groups(rest.ids)) & set(recording_groups(held.ids))
    again = splits.hold_out(examples, 0.2, seed=3)
    assert again == (rest, held)
    assert splits.hold_out(examples, 0.2, seed=4) != again
    assert splits.hold_out(examples, 0.0, seed=3) == (examples, examples.subset([]))


def test_a_class_of_one_group_gives_nothing(caplog):
    ids = ("A/1.avi", "A/2.avi", "B/1.avi")
    rest, held = splits.hold_out(Examples(ids, (0, 0, 1), ("A", "B")), 0.5, seed=0)
    assert held.labels == (0,) and set(rest.labels) == {0, 1}
    assert "no video is held out of classes with a single group: B" in caplog.text


def test_classes_of_one_group_are_one_warning(caplog):
    ids = ("A/v_A_g01_c01.avi", "B/v_B_g01_c01.avi")
    splits.hold_out(Examples(ids, (0, 1), ("A", "B")), 0.5, seed=0)
    assert len(caplog.records) == 1 and "A, B" in caplog.text


def test_a_written_split_is_read_back(tmp_path):
    corpus = FakeCorpus()
    train, test = splits.write_split(corpus, tmp_path / "lists", test_share=0.25)
    assert sorted(train.ids + test.ids) == sorted(corpus)
    train_examples, test_examples = splits.read_split(
        corpus,
        str(tmp_path / "lists" / "trainlist01.txt"),
        str(tmp_path / "lists" / "testlist01.txt"),
        tmp_path / "lists" / "classInd.txt",
    )
    assert (train_examples, test_examples) == (train, test)
    with pytest.raises(UsageError, match=r"cannot be separated"):
        splits.write_split(FakeCorpus(clips=1), tmp_path / "none")
    assert not (tmp_path / "none").exists()
