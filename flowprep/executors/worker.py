"""A worker: another process of this machine that calls functions."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend.reduction import dumps

from flowprep.system.processes import owner
from flowprep.system.signals import blocked

END_SECONDS = 5.0  # for a worker to end by itself

# Variables of the environment of a worker: the processes share the cores already.
ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")

T = TypeVar("T")

_loky = get_context("loky")


class WorkerDied(Exception):
    """The process of a worker has ended. The call that it was executing is lost."""


class Worker:
    """A process that calls functions, one at a time. It ends when its parent ends.

    The process is one of loky: a new interpreter, as with `spawn`, but the main module needs no guard. The
    pool of loky is not used: it can break when a worker is killed while it receives a call.

    Attributes:
        owner: name of the process, as in leases and temporary files; "" before it starts.
    """

    def __init__(self) -> None:
        self.owner = ""
        self._here, self._there = _loky.Pipe()
        # A daemon: the interpreter does not wait for it at its end.
        self._process = _loky.Process(
            target=_serve, args=(self._there, os.getpid()), env=ONE_THREAD, daemon=True
        )
        self._starting = threading.Lock()
        self._killed = False

    def start(self) -> None:
        """Start the process, unless it runs already.

        Raises:
            WorkerDied: `kill` was called before.
        """
        with self._starting:
            if self._killed:
                raise WorkerDied
            if not self.owner:
                # A terminal sends SIGINT to all processes. This one handles it, also while the other starts.
                with blocked(signal.SIGINT):
                    self._process.start()
                self.owner = owner(self._process.pid)
                self._there.close()  # otherwise the end of the process would go unnoticed here

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the process. Return its value, or raise its exception.

        Raises:
            WorkerDied: the process died or was killed.
        """
        # A copy: dumps returns a view of a buffer. In the traceback of an error, the view would outlive it.
        message = bytes(dumps((function, args)))
        try:
            self._here.send_bytes(message)
            returned, value = pickle.loads(self._here.recv_bytes())
        except (EOFError, OSError) as exc:
            raise WorkerDied from exc
        if not returned:
            raise value
        result: T = value
        return result

    def end(self) -> None:
        """Let the process end, while it waits for a call. If it does not, it is killed with this process."""
        self._here.close()
        if self.owner:
            self._process.join(END_SECONDS)

    def kill(self) -> None:
        """Kill the process at once. If it has not started, it never will."""
        with self._starting:
            self._killed = True
            if self.owner and self._process.exitcode is None:
                os.kill(self._process.pid, signal.SIGKILL)
                self._process.join()


def _serve(calls: Connection, parent: int) -> None:
    """Call the functions that arrive, until the pipe is closed. This is the main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the processes that this one starts
    end_with_parent(parent)
    while True:
        try:
            message = calls.recv_bytes()
        except EOFError:
            return
        try:
            function, args = pickle.loads(message)
            answer = dumps((True, function(*args)))
        except Exception as exc:
            answer = dumps((False, exc))
        calls.send_bytes(answer)


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent has ended. Its work is lost."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
