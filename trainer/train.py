"""Training one stream: reads top to bottom.

What is seen in a step follows from the recipe alone, and everything else that changes during a run is in
the checkpoint, so that a resumed run takes the very steps that an uninterrupted one would have taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from flowprep.errors import UsageError
from trainer import checkpoint, inputs, lists, models
from trainer.checkpoint import BEST, LAST, Checkpoint
from trainer.evaluate import NotFinite, autocast, pick_device, pick_precision, score_videos
from trainer.lists import Examples
from trainer.recipe import Recipe, TrainRecipe

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)

LOG, TRAIN_LIST, VALIDATION_LIST = "log.jsonl", "trainlist.txt", "validationlist.txt"


class TrainingDiverged(NotFinite):
    """The loss or a weight is no number any more; the last checkpoint is from before."""


def train(
    recipe: Recipe,
    corpus: Corpus,
    examples: Examples,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    workers: int = 0,
    on_step: Callable[[int, dict[str, Any] | None], object] | None = None,
) -> bool:
    """Train a network into the folder `out`.

    Args:
        recipe: everything that decides the outcome.
        corpus, examples: the training videos; the recipe's validation share is held out from them.
        out: the run's folder: see trainer.checkpoint.
        resume: go on from the last checkpoint, or from the beginning where there is none.
        device: "auto", "cpu", "cuda", ...
        workers: loader processes; 0 loads in this one. The number changes nothing but the speed.
        on_step: called after each step with the number of steps done and, when one was written, the row
            of the log: step, loss, lr, train_accuracy, clips_per_second, data_wait (share of the time), and
            after a validation val_accuracy and val_loss.

    Returns:
        False when the run was finished before, True when it is now.

    Raises:
        NotFinite: the loss, a weight or a score is not finite.
        UsageError: `out` holds a run and `resume` is not given, or it is a run of another recipe, list or
            corpus; the corpus does not fit the recipe.
    """
    # --- what there is to learn from
    module = models.find(recipe)
    inputs.check_fit(corpus, examples.ids, recipe)
    rest, held = lists.hold_out(examples, recipe.train.validation_share, recipe.seed)
    if recipe.train.keep == "best" and not len(held):
        raise UsageError("train.keep is 'best', but no video can be held out to choose by; set it to 'last'")
    former = _former(out, recipe, corpus, examples, resume)
    if former and former.step >= recipe.train.steps:
        return False
    out.mkdir(parents=True, exist_ok=True)
    lists.write_list(out / TRAIN_LIST, rest)
    lists.write_list(out / VALIDATION_LIST, held)

    # --- network and optimiser
    where = pick_device(device)
    # A run goes on as it began, also on a device that "auto" would choose otherwise for.
    precision = pick_precision(former.precision if former else recipe.train.precision, where)
    torch.manual_seed(recipe.seed)
    model = models.make_model(recipe, len(examples.classes))
    if former:
        model.load_state_dict(former.model)
    elif recipe.model.weights:
        models.load_weights(model, Path(recipe.model.weights), module.LAST)
    if recipe.model.trainable == "last":
        models.freeze_all_but(model, module.LAST)
    model.to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=recipe.train.lr,
        momentum=recipe.train.momentum,
        weight_decay=recipe.train.weight_decay,
    )
    start, best = 0, None
    if former:
        start, best = former.step, former.best
        optimizer.load_state_dict(former.optimizer)
    batches = _batches(recipe, corpus, rest, start, workers, pin=where.type == "cuda")
    if former:
        _set_random(former.random, where)

    def state(done: int, optimizer: torch.optim.Optimizer | None) -> Checkpoint:
        return Checkpoint(
            recipe=recipe,
            classes=examples.classes,
            corpus=corpus.settings,
            examples=_digest(examples),
            step=done,
            model=model.state_dict(),
            optimizer=optimizer.state_dict() if optimizer else {},
            random=_random(where),
            best=best,
            precision=precision,
        )

    # --- the steps
    log.info(
        "%s: %d videos to train on, %d held out, %d classes, %.2f M parameters, on %s",
        recipe.stream,
        len(rest),
        len(held),
        len(examples.classes),
        sum(p.numel() for p in model.parameters()) / 1e6,
        where,
    )
    micro = recipe.train.micro_batch or recipe.train.batch
    with closing(_Log(out, start)) as writer:
        for step in range(start, recipe.train.steps):
            models.set_training(model)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe.train, step)

            waited = time.perf_counter()
            x, y = next(batches)  # (B, C, S, S) float32, (B,) int64
            writer.waited += time.perf_counter() - waited

            optimizer.zero_grad(set_to_none=True)
            for part, target in zip(torch.split(x, micro), torch.split(y, micro), strict=True):
                part = part.to(where, memory_format=torch.channels_last, non_blocking=True)
                target = target.to(where, non_blocking=True)
                with autocast(precision, where):
                    logits = model(part)  # (b, classes)
                # The sum over the parts is the mean over the batch, however it is divided.
                loss = F.cross_entropy(logits.float(), target, reduction="sum") / len(y)
                loss.backward()  # type: ignore[no-untyped-call]
                writer.add(loss.detach(), (logits.detach().argmax(1) == target).sum())
            optimizer.step()
            writer.count(len(y))

            done = step + 1
            last = done == recipe.train.steps
            row: dict[str, Any] = {}
            validates = len(held) > 0 and (last or done % recipe.train.validate_every == 0)
            saves = last or done % recipe.train.checkpoint_every == 0
            if validates or saves:
                with writer.pause():
                    _check_finite(model, done)
            if validates:
                with writer.pause():
                    row = _validate(model, corpus, held, recipe, where, precision, workers)
            if row or saves or done % recipe.train.log_every == 0:
                row = writer.write(done, learning_rate(recipe.train, step), row)
            if "val_accuracy" in row and recipe.train.keep == "best":
                quality = (row["val_accuracy"], -row["val_loss"])
                if best is None or quality > best:
                    best = quality
                    with writer.pause():
                        checkpoint.save(out / BEST, state(done, None))
            if saves:
                with writer.pause():
                    checkpoint.save(out / LAST, state(done, optimizer))
            if on_step:
                on_step(done, row or None)
    return True


def learning_rate(recipe: TrainRecipe, step: int) -> float:
    """The rate of step `step`, counted from 0: `lr`, times `factor` for each milestone that is reached."""
    return recipe.lr * recipe.factor ** sum(step >= milestone for milestone in recipe.milestones)


class _Steps:
    """The keys of each step's samples, (step, i), for a data loader."""

    def __init__(self, start: int, recipe: TrainRecipe) -> None:
        self._steps, self._batch = range(start, recipe.steps), recipe.batch

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self._steps:
            yield [(step, i) for i in range(self._batch)]


