"""Ctrl-C and SIGTERM: the first signal ends a program, with one line on standard error and no traceback.

Python raises KeyboardInterrupt in whatever runs. That may be an import, a callback of a C library, or the end
of the interpreter. Some libraries turn it into an error of their own, and some calls drop it. So the signal
itself is remembered here.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PROGRAM_SECONDS = 3.0  # from a signal to the end of a program, however busy it is
RETRY_SECONDS = 0.2  # from an exception that was lost to the next one


class _Stop:
    """The signal that ends this process.

    Attributes:
        name: its name; "" before it arrives.
        blocks: open blocks of `uninterrupted`.
        waiting: whether the signal waits for their end.
        raised: whether its exception was raised.
        dropped: whether the exception was lost, so that it must be raised again.
        arrived: whether it has arrived where it is handled. It is not raised again then.
        stops: counts the signals that were raised, so that a timer knows its own.
        seconds: the time that is left after the signal; None for no limit.
        at_timeout: called when that time is over. It ends the process.
        at_signal: called when the signal arrives.
    """

    def __init__(self) -> None:
        self.name = ""
        self.blocks = self.stops = 0
        self.waiting = self.raised = self.dropped = self.arrived = False
        self.seconds: float | None = PROGRAM_SECONDS
        self.at_timeout: Callable[[], object] = end_now
        self.at_signal: Callable[[], object] = lambda: None

    def handle(self, number: int, _: FrameType | None = None) -> None:
        """Raise KeyboardInterrupt for the first signal. Nothing must interrupt the cleaning up after it."""
        if not self.name:
            self.reset(signal.Signals(number).name)
            self.at_signal()
        elif self.arrived or (self.raised and not self.dropped):
            return
        if self.blocks:
            self.waiting = True
        else:
            self.throw()

    def throw(self) -> None:
        """Raise the exception of the signal. From the first time on, the time is limited."""
        if not self.raised and self.seconds is not None:
            self.stops += 1
            # Not a threading.Thread: the signal may have interrupted one that holds that module's lock.
            _thread.start_new_thread(self._end_later, (self.stops, self.seconds))
        self.raised, self.waiting, self.dropped = True, False, False
        raise KeyboardInterrupt(self.name)

    def reset(self, name: str = "") -> None:
        """Begin anew, with this signal or with none."""
        self.name = name
        self.waiting = self.raised = self.dropped = self.arrived = False

    def _end_later(self, stop: int, seconds: float) -> None:
        time.sleep(seconds)
        if self.name and self.stops == stop:
            self.at_timeout()

    def hide_unraisable(self, arguments: Any) -> None:
        """Report an exception that cannot be raised, unless it follows from the signal."""
        if not self.name:
            sys.__unraisablehook__(arguments)
        elif issubclass(arguments.exc_type, KeyboardInterrupt):
            self.dropped = True
            _thread.start_new_thread(self._throw_again, ())

    def _throw_again(self) -> None:
        """Let the main program call `handle` again, after it has left the hook that this thread began in."""
        time.sleep(RETRY_SECONDS)
        # A real signal ends also a call that waits.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.Signals[self.name])

    def hide_uncaught(self, kind: type[BaseException], *details: Any) -> None:
        """Report an uncaught exception. One that follows from the signal ends the process in one line."""
        if self.name:
            end_now()
        sys.__excepthook__(kind, *details)

    def hide_uncaught_in_thread(self, arguments: threading.ExceptHookArgs) -> None:
        """Report an uncaught exception of a thread, unless it follows from the signal."""
        if not self.name:
            threading.__excepthook__(arguments)


def end_now(message: str = "stopped") -> None:
    """Print why this process is stopped, and end it at once."""
    with suppress(OSError):
        os.write(2, f"error: {message}\n".encode())
    os._exit(1)


_stop = _Stop()


def stopped() -> str:
    """The name of the signal that ends this process; "" if there is none.

    The caller handles the signal: it is not raised again.
    """
    _stop.arrived = bool(_stop.name)
    return _stop.name


def forget() -> None:
    """Forget the signal: the caller has handled it, and this process goes on."""
    _stop.reset()


def raise_if_stopped(exc: BaseException) -> None:
    """Raise KeyboardInterrupt in place of an error that follows from a signal: some libraries replace it."""
    if _stop.name:
        raise KeyboardInterrupt(_stop.name) from exc


def run_program(module: str) -> None:
    """Import the module of a program, and run its `main`. Its exit code becomes that of this process.

    A signal after the end of `main` is ignored: the work is done, and the interpreter is being cleaned up.

    Args:
        module: its name.
    """
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # a script's background process ignores Ctrl-C
            signal.signal(number, _stop.handle)
    sys.unraisablehook = _stop.hide_unraisable
    sys.excepthook = _stop.hide_uncaught
    threading.excepthook = _stop.hide_uncaught_in_thread
    code: Any = 0
    try:
        import_module(module).main()
    except SystemExit as exc:
        code = exc.code
    except BaseException:
        if not stopped():
            raise
        code = 1
        with suppress(OSError):
            os.write(2, b"error: stopped\n")
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if stopped():
        _exit_at_once(code if isinstance(code, int) else 1)
    sys.exit(code)


def _exit_at_once(code: int) -> None:
    """Exit, after child processes were ended. Threads that still work are not waited for.

    The interpreter's own end would repeat the signal if it had interrupted `exec`, as of a dataclass.
    """
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def raise_on_signals(at_signal: Callable[[], object] = lambda: None) -> None:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM, unless the process ignores the signal.

    From now on, there is no limit of time from a signal to the end of this process.

    Args:
        at_signal: called when the signal arrives.
    """
    _stop.reset()
    _stop.seconds, _stop.at_signal = None, at_signal
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop.handle)


@contextmanager
def signals_as_exceptions(seconds: float, at_timeout: Callable[[], object]) -> Iterator[None]:
    """Raise KeyboardInterrupt for the first SIGINT or SIGTERM in the block. Its argument is the name.

    Args:
        seconds: from the signal to the end of this process, if the exception does not leave the block before.
        at_timeout: called then. It ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    before = _stop.seconds, _stop.at_timeout
    _stop.seconds, _stop.at_timeout = seconds, at_timeout
    for number in SIGNALS:
        signal.signal(number, _stop.handle)
    try:
        yield
    finally:
        _stop.seconds, _stop.at_timeout = before
        if _stop.handle not in handlers.values():  # this is no program: the caller may go on
            _stop.reset()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay the exception of a signal to the end of the block."""
    _stop.blocks += 1
    try:
        yield
    finally:
        _stop.blocks -= 1
        if _stop.waiting and not _stop.blocks:
            _stop.throw()


@contextmanager
def blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Delay signals to the end of the block. Processes that this thread starts in it never receive them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
