"""The log of a run: log.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch

from flowprep.errors import UsageError
from flowprep.system.disk import naming_file
from flowprep.system.files import read_regular
from trainer.errors import TrainingDiverged
from trainer.files import write_atomically
from trainer.training import distributed
from trainer.training.interrupts import uninterrupted
from trainer.training.run_folder import LOG


@dataclass(frozen=True)
class StepMetrics:
    """What this process measured in one step.

    Attributes:
        losses: a scalar tensor for each part of the batch; their sum over all processes is the batch's loss.
            Tensors, because reading a number makes the program wait for a GPU.
        correct: a scalar tensor for each part: the number of samples whose class has the highest score.
        samples: samples of the batch, of all processes.
        data_seconds: seconds that the step waited for its samples.
    """

    losses: list[torch.Tensor]
    correct: list[torch.Tensor]
    samples: int
    data_seconds: float


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        accuracy: share of the held-out videos whose class has the highest score.
        loss: mean negative logarithm of the score of the true class.
    """

    accuracy: float
    loss: float


@dataclass(frozen=True)
class LogRow:
    """A row of the log, about the steps since the previous row.

    Attributes:
        step: number of steps done.
        loss: mean loss of the steps.
        lr: learning rate of the last step.
        train_accuracy: share of the samples whose class had the highest score.
        clips_per_second: samples per second; validations and checkpoints are excluded.
        data_wait: share of the time that the steps waited for their samples.
        validation: the validation after the last step, if there was one.
    """

    step: int
    loss: float
    lr: float
    train_accuracy: float
    clips_per_second: float
    data_wait: float
    validation: Validation | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as in log.jsonl; val_accuracy and val_loss stand for the validation."""
        row: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "validation"}
        if self.validation:
            row |= {"val_accuracy": self.validation.accuracy, "val_loss": self.validation.loss}
        return row

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> LogRow:
        """A row of log.jsonl.

        Raises:
            ValueError, KeyError, TypeError: a value is missing, or is not a finite number.
        """
        values = {f.name: _number(row[f.name]) for f in fields(cls) if f.name != "validation"}
        if "val_accuracy" in row:
            values["validation"] = Validation(_number(row["val_accuracy"]), _number(row["val_loss"]))
        return cls(**values)


def read_log(run: Path) -> list[LogRow]:
    """The rows of a run's log; empty if there is no log yet.

    Raises:
        UsageError: a line is not a row of a log.
    """
    path, rows = run / LOG, []
    for number, line in enumerate(_whole_lines(path) if path.exists() else (), 1):
        try:
            rows.append(LogRow.from_dict(json.loads(line)))
        except (ValueError, KeyError, TypeError) as exc:
            raise UsageError(
                f"{path}, line {number}: not a row of a training log: {line.strip()[:80]!r}; allowed: rows"
                " that trainer train writes. Delete the line, or the log"
            ) from exc
    return rows


def _number(value: Any) -> Any:
    """The value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


class MetricsLog:
    """Writes a row for the steps since the previous row. Of several processes only the first one writes.

    Args:
        run: the run's folder.
        start: number of steps done so far. Rows of later steps are removed: those steps are repeated.
    """

    def __init__(self, run: Path, start: int) -> None:
        self._clear()
        self._path = run / LOG
        self._file: IO[str] | None = None
        if distributed.rank():
            return
        from torch.utils.tensorboard import SummaryWriter

        rows = _rows_until(self._path, start) if start and self._path.exists() else []
        write_atomically(self._path, lambda file: file.write("".join(rows).encode()))
        self._file = self._path.open("a", encoding="utf-8")
        # TensorBoard drops the rows from purge_step on; the row of the checkpoint's step stays.
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)

    def _clear(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._correct: list[torch.Tensor] = []
        self._steps = self._samples = 0
        self._data_seconds = 0.0
        self._since = time.perf_counter()

    def add(self, metrics: StepMetrics) -> None:
        """Add a step to the next row."""
        self._losses += metrics.losses
        self._correct += metrics.correct
        self._steps += 1
        self._samples += metrics.samples
        self._data_seconds += metrics.data_seconds

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time of a validation or of a checkpoint from the speed."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def write(self, step: int, lr: float, validation: Validation | None = None) -> LogRow:
        """Write a row about the steps that were added since the previous row.

        Args:
            step: number of steps done.
            lr: learning rate of the last step.
            validation: the validation after the last step, if there was one.

        Raises:
            TrainingDiverged: the loss is infinite or not a number.
            OSError: the row cannot be written.
        """
        sums = torch.stack([torch.stack(s).double().sum() for s in (self._losses, self._correct)])
        loss, correct = distributed.all_reduce_sum(sums).tolist()
        seconds = time.perf_counter() - self._since
        row = LogRow(
            step=step,
            loss=loss / self._steps,
            lr=lr,
            train_accuracy=correct / self._samples,
            clips_per_second=round(self._samples / seconds, 1),
            data_wait=round(self._data_seconds / seconds, 3),
            validation=validation,
        )
        if not math.isfinite(row.loss):
            raise TrainingDiverged(f"the loss is {row.loss} at step {step}: try a lower train.lr")
        self._clear()
        if self._file:
            self._append(self._file, row)
        return row

    def _append(self, file: IO[str], row: LogRow) -> None:
        values = row.to_dict()
        line = json.dumps(values) + "\n"
        with naming_file(self._path, len(line)):
            file.write(line)
            file.flush()
        with uninterrupted():
            for name, value in values.items():
                if name != "step":
                    self._board.add_scalar(name, value, row.step)

    def close(self) -> None:
        """Close the files."""
        if self._file:
            self._file.close()
            with uninterrupted():
                self._board.close()


def _rows_until(path: Path, step: int) -> list[str]:
    """The lines of a log up to a step."""
    return [row for row in _whole_lines(path) if json.loads(row)["step"] <= step]


def _whole_lines(path: Path) -> list[str]:
    """The lines of a log. A killed process may have left the last line unfinished; it is skipped."""
    lines = read_regular(path).decode("utf-8", "replace").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]
