"""Batch normalisation under several processes."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.nn import functional as differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.training import distributed

BatchNorm = _BatchNorm  # of any number of dimensions


class RunningStatistics:
    """The running statistics of batch normalisation under several processes: those of one process.

    One process updates a statistic r by the statistic s of each part of a batch, in order:
    r <- (1 - m) r + m s. Here each process does so for its own parts, and r <- (1 - m) r for the parts of
    others. Process 0 starts from r and the others from 0. The update is linear, so the sum over the processes
    is the r of one process, up to rounding. They are added only where they are needed: see `merge`.

    Args:
        model: the network. Frozen normalisations keep their statistics, and those of `SyncBatchNorm` agree
            already.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._merged = model, True
        self._norms = [
            norm
            for norm in model.modules()
            if isinstance(norm, BatchNorm)
            and not isinstance(norm, SyncBatchNorm)
            and norm.running_mean is not None
            and learns(norm)
        ]
        if distributed.world_size() == 1:
            self._norms = []

    def skip(self, parts: int) -> None:
        """Take note of parts of the batch that other processes compute."""
        if self._merged and distributed.rank():
            for norm in self._norms:
                for value in _statistics(norm)[:2]:
                    value.zero_()
        self._merged = False
        if not parts:
            return
        for norm in self._norms:
            mean, var, count = _statistics(norm)
            if norm.momentum is None:  # the mean over all parts: each has the weight 1 / count
                kept: torch.Tensor | float = count / (count + parts)
            else:
                kept = (1 - norm.momentum) ** parts
            for value in (mean, var):
                value.mul_(kept)
            count.add_(parts)

    def merge(self) -> None:
        """Add the shares of all processes. Every process then has the statistics of one process."""
        if distributed.world_size() == 1 or self._merged:
            return
        for norm in self._norms:
            mean, var, _ = _statistics(norm)
            for value in (mean, var):
                distributed.all_reduce_sum(value)
        distributed.broadcast_buffers(self._model)  # equal in every bit, and other buffers too
        self._merged = True


class SyncBatchNorm(BatchNorm):
    """Batch normalisation by the samples that all processes pass through the network at once.

    That of PyTorch needs a GPU. Mean and variance are float32. The variance is that around the common mean.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Accept any number of dimensions."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) to the same shape."""
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        x = input.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _sum(torch.cat([x.sum(axes), count]))
        mean, total = sums[:-1] / sums[-1], sums[-1].detach()
        centred = x - mean.view(shape)
        var = _sum(centred.square().sum(axes)) / total
        y = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        if self.running_mean is not None:
            self._update(mean.detach(), var.detach() * total / (total - 1))
        return y.to(input.dtype)

    def _update(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        running_mean, running_var, count = _statistics(self)
        count.add_(1)
        weight = 1 / float(count) if self.momentum is None else self.momentum
        running_mean.lerp_(mean, weight)
        running_var.lerp_(var, weight)


def synchronise(model: nn.Module) -> None:
    """Replace batch normalisation by `SyncBatchNorm` if there are several processes. Names stay."""
    if distributed.world_size() == 1:
        return
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, BatchNorm) and learns(norm):
                parent.add_module(name, _synchronised(norm))


def learns(norm: BatchNorm) -> bool:
    """Whether a normalisation is trained. A frozen one keeps its statistics, too."""
    return not norm.affine or norm.weight.requires_grad


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the result of a step depends on which samples pass through the network at once."""
    return any(isinstance(module, BatchNorm) and learns(module) for module in model.modules())


def _synchronised(norm: BatchNorm) -> SyncBatchNorm:
    new = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for own in (new._parameters, new._buffers):
        for name in own:
            setattr(new, name, getattr(norm, name))
    return new


def _sum(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes. Its gradient is the sum of the gradients of all processes."""
    return differentiable.all_reduce(value)  # type: ignore[no-untyped-call,no-any-return]


def _statistics(norm: BatchNorm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Running mean, running variance, and number of updates."""
    mean, var, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None and var is not None and count is not None
    return mean, var, count
