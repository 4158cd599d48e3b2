"""Training of one network.

The samples and the dropout of a step follow from the recipe and the number of the step. The checkpoint holds
everything else that changes during a run. A resumed run therefore takes the same steps as a run that was not
interrupted: on a CPU bit by bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from flowprep.errors import UsageError
from trainer.data.annotations import Examples
from trainer.data.clip import Clip
from trainer.data.dataset import TrainingClips
from trainer.data.loaders import BatchLoader
from trainer.data.sampling import ClipSpec
from trainer.errors import TrainingDiverged
from trainer.evaluation.features import score_videos
from trainer.evaluation.scores import FOLD_SCORES, TEST_SCORES, VALIDATION_SCORES
from trainer.models import layers, registry, weights
from trainer.recipe.schema import Recipe
from trainer.training import batch_norm, checkpoint, distributed, run_folder
from trainer.training.checkpoint import Checkpoint
from trainer.training.device import autocast, pick_device
from trainer.training.heads import TrainingData, heads_loss, prepare_data
from trainer.training.metrics_log import LogRow, MetricsLog, StepMetrics, Validation
from trainer.training.optimiser import make_optimiser, make_scaler, set_learning_rate
from trainer.training.precision import checked_precision, training_precision
from trainer.training.resume import find_previous
from trainer.training.run_folder import BEST, LAST
from trainer.training.schedule import dropout_seed, learning_rate

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)

OnStep = Callable[[int, "LogRow | None"], object]


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
    loader: str = "auto",
    compiled: bool = False,
    on_step: OnStep | None = None,
) -> bool:
    """Train a network into the folder `out`.

    Several processes share each batch, and the step is that of the whole batch. Batch normalisation and
    dropout see the samples of one pass. If the passes are the same (train.micro_batch), the losses, weights
    and running statistics of one process and of several processes differ by rounding only.

    Args:
        recipe: everything that decides the result.
        corpus, examples: the training videos. The recipe's validation share is held out from them.
        out: the run's folder: see trainer.training.run_folder.
        multi_task: further data sets; each has a head of its own on the same network (Simonyan, Zisserman
            2014, section 3.2). Every head has the same share of a batch. A sample counts for its own head
            only, and the losses of the heads are added. Only the first head is validated and evaluated.
        add_classes: further data sets whose classes the first head learns in addition.
        resume: continue from the last checkpoint, or begin where there is none. A finished run with more
            train.steps is prolonged. `trainer.training.resume` lists what else may change.
        device: "auto", "cpu", "cuda", ...
        workers: threads or processes that load; 0 loads when a batch is needed. It changes only the speed.
        loader: "threads", "processes", or "auto": see `trainer.data.loaders.pick_loader`.
        compiled: compile the network with torch.compile, which takes a minute and saves time in every step.
            Its dropout draws other numbers; without dropout the losses differ by rounding only.
        on_step: called after each step with the number of steps done and with the row of the log, or None if
            no row was written.

    Returns:
        True if the run is finished now, False if it was finished before.

    Raises:
        NotFinite: the loss, a weight or a score is infinite or not a number.
        UsageError: `out` holds a run and `resume` is not given, or it is a run of another recipe, list or
            corpus; a corpus does not fit the recipe; an added class exists already.
    """
    registry.check_recipe(recipe)
    held_out = run_folder.read_held_out(out, examples.ids) if resume else None
    data = prepare_data(recipe, corpus, examples, multi_task, add_classes, held_out=held_out)
    previous = find_previous(out, recipe, data, resume=resume)
    if previous and previous.step >= recipe.train.steps:
        return False
    if distributed.rank() == 0:
        for name in (TEST_SCORES, VALIDATION_SCORES, FOLD_SCORES):  # of the run before it was prolonged
            (out / name).unlink(missing_ok=True)
    trainer = Trainer(
        recipe,
        data,
        out,
        previous=previous,
        device=pick_device(device),
        workers=workers,
        loader=loader,
        compiled=compiled,
    )
    trainer.fit(on_step)
    return True


class Trainer:
    """A training run in this process, which may be one of several.

    Args:
        recipe: everything that decides the result.
        data: the videos.
        out: the run's folder.
        previous: the checkpoint to continue from; None begins.
        device: where the network runs.
        workers, loader: as of train.
        compiled: whether to compile the network.

    Attributes:
        model: the network.
        step: number of steps done.
        best: (accuracy, -loss) of the best validation so far, or None.
        precision: "float32", "bfloat16" or "float16".

    Raises:
        UsageError: weights to start from do not fit, or there are more processes than samples in a batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        out: Path,
        *,
        previous: Checkpoint | None = None,
        device: torch.device,
        workers: int = 0,
        loader: str = "auto",
        compiled: bool = False,
    ) -> None:
        self.recipe, self.data, self.out, self.device = recipe, data, out, device
        self._workers = workers
        self._parts = distributed.microbatches(recipe.train.batch, recipe.train.micro_batch)
        self._own_parts = range(distributed.rank(), len(self._parts), distributed.world_size())
        self._clip_spec = ClipSpec.from_recipe(recipe)

        if recipe.train.sync_batch_norm and len(self._parts) % distributed.world_size():
            raise UsageError(
                f"train.sync_batch_norm is true: {len(self._parts)} passes cannot be divided equally among "
                f"{distributed.world_size()} processes; allowed: a train.batch that is a multiple of them"
            )

        self.model = _make_network(recipe, data, previous, device)
        self.precision = training_precision(
            recipe.train.precision, previous.precision if previous else "", device, self.model
        )
        self._precision_is_checked = False
        self._optimiser = make_optimiser(self.model, recipe.train)
        self._scaler = make_scaler(device, self.precision)
        self.step, self.best = 0, None
        if previous:
            self.step, self.best = previous.step, previous.best
            self._optimiser.load_state_dict(previous.optimizer)
            self._scaler.load_state_dict(previous.scaler)
        if compiled:
            self.model.compile()
        several = distributed.world_size() > 1
        self._parallel = DistributedDataParallel(self.model, broadcast_buffers=False) if several else None
        self._statistics = batch_norm.RunningStatistics(self.model)
        samples = np.concatenate([self._parts[part] for part in self._own_parts]).tolist()
        clips = TrainingClips(data.heads, recipe)
        self._loader = BatchLoader(clips, len(samples), workers, loader, pin=device.type == "cuda")
        self._batches = self._loader.batches(
            [(step, sample) for sample in samples] for step in range(self.step, recipe.train.steps)
        )

    def fit(self, on_step: OnStep | None = None) -> None:
        """Take the remaining steps, with validations, checkpoints and log.

        Args:
            on_step: see train.

        Raises:
            NotFinite: the loss, a weight or a score is infinite or not a number.
        """
        if distributed.rank() == 0:
            run_folder.write_lists(self.out, self.data.training, self.data.validation)
        self._describe()
        with (
            closing(self._loader),
            closing(self._batches),
            closing(MetricsLog(self.out, self.step)) as metrics_log,
        ):
            while self.step < self.recipe.train.steps:
                metrics_log.add(self.train_step())
                row = self._finish_step(metrics_log)
                if on_step:
                    on_step(self.step, row)
        if not self.recipe.train.steps:
            self.save_checkpoint()
        # The other processes evaluate by a file that the first process may still be writing.
        distributed.barrier()

    def train_step(self) -> StepMetrics:
        """Take the next step of the optimiser, on the next batch."""
        weights.set_training(self.model)
        set_learning_rate(self._optimiser, learning_rate(self.recipe.train, self.step))
        began = time.perf_counter()
        # This process's share of the batch: planes (B, ..., S, S), classes (B,), heads (B,).
        clip, y, head = next(self._batches)
        metrics = StepMetrics([], [], self.recipe.train.batch, time.perf_counter() - began)
        self._optimiser.zero_grad(set_to_none=True)
        lengths = [len(self._parts[part]) for part in self._own_parts]
        pieces = (torch.split(tensor, lengths) for tensor in (*clip, y, head))
        done = 0
        for part, planes, gain, bias, classes, heads in zip(self._own_parts, *pieces, strict=True):
            self._statistics.skip(part - done)
            done = part + 1
            loss, correct = self._backward(part, Clip(planes, gain, bias), classes, heads)
            metrics.losses.append(loss)
            metrics.correct.append(correct)
        self._statistics.skip(len(self._parts) - done)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self.step += 1
        return metrics

    def _backward(
        self, part: int, clip: Clip, y: torch.Tensor, head: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradients of a part of the batch. Return its loss and its number of correct samples."""
        # float32, (b, C, S, S) or (b, C, T, S, S); two tensors for a joint network.
        inputs = self._clip_spec.tensors(clip.to(self.device))
        y, head = y.to(self.device, non_blocking=True), head.to(self.device, non_blocking=True)
        if not self._precision_is_checked:
            self._check_precision(inputs)
        torch.manual_seed(dropout_seed(self.recipe.seed, self.step, part))
        # The gradients of several passes are exchanged once, in the last pass.
        last = part == self._own_parts[-1]
        with nullcontext() if last or not self._parallel else self._parallel.no_sync():
            with autocast(self.precision, self.device), _explain_single_sample(len(y)):
                logits = (self._parallel or self.model)(*inputs)  # (b, outputs of all heads[, K])
            counts = self.data.samples_per_head(self.recipe.train.batch)
            loss, correct = heads_loss(self.model, logits.float(), y, head, self.data.head_sizes, counts)
            # The loss of the batch is the sum over its parts, but the processes' gradients are averaged.
            self._scaler.scale(loss * distributed.world_size()).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), correct

    def _check_precision(self, inputs: list[torch.Tensor]) -> None:
        """Compute in float32 from the first step on, if the chosen precision gives wrong gradients here."""
        with _explain_single_sample(len(inputs[0])):
            self.precision = checked_precision(
                self.recipe.train.precision, self.precision, self.device, self.model, inputs
            )
        self._precision_is_checked = True

    def _finish_step(self, metrics_log: MetricsLog) -> LogRow | None:
        """Validate, log and save where they are due; gives the row of the log, if one was written."""
        section = self.recipe.train
        last = self.step == section.steps
        validates = len(self.data.validation) > 0 and (last or self.step % section.validate_every == 0)
        saves = last or self.step % section.checkpoint_every == 0
        validation = row = None
        with metrics_log.pause():
            if validates or saves:
                self._statistics.merge()
                self._check_finite()
            if validates:
                validation = self.validate()
        if validates or saves or self.step % section.log_every == 0:
            row = metrics_log.write(self.step, learning_rate(section, self.step - 1), validation)
        with metrics_log.pause():
            if validation and section.keep == "best":
                self._keep_best(validation)
            if saves:
                self.save_checkpoint()
        return row

    def validate(self) -> Validation:
        """Evaluate the held-out videos.

        Raises:
            NotFinite: a score is infinite or not a number.
        """
        videos = self.data.validation
        scores = score_videos(
            self.model,
            self.data.corpus,
            videos.ids,
            self.recipe,
            classes=len(videos.classes),
            frames=self.recipe.train.validation_frames,
            crops=1,
            device=self.device,
            precision=self.precision,
            workers=self._workers,
            loader=self._loader.kind or "auto",
        )
        labels = np.array(videos.labels)
        true_scores = scores[np.arange(len(labels)), labels]
        return Validation(
            accuracy=float((scores.argmax(1) == labels).mean()),
            loss=float(-np.log(np.maximum(true_scores, 1e-12)).mean()),
        )

    def save_checkpoint(self) -> None:
        """Write last.pt, from which a run is resumed; of several processes the first one does."""
        if distributed.rank() == 0:
            checkpoint.save(self.out / LAST, self._checkpoint(self._optimiser.state_dict()))

    def _keep_best(self, validation: Validation) -> None:
        """Write best.pt if this validation is the best so far."""
        quality = (validation.accuracy, -validation.loss)
        if self.best is not None and quality <= self.best:
            return
        self.best = quality
        if distributed.rank() == 0:
            checkpoint.save(self.out / BEST, self._checkpoint({}))

    def _checkpoint(self, optimiser_state: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            recipe=self.recipe,
            classes=self.data.classes,
            heads=tuple(self.data.head_sizes),
            corpus=self.data.corpus.settings,
            examples=self.data.digest,
            step=self.step,
            model=self.model.state_dict(),
            optimizer=optimiser_state,
            scaler=self._scaler.state_dict(),
            best=self.best,
            precision=self.precision,
        )

    def _check_finite(self) -> None:
        """Refuse to save or to evaluate weights and statistics that are infinite or not numbers."""
        for name, value in self.model.state_dict().items():
            if not torch.isfinite(value).all():
                raise TrainingDiverged(f"{name} is not finite at step {self.step}: try a lower train.lr")

    def _describe(self) -> None:
        log.info(
            "%s: %d videos to train on, %d held out, %s classes, %.2f M parameters, on %s in %s",
            self.recipe.stream,
            self.data.num_training_videos,
            len(self.data.validation),
            " + ".join(map(str, self.data.head_sizes)),
            sum(p.numel() for p in self.model.parameters()) / 1e6,
            self.device,
            self.precision,
        )
        log.info(
            "each step takes a batch of %d; processes: %d, passes of each: %d, samples of a pass: up to %d",
            self.recipe.train.batch,
            distributed.world_size(),
            -(-len(self._parts) // distributed.world_size()),
            max(map(len, self._parts)),
        )


def _make_network(
    recipe: Recipe, data: TrainingData, previous: Checkpoint | None, device: torch.device
) -> torch.nn.Module:
    """The network on its device, with the weights that the run starts or continues from."""
    torch.manual_seed(recipe.seed)
    # The heads are one layer: their outputs lie side by side.
    model = registry.make_model(recipe, len(data.outputs))
    if previous:
        model.load_state_dict(previous.model)
    else:
        weights.start_from_weights(model, recipe, data.outputs)
    weights.freeze(model, recipe)
    if recipe.train.sync_batch_norm:
        batch_norm.synchronise(model)
    layers.channels_last(model.to(device))
    return model


@contextmanager
def _explain_single_sample(count: int) -> Iterator[None]:
    """Raise an error that says what to set, if batch normalisation has one value per channel."""
    try:
        yield
    except ValueError as exc:
        if "more than 1 value per channel" not in str(exc):
            raise
        raise UsageError(
            f"{count} sample passes through the network at once, and batch normalisation needs two: set "
            "train.micro_batch, and train.batch, so that every pass has two samples or more"
        ) from exc