def _batches(
    recipe: Recipe, corpus: Corpus, examples: Examples, start: int, workers: int, *, pin: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of the steps from `start` on."""
    size = 4 * recipe.train.batch * recipe.channels * recipe.input.crop**2
    workers = inputs.workers_that_fit(workers, size)
    clips = inputs.TrainingClips(corpus, examples.ids, examples.labels, recipe)
    return iter(inputs.make_loader(clips, workers, batch_sampler=_Steps(start, recipe.train), pin_memory=pin))


def _validate(
    model: torch.nn.Module,
    corpus: Corpus,
    held: Examples,
    recipe: Recipe,
    device: torch.device,
    precision: str,
    workers: int,
) -> dict[str, Any]:
    scores = score_videos(
        model,
        corpus,
        held.ids,
        recipe,
        frames=recipe.train.validation_frames,
        crops=1,
        device=device,
        precision=precision,
        workers=workers,
    )
    labels = np.array(held.labels)
    probability = scores[np.arange(len(labels)), labels]
    return {
        "val_accuracy": float((scores.argmax(1) == labels).mean()),
        "val_loss": float(-np.log(np.maximum(probability, 1e-12)).mean()),
    }


def _check_finite(model: torch.nn.Module, step: int) -> None:
    """Weights and statistics that are no numbers must neither be saved nor judged."""
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise TrainingDiverged(f"{name} is not finite at step {step}: try a lower train.lr")


class _Log:
    """log.jsonl and TensorBoard; each row is of the steps since the row before."""

    def __init__(self, out: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = out / LOG
        kept = []
        if start and path.exists():  # rows after the checkpoint are of steps that will be taken again
            rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= start]
        path.write_text("".join(kept), encoding="utf-8")
        self._file, self._path = path.open("a", encoding="utf-8"), path
        # TensorBoard drops rows from this step on; that of the checkpoint stays.
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)
        self._clear()

    def _clear(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._right: list[torch.Tensor] = []
        self._steps = self._samples = 0
        self.waited = 0.0
        self._since = time.perf_counter()

    def add(self, loss: torch.Tensor, right: torch.Tensor) -> None:
        # Kept as tensors: a number would make a GPU finish before the next step can be sent to it.
        self._losses.append(loss)
        self._right.append(right)

    def count(self, samples: int) -> None:
        self._steps += 1
        self._samples += samples

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out of the speed what is not training."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def write(self, step: int, lr: float, more: dict[str, Any]) -> dict[str, Any]:
        row = {
            "step": step,
            "loss": float(torch.stack(self._losses).double().sum()) / self._steps,
            "lr": lr,
            "train_accuracy": int(torch.stack(self._right).sum()) / self._samples,
        }
        if not math.isfinite(row["loss"]):
            raise TrainingDiverged(f"the loss is {row['loss']} at step {step}: try a lower train.lr")
        seconds = time.perf_counter() - self._since
        row |= {
            "clips_per_second": round(self._samples / seconds, 1),
            "data_wait": round(self.waited / seconds, 3),
        }
        row |= more
        with checkpoint.named(self._path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, step)
        self._clear()
        return row

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _former(out: Path, recipe: Recipe, corpus: Corpus, examples: Examples, resume: bool) -> Checkpoint | None:
    """The checkpoint to resume from, if it is of the same run."""
    if not (out / LAST).exists():
        if resume:
            log.info("%s has no checkpoint yet: starting from the beginning", out)
        return None
    if not resume:
        raise UsageError(
            f"{out} holds a training run; --resume goes on with it, another --out starts a new one"
        )
    former = checkpoint.load(out / LAST)
    differs = former.recipe.differences(recipe)
    differs += [f"corpus {line}" for line in former.corpus.differences(corpus.settings)]
    if former.examples != _digest(examples) or former.classes != examples.classes:
        differs.append("the training list or the order of classes")
    if differs:
        raise UsageError(
            f"{out} was started with another recipe (there, now): {'; '.join(differs)}. "
            "Resume with the former one, or start a new run with another --out"
        )
    return former


def _digest(examples: Examples) -> str:
    text = json.dumps([examples.ids, [examples.classes[n] for n in examples.labels]])
    return hashlib.sha256(text.encode()).hexdigest()


def _random(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
