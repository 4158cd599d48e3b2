"""Tasks on this machine: a process of loky, joblib's, per core, each with a thread that looks after it."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence

from flowprep.engines import gpu_fault
from flowprep.executors.worker import DEATHS, Job, Outcome, Worker, WorkerDied

log = logging.getLogger(__name__)

# Deaths over one task until it is given up. After DEATHS of them its videos are tried one by one; the rest is
# for what else kills: too little memory, or somebody's hand.
MOST_DEATHS = 4 * DEATHS

_idle: list[Worker] = []  # started by an earlier run, and used again


@atexit.register
def _end_idle() -> None:
    """Let them put away what they hold, such as a GPU's memory: the interpreter's end would kill them."""
    while _idle:
        _idle.pop().end()


def run(
    call: Callable[[Job], Outcome],
    jobs: Sequence[Job],
    processes: int,
    killed: Callable[[str], object],
    devices: Sequence[int] = (),
) -> Generator[Outcome, None, None]:
    """Call for each job in one of `processes` worker processes, or in this one if they are only one.

    A worker that dies is replaced and its task begun again; the others do not notice. After an outcome that
    says `stop`, no job is begun. When the iteration is ended early, the workers are killed, and `killed` is
    called with the `owner` name of each.

    GPUs are shared out over the processes. One that no longer works after a task broke loses this task only:
    its processes take no other, and when no GPU is left, no job is begun.

    Yields:
        What the calls return, in the order in which they end.
    """
    if processes == 1:
        device = devices[0] if devices else None
        for job in jobs:
            outcome = call(job._replace(device=device))
            if device is not None and outcome.fault and gpu_fault(device):
                outcome = outcome._replace(stop=True)
            yield outcome
            if outcome.stop:
                return
        return
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    outcomes: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
    end = threading.Event()
    # One a lane and, behind them, those that died: they may have left files, too.
    workers: list[Worker] = [_idle.pop() if _idle else Worker() for _ in range(processes)]

    working = set(devices)

    def lane(number: int) -> None:
        try:
            follow(number)
            outcomes.put(None)
        except Exception as exc:  # a fault of ours, which would else end in silence
            outcomes.put(exc)

    def follow(number: int) -> None:
        device = devices[number % len(devices)] if devices else None
        while not end.is_set():
            if device is not None and device not in working:
                break
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                break
            outcome = _persist(call, job._replace(device=device), workers, number, end)
            if device is not None and outcome.fault and (fault := _fault_of(workers[number], device)):
                log.warning("GPU %d takes no more tasks: %s", device, fault)
                working.discard(device)
                outcome = outcome._replace(stop=outcome.stop or not working)
            if outcome.stop:
                end.set()
            outcomes.put(outcome)

    lanes = [threading.Thread(target=lane, args=(n,), daemon=True) for n in range(processes)]
    for thread in lanes:
        thread.start()
    running = processes
    try:
        while running:
            finished = outcomes.get()
            if finished is None:
                running -= 1
            elif isinstance(finished, Exception):
                raise finished
            else:
                yield finished
        _idle.extend(workers[:processes])
    finally:
        if running:
            end.set()
            for worker in list(workers):
                worker.kill()
            for thread in lanes:
                thread.join()
            for worker in workers:
                if worker.owner:  # else it was never started
                    killed(worker.owner)


def _persist(
    call: Callable[[Job], Outcome],
    job: Job,
    workers: list[Worker],
    lane: int,
    end: threading.Event,
) -> Outcome:
    """Call for a job in the lane's worker, and in a new one when that dies."""
    deaths = starts = 0  # of workers that had the task; of others, one behind the other
    while max(deaths, starts) < MOST_DEATHS and not end.is_set():
        starts += 1
        try:
            workers[lane].start()
            starts = 0
            deaths += 1
            return workers[lane].call(call, job)
        except WorkerDied:
            if not end.is_set():
                log.warning("a worker process died over task %s; starting another", job.task.id)
                workers[lane].kill()
                workers.append(workers[lane])
                workers[lane] = Worker()
        except Exception as exc:  # the call cannot be sent there, or its result back
            return Outcome(job.task.id, None, f"{type(exc).__name__}: {exc}", stop=True)
    fault = f"its worker processes died {max(deaths, starts)} times"
    return Outcome(job.task.id, None, fault, stop=starts > 0)


def _fault_of(worker: Worker, device: int) -> str:
    """What is wrong with the GPU of a worker, or ""."""
    try:
        return worker.call(gpu_fault, device)
    except WorkerDied:
        return "its worker process died"
