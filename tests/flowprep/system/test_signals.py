"""Signals end a program in one line, wherever they arrive. Each program here is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from flowprep.system import signals
from flowprep.system.signals import raise_on_signals, signals_as_exceptions, stopped, uninterrupted

KILL = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"


@pytest.fixture
def run(tmp_path):
    """Run a program: run(code of its module, arguments of Python) -> exit code, stdout, stderr."""

    def program(code, *, before=""):
        (tmp_path / "program.py").write_text(textwrap.dedent(code))
        start = f"{before}\nfrom flowprep.system.signals import run_program\nrun_program('program')"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", start],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            # The tests may run in the background of a script, which ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        return done.returncode, done.stdout, done.stderr

    return program


PLACES = {
    "an import": f"{KILL}\ndef main(): pass",
    "the program": f"def main():\n  {KILL}\n  print('not reached')",
    "a finaliser, which drops it": f"""
        import time
        class Node:
            def __del__(self):
                {KILL}
        def main():
            node = Node()
            del node
            time.sleep(60)
            print('not reached')
        """,
    "a callback of numpy's C code": f"""
        import numpy as np
        def key(x):
            {KILL}
        def main():
            np.frompyfunc(key, 1, 1)([1, 2])
            print('not reached')
        """,
    "code that replaces the exception": f"""
        def main():
            try:
                {KILL}
            finally:
                raise RuntimeError("unexpected position")
        """,
    "the reading of standard input": """
        import os, sys, threading, signal
        def main():
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            read, write = os.pipe()
            os.read(read, 1)
            print('not reached')
        """,
    "a program whose cleaning up is signalled again": f"""
        def main():
            try:
                {KILL}
            finally:
                {KILL}
                import os
                os.write(2, b"")
        """,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_a_program_in_one_line(run, place):
    assert run(PLACES[place]) == (1, "", "error: stopped\n")


def test_a_thread_that_fails_because_of_the_signal_says_nothing(run):
    code = f"""
        import threading
        def fail(closed):
            closed.wait()
            raise OSError("closed by the interruption")
        def main():
            closed = threading.Event()
            thread = threading.Thread(target=fail, args=(closed,))
            thread.start()
            try:
                {KILL}
            finally:
                closed.set()
                thread.join()
        """
    assert run(code) == (1, "", "error: stopped\n")


def test_a_signal_at_the_end_of_the_interpreter_changes_nothing(run):
    code = f"""
        import atexit
        @atexit.register
        def end():
            {KILL}
        def main():
            print("done")
            raise SystemExit(3)
        """
    assert run(code) == (3, "done\n", "")


def test_an_error_without_a_signal_keeps_its_traceback(run):
    code, _, err = run("def main(): raise RuntimeError('a bug')")
    assert code == 1 and err.startswith("Traceback") and err.endswith("RuntimeError: a bug\n")
    code, _, err = run("class A:\n  def __del__(self): raise RuntimeError('a bug')\ndef main(): A()")
    assert code == 0 and "RuntimeError: a bug" in err


def test_a_program_that_does_not_end_is_ended(run):
    code = f"""
        import os, time
        from flowprep.system import signals
        signals._stop.seconds = 0.1
        def main():
            try:
                {KILL}
            finally:
                time.sleep(60)
        """
    assert run(code) == (1, "", "error: stopped\n")


def test_a_background_process_goes_on_after_an_ignored_signal(run):
    code = "import os, signal\ndef main():\n  os.kill(os.getpid(), signal.SIGINT)\n  print('done')"
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert run(code, before=ignore) == (0, "done\n", "")


@pytest.fixture
def handlers():
    """Default handlers, restored afterwards."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.SIGNALS}
    yield before
    signals.forget()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_block_turns_signals_to_exceptions_once(handlers):
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt, match=number.name), signals_as_exceptions(60, lambda: None):
            try:
                os.kill(os.getpid(), number)
            finally:
                assert stopped() == number.name
                os.kill(os.getpid(), signal.SIGTERM)  # cleaning up is not interrupted
        assert stopped() == ""  # the caller may go on
        assert all(signal.getsignal(each) == signal.SIG_DFL for each in signals.SIGNALS)


def test_a_signal_waits_for_the_outermost_block(handlers):
    done = []
    raise_on_signals(at_signal=lambda: done.append("told"))
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            assert done == ["told"]
        done.append("whole")
    assert done == ["told", "whole"]
