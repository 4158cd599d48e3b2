"""Loaders in processes: how the end of a process is reported."""

import pytest
import torch

from trainer.data.processes import make_loader


class _ClosesItsConnection(torch.utils.data.Dataset):
    """Items that the loading process cannot send: the receiving process finds the connection closed."""

    def __len__(self):
        return 4

    def __getitem__(self, key):
        return _Unsendable()


class _Unsendable:
    def __reduce__(self):
        return _reset, ()


def _reset():
    raise ConnectionResetError(104, "Connection reset by peer")


class _CannotRead(_ClosesItsConnection):
    def __getitem__(self, key):
        raise ConnectionResetError(104, "the disk is gone")


def test_a_closed_connection_of_a_loader_is_the_death_of_a_loader():
    """A killed process closes its connection before torch can see that it ended."""
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(one of 1\) ended unexpectedly: .*reset"):
        list(make_loader(_ClosesItsConnection(), 1, batch_size=None))
    with pytest.raises(ConnectionResetError, match="the disk is gone"):
        list(make_loader(_CannotRead(), 1, batch_size=None))
