"""Training one stream: reads top to bottom.

What is seen and dropped in a step follows from the recipe alone, and everything else that changes during a
run is in the checkpoint, so that a resumed run takes the very steps that an uninterrupted one would have
taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from flowprep.errors import UsageError
from trainer.data import dataset, loading, splits
from trainer.data.annotations import Examples, append_examples, write_list
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec
from trainer.errors import TrainingDiverged
from trainer.evaluation.evaluate import score_videos
from trainer.models import layers, objective, registry, weights
from trainer.recipe.schema import Recipe, TrainRecipe
from trainer.training import checkpoint, distributed
from trainer.training.checkpoint import BEST, LAST, Checkpoint
from trainer.training.device import autocast, pick_device, pick_precision
from trainer.training.run_folder import LOG, TRAIN_LIST, VALIDATION_LIST

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    corpus: Corpus,
    examples: Examples,
    out: Path,
    *,
    multi_task: Sequence[tuple[Corpus, Examples]] = (),
    add_classes: Sequence[tuple[Corpus, Examples]] = (),
    resume: bool = False,
    device: str = "auto",
    workers: int = 0,
    compiled: bool = False,
    on_step: Callable[[int, dict[str, Any] | None], object] | None = None,
) -> bool:
    """Train a network into the folder `out`.

    Several processes share each batch, and a step is the whole batch's whatever their
    number. Batch normalisation and dropout see what passes at once: where that is the same (micro_batch), so
    are the losses, but for rounding.

    Args:
        recipe: everything that decides the outcome.
        corpus, examples: the training videos; the recipe's validation share is held out from them.
        out: the run's folder: see trainer.training.checkpoint.
        multi_task: further data sets, each with a head of its own on the same trunk. Every head has the same
            share of a batch, a sample counts for its own head only, and the heads' losses are summed
            (Simonyan, Zisserman 2014, section 3.2). Only the first head is validated and judged.
        add_classes: further data sets whose classes the first head learns beside its own.
        resume: go on from the last checkpoint, or from the beginning where there is none.
        device: "auto", "cpu", "cuda", ...
        workers: loader processes; 0 loads in this one. The number changes nothing but the speed.
        compiled: compile the network with torch.compile, which takes a minute and saves time afterwards. Its
            dropout then draws other numbers; without dropout the losses are the same but for rounding.
        on_step: called after each step with the number of steps done and, when one was written, the row
            of the log: step, loss, lr, train_accuracy, clips_per_second, data_wait (share of the time), and
            after a validation val_accuracy and val_loss.

    Returns:
        False when the run was finished before, True when it is now.

    Raises:
        NotFinite: the loss, a weight or a score is not finite.
        UsageError: `out` holds a run and `resume` is not given, or it is a run of another recipe, list or
            corpus; the corpus does not fit the recipe; an added class is one of those that are there.
    """
    # --- what there is to learn from
    module = registry.check_recipe(recipe)
    sources = [(corpus, examples), *multi_task, *add_classes]
    for where_from, some in sources:
        loading.check_fit(where_from, some.ids, recipe)
        if differs := corpus.settings.differences(where_from.settings):
            log.warning("%s and %s differ: %s", corpus.path, where_from.path, "; ".join(differs))
    rest, held = splits.hold_out(examples, recipe.train.validation_share, recipe.seed)
    if recipe.train.keep == "best" and not len(held):
        raise UsageError("train.keep is 'best', but no video can be held out to choose by; set it to 'last'")
    first = [(corpus, rest)]
    for where_from, some in add_classes:
        first.append((where_from, append_examples(first[-1][1].classes, some)))
    heads = [first, *([one] for one in multi_task)]
    sizes = [len(head[-1][1].classes) for head in heads]  # outputs of each
    for where_from, some in multi_task:
        if len(some.classes) < 2:
            raise UsageError(
                f"{where_from.path} has the class {some.classes[0]!r} only; of a head's data set two are "
                "needed: give a list that names the class of each video"
            )
    if recipe.train.batch < len(heads):
        raise UsageError(f"train.batch is {recipe.train.batch}; allowed: one sample per head, {len(heads)}")
    digest = _digest(sources, sizes)
    former = _former(out, recipe, corpus, examples.classes, digest, resume)
    if former and former.step >= recipe.train.steps:
        return False
    parts = distributed.microbatches(recipe.train.batch, recipe.train.micro_batch)

    # --- network and optimiser
    where = pick_device(device)
    # A run goes on as it began, also on a device that "auto" would choose otherwise for.
    precision = pick_precision(former.precision if former else recipe.train.precision, where)
    torch.manual_seed(recipe.seed)
    # The heads are one layer, side by side.
    model = registry.make_model(recipe, sum(sizes))
    if former:
        model.load_state_dict(former.model)
    else:
        weights.start_from_weights(model, recipe, [n for head in heads for n in head[-1][1].classes])
    if recipe.model.trainable == "last":
        weights.freeze_all_but(model, module.SPEC.last_layers)
    layers.channels_last(model.to(where))
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=recipe.train.lr,
        momentum=recipe.train.momentum,
        weight_decay=recipe.train.weight_decay,
    )
    scaler = torch.amp.GradScaler(where.type, enabled=precision == "float16")
    start, best = 0, None
    if former:
        start, best = former.step, former.best
        optimizer.load_state_dict(former.optimizer)
        scaler.load_state_dict(former.scaler)
    if compiled:
        model.compile()
    learner = DistributedDataParallel(model) if distributed.world_size() > 1 else None
    batches = _batches(recipe, heads, parts, start, workers, pin=where.type == "cuda")

    def state(done: int, optimizer: torch.optim.Optimizer | None) -> Checkpoint:
        return Checkpoint(
            recipe=recipe,
            classes=examples.classes,
            heads=tuple(sizes),
            corpus=corpus.settings,
            examples=digest,
            step=done,
            model=model.state_dict(),
            optimizer=optimizer.state_dict() if optimizer else {},
            scaler=scaler.state_dict(),
            best=best,
            precision=precision,
        )

    # --- the steps
    if main := distributed.rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        write_list(out / TRAIN_LIST, rest)
        write_list(out / VALIDATION_LIST, held)
    log.info(
        "%s: %d videos to train on, %d held out, %s classes, %.2f M parameters, on %s in %s",
        recipe.stream,
        sum(len(some) for head in heads for _, some in head),
        len(held),
        " + ".join(map(str, sizes)),
        sum(p.numel() for p in model.parameters()) / 1e6,
        where,
        precision,
    )
    log.info(
        "each step takes a batch of %d; processes: %d, passes of each: %d, samples of a pass: up to %d",
        recipe.train.batch,
        distributed.world_size(),
        -(-len(parts) // distributed.world_size()),
        max(map(len, parts)),
    )
    mine = range(distributed.rank(), len(parts), distributed.world_size())
    lengths = [len(parts[part]) for part in mine]
    sample = ClipSpec.from_recipe(recipe)
    # Samples of each head in a batch.
    counts = [len(range(h, recipe.train.batch, len(heads))) for h in range(len(heads))]
    with closing(_Log(out, start)) as writer:
        for step in range(start, recipe.train.steps):
            weights.set_training(model)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe.train, step)

            waited = time.perf_counter()
            # This process's share of the batch: planes (B, ..., S, S), classes (B,), heads (B,)
            clip, y, head = next(batches)
            writer.waited += time.perf_counter() - waited

            optimizer.zero_grad(set_to_none=True)
            pieces = (torch.split(t, lengths) for t in (*clip, y, head))
            for part, planes, gain, bias, y, head in zip(mine, *pieces, strict=True):
                # float32, (b, C, S, S) or (b, C, T, S, S); of a joint network two of them
                x = sample.tensors(Clip(planes, gain, bias).to(where))
                y, head = y.to(where, non_blocking=True), head.to(where, non_blocking=True)
                # Dropout follows from the step and the part, whichever process and run it is in.
                torch.manual_seed(_seed(recipe.seed, step, part))
                # Gradients of several passes meet once, in the last.
                with learner.no_sync() if learner and part != mine[-1] else nullcontext():
                    with autocast(precision, where), _enough_samples(len(y)):
                        logits = (learner or model)(*x)  # (b, classes of all heads[, K]): see models
                    loss, right = _loss(model, logits.float(), y, head, sizes, counts)
                    # The sum over the parts is the batch's loss; processes' gradients are averaged.
                    scaler.scale(loss * distributed.world_size()).backward()  # type: ignore[no-untyped-call]
                writer.add(loss.detach(), right)
            scaler.step(optimizer)
            scaler.update()
            writer.count(recipe.train.batch)

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
                    distributed.broadcast_buffers(model)
                    row = _validate(model, corpus, held, recipe, where, precision, workers)
            if row or saves or done % recipe.train.log_every == 0:
                row = writer.write(done, learning_rate(recipe.train, step), row)
            if "val_accuracy" in row and recipe.train.keep == "best":
                quality = (row["val_accuracy"], -row["val_loss"])
                if best is None or quality > best:
                    best = quality
                    if main:
                        with writer.pause():
                            checkpoint.save(out / BEST, state(done, None))
            if saves and main:
                with writer.pause():
                    checkpoint.save(out / LAST, state(done, optimizer))
            if on_step:
                on_step(done, row or None)
    distributed.barrier()  # the first may still be writing what the others will judge by
    return True


@contextmanager
def _enough_samples(count: int) -> Iterator[None]:
    """Say what to do where batch normalisation has one value per channel to take the spread of."""
    try:
        yield
    except ValueError as exc:
        if "more than 1 value per channel" not in str(exc):
            raise
        raise UsageError(
            f"{count} sample passes through the network at once, of which its batch normalisation takes no "
            "mean and spread: set train.micro_batch, and train.batch, so that every pass has two or more"
        ) from exc


def _loss(
    model: torch.nn.Module,
    logits: torch.Tensor,
    y: torch.Tensor,
    head: torch.Tensor,
    sizes: list[int],
    counts: list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The heads' losses, each the mean over its samples of the whole batch, summed.

    Args:
        model: says what a sample costs: see models.losses.
        logits: (b, sum of sizes) or (b, sum of sizes, K), the heads side by side.
        y: (b,) class of each sample, within its head.
        head: (b,) the head that a sample is of; it counts for no other.
        sizes: classes of each head.
        counts: samples of each head in the whole batch, of which these b are a part.

    Returns:
        The part's share of the loss, and how many samples are right: see objective.class_scores.
    """
    loss, right = logits.new_zeros(()), torch.zeros_like(y[0])
    for h, columns in enumerate(torch.split(logits, sizes, 1)):
        target = y.where(head == h, -100)  # what the losses leave out
        loss = loss + objective.losses(model, columns, target).sum() / counts[h]
        right = right + (objective.class_scores(model, columns.detach()).argmax(1) == target).sum()
    return loss, right


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def learning_rate(recipe: TrainRecipe, step: int) -> float:
    """The rate of step `step`, counted from 0: `lr`, times `factor` for each milestone that is reached."""
    return recipe.lr * recipe.factor ** sum(step >= milestone for milestone in recipe.milestones)


