"""Write a folder of sample clips, with lists of a split."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import SettingsError, UsageError
from flowprep.synthetic.clip import Clip, draw_scene, encode_mp4, plan_clips
from flowprep.synthetic.drawing import FIGURES
from flowprep.synthetic.motion import MOTIONS
from flowprep.system.atomic import atomic_path, remove_leftovers
from flowprep.system.files import read_regular
from flowprep.system.progress import Progress, no_progress

MAX_CLASSES = 2 * min(len(MOTIONS), len(FIGURES) - 1)
MAX_CLIPS = 198  # of a class
_ARGUMENTS_FILE = "samples.json"  # marks a folder of samples and stores its arguments


@dataclass(frozen=True)
class Samples:
    """The result of `write_samples`.

    Attributes:
        directory: the folder. The file of a clip is `directory / path`, with its path from a list.
        classes: names in the order of classInd.txt, which numbers them from 1.
        train, test: paths of clips, POSIX style, relative to the folder.
        lists: the folder with classInd.txt, trainlist01.txt and testlist01.txt.
        written: number of clips that this call encoded; the others were there.
    """

    directory: Path
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    lists: Path
    written: int

    @property
    def clips(self) -> int:
        """The number of clips of all classes."""
        return len(self.train) + len(self.test)


def write_samples(
    directory: str | Path,
    classes: int = 8,
    clips: int = 20,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Samples:
    """Write encoded clips in class folders, with UCF-101-style lists of a split.

    The clips are `<Class>/v_<Class>_g<group>_c<clip>.mp4`: 160x120 pixels, 25 frames per second, H.264. The
    lists are `splits/classInd.txt`, `trainlist01.txt` and `testlist01.txt`. The same arguments give the same
    clips. Clips of an earlier call with the same arguments are kept, so a stopped call can be repeated.

    The default of 8 classes x 20 clips has about 5,100 pairs: some 20 to 90 s of extraction on two cores.

    Args:
        directory: a new or empty folder, or one that this function wrote with the same arguments.
        classes: 2 to 16. Half of them differ by motion and half by appearance (one more by motion if odd).
        clips: clips of each class, 2 to 198, in groups of two (of one if there are fewer than four).
        seed: from 0. Another seed gives other backgrounds, positions and speeds.
        progress: called after each clip.

    Raises:
        SettingsError: classes, clips or seed is not in its range.
        UsageError: the folder holds something else, or samples with other arguments.
    """
    _check_range("classes", classes, 2, MAX_CLASSES)
    _check_range("clips", clips, 2, MAX_CLIPS)
    _check_range("seed", seed, 0, 2**32)
    directory = Path(directory)
    arguments = {"made by": "flowprep samples", "version": 1}
    _claim(directory, {**arguments, "classes": classes, "clips": clips, "seed": seed})
    plan = list(plan_clips(classes, clips, seed))
    names = tuple(sorted({clip.label for clip in plan}))
    train = tuple(clip.path for clip in plan if not clip.is_test)
    test = tuple(clip.path for clip in plan if clip.is_test)
    lists = directory / "splits"
    for folder in (lists, *(directory / name for name in names)):
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder)
    _write_lists(lists, names, train, test)
    written = _write_clips(directory, plan, progress)
    return Samples(directory, names, train, test, lists, written)


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if not (isinstance(value, int) and low <= value <= high):
        raise SettingsError(f"{name} is {value}; allowed: a whole number from {low} to {high}")


def _claim(directory: Path, arguments: Mapping[str, object]) -> None:
    """Create the folder, or check that it holds samples with the same arguments.

    Raises:
        UsageError: it holds something else.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a folder: give a new or an empty one")
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    file = directory / _ARGUMENTS_FILE
    if not file.exists():
        if any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty and holds no samples: give a new or an empty folder")
        _write_lines(file, [json.dumps(arguments, indent=1)])
        return
    try:
        stored = json.loads(read_regular(file))
    except ValueError as exc:
        raise UsageError(f"{file} does not hold the arguments of samples: give another folder") from exc
    if stored != arguments:
        stored = stored if isinstance(stored, dict) else {}
        differences = ", ".join(
            f"{name} {stored.get(name)} (now: {value})"
            for name, value in arguments.items()
            if stored.get(name) != value
        )
        raise UsageError(
            f"{directory} holds samples with {differences}: give another folder, or remove this one"
        )


def _write_lists(lists: Path, names: Sequence[str], train: Sequence[str], test: Sequence[str]) -> None:
    """Write classInd.txt, trainlist01.txt and testlist01.txt."""
    numbers = {name: number for number, name in enumerate(names, 1)}
    _write_lines(lists / "classInd.txt", [f"{number} {name}" for name, number in numbers.items()])
    _write_lines(lists / "trainlist01.txt", [f"{path} {numbers[path.split('/')[0]]}" for path in train])
    _write_lines(lists / "testlist01.txt", test)


def _write_clips(directory: Path, plan: Sequence[Clip], progress: Progress) -> int:
    """Write the clips that do not exist yet. Returns their number."""

    def write(clip: Clip) -> bool:
        path = directory / clip.path
        if path.exists():
            return False
        encode_mp4(path, draw_scene(clip).frames())
        return True

    written = 0
    # Drawing and encoding release Python's lock, so threads share the work.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, is_new in enumerate(pool.map(write, plan), 1):
            written += is_new
            progress(done, len(plan))
    return written


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
