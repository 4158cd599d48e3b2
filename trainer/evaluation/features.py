"""Outputs of a network for videos: means over clips and crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from flowprep.system.progress import Progress, no_progress
from trainer.data import dataset, transforms
from trainer.data.clip import Clip
from trainer.data.loaders import load_items
from trainer.data.sampling import ClipSpec
from trainer.errors import NotFinite
from trainer.recipe.schema import Recipe
from trainer.training import distributed
from trainer.training.device import autocast

if TYPE_CHECKING:
    from flowprep import Corpus

# Crops in a forward pass, or as many pixels of whole frames. So many keep a processor busy and fit its
# memory.
CROPS_PER_PASS = 128

Outputs = Callable[..., torch.Tensor]  # the network's inputs -> (crops, C)


def score_videos(
    model: nn.Module,
    corpus: Corpus,
    ids: Sequence[str],
    recipe: Recipe,
    *,
    classes: int,
    frames: int,
    crops: int,
    whole: bool = False,
    device: torch.device,
    precision: str = "float32",
    workers: int = 0,
    loader: str = "auto",
    progress: Progress = no_progress,
) -> np.ndarray:
    """Softmax scores of videos, averaged over `frames` equally spaced clips and `crops` crops of each clip.

    With test.average = "logits" in the recipe, the logits are averaged before the softmax.
    Under torchrun each process computes its share of the videos. All processes return all scores.

    Args:
        model: A network with logits (N, classes or more). It is put into evaluation mode.
        corpus: The corpus of the videos.
        ids: N video ids.
        recipe: The network's inputs.
        classes: C. Further outputs, of other heads, are ignored.
        frames: Clips of a video.
        crops: Crops of a clip: 1 (centre), 2 (and its flip), 5 (and four corners) or 10 (and their flips).
        whole: Whole frames instead of crops.
        device: The device of the model.
        precision: The precision of the model's computation, as `pick_precision` returns it.
        workers: Threads or processes that load. 0 loads when a clip is needed.
        loader: "threads", "processes", or "auto": see `trainer.data.loaders.pick_loader`.
        progress: Called after each clip.

    Returns:
        (N, C) float32. Each row has a sum of 1.

    Raises:
        NotFinite: A score is infinite or not a number.
    """
    model.eval()

    of_logits = recipe.test.average == "logits"

    def outputs(*inputs: torch.Tensor) -> torch.Tensor:
        logits = cast(torch.Tensor, model(*inputs)[:, :classes].float())
        return logits if of_logits else logits.softmax(1)

    sampling = Sampling(recipe, frames, crops, whole=whole)
    means = mean_outputs(
        outputs,
        classes,
        corpus,
        ids,
        sampling,
        device,
        precision,
        workers=workers,
        loader=loader,
        progress=progress,
    )
    return torch.from_numpy(means).softmax(1).numpy() if of_logits else means


def video_features(
    model: nn.Module,
    corpus: Corpus,
    ids: Sequence[str],
    sampling: Sampling,
    device: torch.device,
    precision: str,
    *,
    workers: int = 0,
    loader: str = "auto",
    progress: Progress = no_progress,
) -> np.ndarray:
    """Mean over clips and crops of the vectors that the network's method `features` returns.

    Args:
        model: A network whose `SPEC.features` is true. It is put into evaluation mode.
        corpus, ids, sampling, device, precision, workers, loader, progress: as for `mean_outputs`.

    Returns:
        (N, num_features) float32.
    """
    model.eval()
    network = cast(Any, model)

    def features(*inputs: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, network.features(*inputs).float())

    return mean_outputs(
        features,
        network.num_features,
        corpus,
        ids,
        sampling,
        device,
        precision,
        workers=workers,
        loader=loader,
        progress=progress,
    )


class Sampling:
    """The clips and crops of a video that a network sees in evaluation.

    Args:
        recipe: The network's inputs.
        frames: Clips of a video.
        crops: Crops of a clip.
        whole: Whole frames instead of crops.
    """

    def __init__(self, recipe: Recipe, frames: int, crops: int, *, whole: bool = False) -> None:
        self.recipe, self.frames, self.crops, self.whole = recipe, frames, crops, whole
        self.clip = ClipSpec.from_recipe(recipe, evaluation=True)

    def crop(self, clip: Clip) -> tuple[Clip, torch.Tensor]:
        """The K distinct crops of a clip, or its whole frames, and how often each counts, (K,)."""
        side = 0 if self.whole else self.recipe.input.crop
        return transforms.distinct_crops(clip, side, self.crops, self.recipe.stream)

    def is_full(self, clips: Sequence[Clip]) -> bool:
        """Whether these cropped clips are enough for a forward pass."""
        crops, (height, width) = len(clips[0].planes), clips[0].planes.shape[-2:]
        area = height * width / self.recipe.input.crop**2  # 1, except for whole frames
        return len(clips) * crops * max(1, self.clip.time_steps) * area >= CROPS_PER_PASS

    def clip_bytes(self, corpus: Corpus, ids: Sequence[str]) -> int:
        """Bytes of the largest clip of these videos, before it is cropped."""
        short = self.recipe.input.resize
        sizes = (transforms.resized_shape(v.width, v.height, short) for v in (corpus[i] for i in ids))
        return 4 * self.clip.planes * max(width * height for width, height in sizes)


def mean_outputs(
    outputs: Outputs,
    size: int,
    corpus: Corpus,
    ids: Sequence[str],
    sampling: Sampling,
    device: torch.device,
    precision: str,
    *,
    workers: int = 0,
    loader: str = "auto",
    progress: Progress = no_progress,
) -> np.ndarray:
    """Mean over clips and crops of a function of the network's inputs.

    Clips and crops that coincide are computed once, and counted as often as they occur.

    Args:
        outputs: A function from the inputs of B crops to outputs (B, C).
        size: C.
        corpus, ids: N videos.
        sampling: The clips and crops of a video.
        device: The device of the inputs.
        precision: The precision of the computation.
        workers, loader: As for `score_videos`.
        progress: Called after each clip.

    Returns:
        (N, C) float32.

    Raises:
        NotFinite: A mean is infinite or not a number.
    """
    own = range(distributed.rank(), len(ids), distributed.world_size())
    clips = dataset.EvalClips(corpus, tuple(ids[i] for i in own), sampling.recipe, sampling.frames)
    loaded = load_items(clips, workers, loader, sampling.clip_bytes(corpus, ids))
    sums = torch.zeros(len(ids), size)
    rows: list[int] = []  # row of `sums` of each waiting clip
    waiting: list[Clip] = []
    counts: list[torch.Tensor] = []  # how often each crop of each waiting clip counts

    def run_waiting() -> None:
        batch = sampling.clip.tensors(Clip(*map(torch.cat, zip(*waiting, strict=True))).to(device))
        with torch.inference_mode(), autocast(precision, device):
            values = outputs(*batch)
        each = torch.stack(counts).to(values).unsqueeze(2)  # (clips, K, 1)
        by_clip = (values.view(*each.shape[:2], -1) * each).sum(1).cpu() / sampling.crops  # (clips, C)
        sums.index_add_(0, torch.tensor(rows), by_clip)
        for part in (rows, waiting, counts):
            part.clear()

    done, total = 0, len(ids) * sampling.frames
    with closing(loaded):
        for count, (position, clip) in zip(clips.counts, loaded, strict=True):
            cropped, crop_counts = sampling.crop(clip)
            if waiting and cropped.planes.shape != waiting[0].planes.shape:  # whole frames of another size
                run_waiting()
            rows.append(own[position])
            waiting.append(cropped)
            counts.append(count * crop_counts)
            if sampling.is_full(waiting):
                run_waiting()
            done += count
            progress(min(total, done * distributed.world_size()), total)
    if waiting:
        run_waiting()
    means = distributed.all_reduce_sum(sums.to(device)).cpu() / sampling.frames
    _check_finite(means, ids)
    return means.numpy()


def _check_finite(values: torch.Tensor, ids: Sequence[str]) -> None:
    if invalid := [video for video, row in zip(ids, values, strict=True) if not torch.isfinite(row).all()]:
        raise NotFinite(
            f"the network's scores of {len(invalid)} videos ({invalid[0]}, ...) are not finite: "
            "its training diverged"
        )