class _Steps:
    """The keys of each step's samples, (step, i), for a data loader."""

    def __init__(self, steps: range, samples: Sequence[int]) -> None:
        self._steps, self._samples = steps, samples

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self._steps:
            yield [(step, i) for i in self._samples]


def _batches(
    recipe: Recipe,
    heads: Sequence[Sequence[tuple[Corpus, Examples]]],
    parts: Sequence[np.ndarray],
    start: int,
    workers: int,
    *,
    pin: bool,
) -> Iterator[tuple[Clip, torch.Tensor, torch.Tensor]]:
    """This process's parts of the batches of the steps from `start` on."""
    mine = np.concatenate(parts[distributed.rank() :: distributed.world_size()]).tolist()
    planes = ClipSpec.from_recipe(recipe).planes
    workers = dataset.workers_that_fit(workers, 4 * len(mine) * planes * recipe.input.crop**2)
    clips = dataset.TrainingClips(heads, recipe)
    steps = _Steps(range(start, recipe.train.steps), mine)
    return iter(
        dataset.make_loader(
            clips, workers, batch_sampler=steps, collate_fn=dataset.batch_clips, pin_memory=pin
        )
    )


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
        classes=len(held.classes),
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
    """log.jsonl and TensorBoard, by the first process; each row is of the steps since the row before."""

    def __init__(self, out: Path, start: int) -> None:
        self._clear()
        self._path = path = out / LOG
        self._file: IO[str] | None = None
        if distributed.rank():
            return
        from torch.utils.tensorboard import SummaryWriter

        kept = []
        if start and path.exists():  # rows after the checkpoint are of steps that will be taken again
            rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= start]
        path.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        # TensorBoard drops rows from this step on; that of the checkpoint stays.
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)

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
        sums = torch.stack([torch.stack(s).double().sum() for s in (self._losses, self._right)])
        loss, right = distributed.all_reduce_sum(sums).tolist()
        row = {
            "step": step,
            "loss": loss / self._steps,
            "lr": lr,
            "train_accuracy": right / self._samples,
        }
        if not math.isfinite(row["loss"]):
            raise TrainingDiverged(f"the loss is {row['loss']} at step {step}: try a lower train.lr")
        seconds = time.perf_counter() - self._since
        row |= {
            "clips_per_second": round(self._samples / seconds, 1),
            "data_wait": round(self.waited / seconds, 3),
        }
        row |= more
        self._clear()
        if self._file:
            with checkpoint.named(self._path):
                self._file.write(json.dumps(row) + "\n")
                self._file.flush()
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, step)
        return row

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._board.close()


def _former(
    out: Path, recipe: Recipe, corpus: Corpus, classes: tuple[str, ...], digest: str, resume: bool
) -> Checkpoint | None:
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
    if former.examples != digest or former.classes != classes:
        differs.append("the training list, the order of classes, or further data sets")
    if differs:
        raise UsageError(
            f"{out} was started with another recipe (there, now): {'; '.join(differs)}. "
            "Resume with the former one, or start a new run with another --out"
        )
    log.info("%s goes on from step %d", out, former.step)
    return former


def _digest(sources: Sequence[tuple[Corpus, Examples]], sizes: Sequence[int]) -> str:
    # The first corpus's settings are held against the checkpoint's own.
    rows = [
        [e.ids, [e.classes[n] for n in e.labels], c.settings.digest() if k else ""]
        for k, (c, e) in enumerate(sources)
    ]
    return hashlib.sha256(json.dumps([rows, list(sizes)]).encode()).hexdigest()
