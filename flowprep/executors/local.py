"""Tasks on this machine: worker processes, each with a thread in this process that supervises it."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from flowprep.engines import gpu_fault
from flowprep.executors.base import MAX_DEATHS, Attempt, Job, Outcome
from flowprep.executors.worker import Worker, WorkerDied

log = logging.getLogger(__name__)

DEATH_SECONDS = 0.5  # from the death of a worker to the start of another

_idle: list[Worker] = []  # workers of an earlier run, to be used again


@atexit.register
def _end_idle() -> None:
    """Let idle workers free their resources, such as memory of a GPU, before the interpreter kills them."""
    while _idle:
        _idle.pop().end()


def keep_idle(worker: Worker) -> None:
    """Keep a worker that has started for the next run."""
    _idle.append(worker)


@dataclass(frozen=True)
class LocalExecutor:
    """Runs jobs in worker processes, or in this process if only one is wanted.

    A worker that dies is replaced, and its task starts again. The other workers do not notice. When the
    iteration is closed early, all workers are killed.

    The workers share the GPUs. A GPU can fail during a task. Then the task fails, and the workers of this GPU
    begin no other. When no GPU is left, no job begins.

    Attributes:
        processes: number of workers.
        release: called with the `owner` name of each worker that was killed.
        devices: numbers of the GPUs; none if empty.
    """

    processes: int
    release: Callable[[str], object]
    devices: Sequence[int] = ()

    def __call__(self, attempt: Attempt, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs, and yield each outcome when the job ends."""
        if self.processes == 1:
            return self._run_here(attempt, jobs)
        return _Lanes(attempt, jobs, self.processes, self.devices).run(self.release)

    def _run_here(self, attempt: Attempt, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        device = self.devices[0] if self.devices else None
        for job in jobs:
            outcome = attempt(job._replace(device=device))
            if device is not None and outcome.fault and gpu_fault(device):
                outcome = outcome._replace(stop=True)
            yield outcome
            if outcome.stop:
                return


class _Lanes:
    """One run in several worker processes. A lane is a thread of this process with its worker."""

    def __init__(self, attempt: Attempt, jobs: Sequence[Job], processes: int, devices: Sequence[int]) -> None:
        self._attempt = attempt
        self._devices = devices
        self._working_devices = set(devices)
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._waiting.put(job)
        # None: a lane has ended. An exception: an error of this program.
        self._outcomes: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
        self._end = threading.Event()
        self._workers = [_idle.pop() if _idle else Worker() for _ in range(processes)]
        self._dead: list[Worker] = []  # they may have left files
        self._threads = [
            threading.Thread(target=self._run_lane, args=(lane,), daemon=True) for lane in range(processes)
        ]

    def run(self, release: Callable[[str], object]) -> Generator[Outcome, None, None]:
        """Run all jobs, and yield their outcomes."""
        running = len(self._threads)
        for thread in self._threads:
            thread.start()
        try:
            while running:
                outcome = self._outcomes.get()
                if outcome is None:
                    running -= 1
                elif isinstance(outcome, Exception):
                    raise outcome
                else:
                    yield outcome
            _idle.extend(self._workers)
        finally:
            if running:
                self._kill(release)

    def _kill(self, release: Callable[[str], object]) -> None:
        self._end.set()
        for worker in [*self._workers, *self._dead]:
            worker.kill()
        for thread in self._threads:
            thread.join()
        for worker in [*self._workers, *self._dead]:
            if worker.owner:  # otherwise it never started
                release(worker.owner)

    def _run_lane(self, lane: int) -> None:
        try:
            self._run_jobs(lane)
            self._outcomes.put(None)
        except Exception as exc:
            self._outcomes.put(exc)

    def _run_jobs(self, lane: int) -> None:
        device = self._devices[lane % len(self._devices)] if self._devices else None
        while not self._end.is_set() and (device is None or device in self._working_devices):
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                return
            outcome = self._run_job(job._replace(device=device), lane)
            if device is not None and outcome.fault:
                outcome = self._check_device(outcome, lane, device)
            if outcome.stop:
                self._end.set()
            self._outcomes.put(outcome)

    def _check_device(self, outcome: Outcome, lane: int, device: int) -> Outcome:
        """Stop using a GPU if it does not work after a fault."""
        try:
            fault = self._workers[lane].call(gpu_fault, device)
        except WorkerDied:
            fault = "its worker process died"
        if not fault:
            return outcome
        log.warning("GPU %d gets no more tasks: %s", device, fault)
        self._working_devices.discard(device)
        return outcome._replace(stop=outcome.stop or not self._working_devices)

    def _run_job(self, job: Job, lane: int) -> Outcome:
        """Run a job in the worker of the lane. When that dies, use a new worker."""
        deaths = failed_starts = 0  # of workers that had the task; of workers that never got it, in a row
        while max(deaths, failed_starts) < MAX_DEATHS and not self._end.is_set():
            failed_starts += 1
            try:
                self._workers[lane].start()
                failed_starts = 0
                deaths += 1
                return self._workers[lane].call(self._attempt, job)
            except WorkerDied:
                # A scheduler's SIGTERM ends the workers, and this process, which handles it a little later.
                if not self._end.wait(DEATH_SECONDS):
                    log.warning("a worker process died during task %s; starting another", job.task.id)
                    self._replace_worker(lane)
            except Exception as exc:  # the job or its outcome cannot be sent
                return Outcome(job.task.id, None, f"{type(exc).__name__}: {exc}", stop=True)
        fault = f"its worker processes died {max(deaths, failed_starts)} times"
        return Outcome(job.task.id, None, fault, stop=failed_starts > 0)

    def _replace_worker(self, lane: int) -> None:
        self._workers[lane].kill()
        self._dead.append(self._workers[lane])
        self._workers[lane] = Worker()
