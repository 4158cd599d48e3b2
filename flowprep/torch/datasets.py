"""Map-style data sets of clips."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from flowprep.clips.source import ClipSource, Key
from flowprep.corpus.reader import Corpus
from flowprep.errors import SettingsError
from flowprep.validation import check

Transform = Callable[[torch.Tensor], torch.Tensor]


class ClipDataset(Dataset[Any]):
    """Clips of a corpus as dictionaries of tensors.

    A key is the number of a clip, or (epoch, number) as ClipSampler gives them. With the second form, random
    choices depend on (seed, epoch, number) only. With the first they come from torch's generator, as in
    other data sets. A clip has the entries of `flowprep.ClipSource`, with `rgb` as (L, 3, h, w).

    Args:
        corpus: a corpus, its folder, or a ClipSource.
        length: L, the number of frames or pairs in a clip; 10 by default.
        transform: called with the pixels of each clip, (..., C, h, w), such as a transform of
            torchvision.transforms.v2. With several contents: a transform by content. Mirror with mirror=True
            instead of a transform: horizontal flow has to change its sign.
        options: further arguments of `flowprep.ClipSource`.

    Attributes:
        source: the ClipSource.
        classes: the names of the classes.

    Raises:
        UsageError, CorpusError: as ClipSource.
    """

    def __init__(
        self,
        corpus: str | Path | Corpus | ClipSource,
        length: int | None = None,
        *,
        transform: Transform | Mapping[str, Transform] | None = None,
        **options: Any,
    ) -> None:
        if length is not None:
            options = {"length": length, **options}
        known = list(inspect.signature(ClipSource).parameters)
        if unknown := [name for name in options if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[1:])}"
            raise SettingsError(f"there is no option {unknown[0]}; {hint}")
        self.source = corpus if isinstance(corpus, ClipSource) else ClipSource(corpus, **options)
        if isinstance(corpus, ClipSource) and options:
            raise SettingsError(f"{', '.join(options)}: with a ClipSource, its own options count")
        self._transforms = self._named_transforms(transform)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.source.classes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> ClipBatch:
        """Read several clips into one tensor for each entry. DataLoader calls it."""
        keys = [self._with_epoch(key) for key in keys]
        # What a worker has in shared memory already is not copied on its way.
        shared = {} if get_worker_info() is None else self._shared_tensors(keys)
        batch = self.source.batch(keys, {name: tensor.numpy() for name, tensor in shared.items()} or None)
        for name, value in batch.items():
            if isinstance(value, np.ndarray):
                batch[name] = shared.get(name, torch.from_numpy(value))
        if "rgb" in batch:
            batch["rgb"] = batch["rgb"].movedim(-1, -3)
        return ClipBatch(self._arrange(batch))

    def _arrange(self, batch: dict[str, Any]) -> Any:
        """A batch in the form in which the data set gives it."""
        for name, transform in self._transforms.items():
            batch[name] = torch.stack([transform(clip) for clip in batch[name]])
        return batch

    def _with_epoch(self, key: Key) -> Any:
        if isinstance(key, tuple) or not self.source.layout.random:
            return key
        return np.random.default_rng(int(torch.randint(2**63 - 1, ()))), key

    def _shared_tensors(self, keys: Sequence[Key]) -> dict[str, torch.Tensor]:
        """Tensors for a batch in memory that processes share, allocated as torch's default_collate does."""
        first, tensors = keys[0], {}
        for name, (shape, dtype) in self.source.shapes(
            first[1] if isinstance(first, tuple) else first
        ).items():
            flat = torch.from_numpy(np.empty(0, dtype))
            size = len(keys) * int(np.prod(shape))
            storage = flat._typed_storage()._new_shared(size)  # type: ignore[no-untyped-call]
            tensors[name] = flat.new(storage).view(len(keys), *shape)
        return tensors

    def _named_transforms(
        self, transform: Transform | Mapping[str, Transform] | None
    ) -> dict[str, Transform]:
        contents = self.source.contents
        if transform is None:
            return {}
        for function in transform.values() if isinstance(transform, Mapping) else (transform,):
            check(callable(function), "transform", repr(function), "a function of the pixels of a clip")
        if not isinstance(transform, Mapping):
            if len(contents) > 1:
                raise SettingsError(
                    f"transform has to be a dictionary of transforms for {', '.join(contents)}"
                )
            return {contents[0]: transform}
        if unknown := set(transform) - set(contents):
            raise SettingsError(f"transform for {', '.join(unknown)}; the clips have {', '.join(contents)}")
        return dict(transform)


class FlowDataset(ClipDataset):
    """Stacks of flow and their classes: items (stack, label).

    A stack is (2L, h, w) float32 in pixels: u and v of the first pair, of the second, and so on. Crops and
    segments are axes before these. The arguments are those of ClipDataset, without `content`. `transform` is
    called with the stack.
    """

    def __init__(
        self,
        corpus: str | Path | Corpus | ClipSource,
        length: int | None = None,
        *,
        transform: Transform | None = None,
        **options: Any,
    ) -> None:
        super().__init__(corpus, length, transform=transform, **options)
        if self.source.contents != ("flow",):
            raise SettingsError(f"content is {self.source.contents}; FlowDataset gives flow: use ClipDataset")

    def _arrange(self, batch: dict[str, Any]) -> Any:
        batch["flow"] = batch["flow"].flatten(-4, -3)
        batch = super()._arrange(batch)
        return batch["flow"], batch["label"]


def as_dataset(clips: ClipDataset | ClipSource) -> ClipDataset:
    """The data set itself, or the one of a source.

    Raises:
        SettingsError: it is something else.
    """
    allowed = "a ClipDataset, a FlowDataset or a ClipSource; choose a part of it by videos=, not by Subset"
    check(isinstance(clips, ClipDataset | ClipSource), "clips", f"a {type(clips).__name__}", allowed)
    return clips if isinstance(clips, ClipDataset) else ClipDataset(clips)


class ClipBatch(Sequence[Any]):
    """Clips that lie in one batch: a sequence of clips for any collate function.

    Attributes:
        batch: the batch, as `collate` returns it.
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(next(iter(self.batch.values())) if isinstance(self.batch, dict) else self.batch[0])

    def __getitem__(self, i: Any) -> Any:
        if isinstance(self.batch, dict):
            return {name: value[i] for name, value in self.batch.items()}
        return tuple(value[i] for value in self.batch)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def collate(clips: Sequence[Any]) -> Any:
    """The batch of clips, for DataLoader(collate_fn=collate). A ClipBatch is one already, without a copy."""
    return clips.batch if isinstance(clips, ClipBatch) else default_collate(list(clips))
