"""Export to folders of JPEGs, in the layouts of other tools, with their lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from flowprep.codec.quantise import EncodedField, encode_pair
from flowprep.convert.arrays import flow_of_pairs
from flowprep.convert.layouts import Layout, step_mark
from flowprep.convert.names import CLASSES_FILE, list_name
from flowprep.convert.output import ExportFolder, FolderResult
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.planning.class_index import format_class_index
from flowprep.settings import Settings


def write_image_folders(
    video: Video, out: ExportFolder, name: str, stored_at: int, layout: Layout, target: Settings | None
) -> FolderResult:
    """Write the images of one video, as far as its folders are not there.

    Args:
        video: the video.
        out: the export.
        name: relative path of the video's folder.
        stored_at: time of the video's shards, ns; older folders are replaced.
        layout: gives the names and numbers of the images.
        target: settings to recode flow with; None copies the stored JPEGs.

    Raises:
        CorpusDamaged: a stored image is damaged.
    """
    templates = {"rgb": layout.rgb, "flow_u": layout.u, "flow_v": layout.v}
    folders = {
        template: template.rpartition("/")[0].format(video=name)
        for stream, template in templates.items()
        if stream in video.streams
    }
    missing = {folder for folder in folders.values() if not out.is_done(folder, stored_at)}
    with ExitStack() as stack:
        paths = {folder: stack.enter_context(out.whole_folder(folder)) for folder in missing}

        def write(template: str, number: int, image: bytes) -> None:
            if folder := paths.get(folders[template]):
                file = template.rpartition("/")[2].format(step=step_mark(video.step), number=number)
                (folder / file).write_bytes(image)

        frames = 0
        if folders.get(layout.rgb) in missing:
            frames = len(frames_with_images(layout, video))
            for number, frame in enumerate(frames_with_images(layout, video), layout.first):
                write(layout.rgb, number, video.stored("rgb", frame))
        fields_per_pair = sum(folders.get(template) in missing for template in (layout.u, layout.v))
        if fields_per_pair:
            for number, (u, v) in enumerate(_encoded_pairs(video, target), layout.first):
                write(layout.u, number, u.jpeg)
                write(layout.v, number, v.jpeg)
    return FolderResult(bool(missing), frames, fields_per_pair * video.num_pairs)


def frames_with_images(layout: Layout, video: Video) -> range:
    """Indices of the frames that a layout has images of."""
    return range(layout.first_frame(video.step) if video.num_pairs else 0, video.num_frames)


def write_lists(
    out: ExportFolder,
    corpus: Corpus,
    layout: Layout,
    selections: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
    classes: Mapping[str, int],
) -> list[str]:
    """Write classInd.txt and, for each selection, lists of `folder count class` for images and for flow.

    Args:
        out: the export.
        corpus: the corpus of the videos.
        layout: says which frames have images.
        selections: name of each selection -> ids of its videos.
        names: id -> folder.
        classes: label -> number from 0, in the order of the numbers. A video without a label has class -1.

    Returns:
        Names of the files, sorted.
    """
    counters: dict[str, Callable[[Video], int]] = {}
    if corpus.settings.rgb:
        counters["rgb"] = lambda video: len(frames_with_images(layout, video))
    if corpus.settings.flow:
        counters["flow"] = lambda video: video.num_pairs
    texts = {CLASSES_FILE: format_class_index(list(classes))}
    for selection, ids in selections.items():
        for stream, count in counters.items():
            texts[f"{stream}_{list_name(selection)}.txt"] = "".join(
                f"{names[i]} {count(corpus[i])} {classes.get(corpus.labels[i], -1)}\n" for i in ids
            )
    for name, text in texts.items():
        out.write_text(name, text)
    return sorted(texts)


def _encoded_pairs(video: Video, target: Settings | None) -> Iterator[tuple[EncodedField, EncodedField]]:
    """Encoded u and v of all pairs: as stored, or recoded with the target settings."""
    if target is None:
        yield from video.fields(0, video.num_pairs)
        return
    for flow in flow_of_pairs(video):
        yield encode_pair(flow, target)
