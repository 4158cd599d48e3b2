"""The corpus that is written: its folder, and every file in it.

A task is done when its record exists, and the shard that the record names. Any number of processes may work
on one corpus. Each holds a lease on the task that it runs. A lease saves work and is no lock: an owner that
was only suspended publishes the same bytes late.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.corpus import plan as plans
from flowprep.corpus import records, task_log
from flowprep.corpus.index import Index, read_index, read_indexed_tasks, write_index
from flowprep.corpus.names import is_corpus, why_no_corpus
from flowprep.corpus.plan import Plan, Task
from flowprep.corpus.records import TaskRecord
from flowprep.corpus.shard_reader import Shard
from flowprep.errors import CorpusFormatError, NotACorpus, UsageError
from flowprep.settings import Settings
from flowprep.system.atomic import remove_leftovers, temporary_path
from flowprep.system.files import open_regular
from flowprep.system.leases import Lease, is_leased, leased_names
from flowprep.system.units import count_noun
from flowprep.validation import check_task_id, is_task_id

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusStore:
    """A corpus folder, which need not exist yet. It holds nothing in memory, and can be pickled.

    Attributes:
        path: the folder.
    """

    path: Path

    def shard_path(self, task: str) -> Path:
        """The path of a task's shard. An id that is not allowed raises SettingsError, here and below."""
        return self.path / fmt.SHARDS / f"{check_task_id(task)}.h5"

    def record_path(self, task: str) -> Path:
        """The path of a task's record."""
        return self.path / fmt.RECORDS / f"{check_task_id(task)}.json"

    def log_path(self, task: str) -> Path:
        """The path of a task's log."""
        return self.path / fmt.LOGS / f"{check_task_id(task)}.log"

    @property
    def plan_path(self) -> Path:
        """The path of the plan."""
        return self.path / fmt.PLAN

    @property
    def index_path(self) -> Path:
        """The path of the index."""
        return self.path / fmt.INDEX

    def exists(self) -> bool:
        """Whether the folder is a corpus: it has records or a plan."""
        return is_corpus(self.path)

    def check_exists(self) -> None:
        """Raise NotACorpus if the folder is not a corpus."""
        if reason := why_no_corpus(self.path):
            raise NotACorpus(f"{self.path} is not a corpus: {reason}")

    def make_folders(self) -> None:
        """Create the folders that a corpus has from the beginning."""
        self.check_folders()
        for name in (fmt.SHARDS, fmt.RECORDS):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def check_folders(self) -> None:
        """Check, before anything is written, that every folder of the corpus is in the corpus itself.

        Raises:
            CorpusFormatError: one is a link. In a corpus of a stranger it may lead anywhere.
        """
        for name in (fmt.SHARDS, fmt.RECORDS, fmt.LEASES, fmt.LOGS, fmt.DAMAGED):
            if (folder := self.path / name).is_symlink():
                raise CorpusFormatError(
                    f"{folder} is a link, so nothing is written to the corpus: move the whole corpus to the"
                    " other disk, and link its folder"
                )

    # --- The plan

    def has_plan(self) -> bool:
        """Whether there is a plan."""
        return self.plan_path.exists()

    def read_plan(self) -> Plan:
        """Read the plan.

        Raises:
            NotACorpus: the folder is not a corpus.
            CorpusFormatError: there is no plan, or this version cannot read it.
        """
        self.check_exists()
        return plans.read_plan(self.plan_path)

    def write_plan(self, plan: Plan) -> None:
        """Write the plan. The folders of the corpus are created."""
        self.make_folders()
        plans.write_plan(self.plan_path, plan)

    def read_settings(self, index: Index) -> Settings:
        """Read the settings of the corpus: from its plan, or from a shard if there is no plan.

        Raises:
            NotACorpus: there is neither.
            CorpusDamaged: the settings in the plan do not match their checksum.
        """
        try:
            return plans.read_plan_settings(self.plan_path)
        except CorpusFormatError as exc:
            if len(index.rows):
                return Shard(self.shard_path(index.tasks[index.row_task[0]])).settings
            raise NotACorpus(f"{self.path} is not a corpus: it has neither a shard nor a plan") from exc

    # --- Records

    def read_record(self, task: str) -> TaskRecord:
        """Read the record of a task.

        Raises:
            CorpusDamaged: the record does not exist, or is damaged.
            CorpusFormatError: the file is not a record, or is of a newer version.
        """
        return records.read_record(self.record_path(task))

    def write_record(self, record: TaskRecord) -> None:
        """Publish the record of a task, whose shard is published already. From then on the task is done."""
        path = self.record_path(record.task)
        replaced = path.exists()
        if replaced:
            self.drop_index()  # it may contain the previous record
        records.write_record(path, record)
        if replaced:
            self.drop_index()  # another process may have saved one meanwhile

    def drop_record(self, task: str) -> None:
        """Remove the record of a task whose shard is about to be replaced, and the index, which contains it.

        Otherwise, if this process is killed before the new record exists, the old one would describe the new
        shard.
        """
        if self.record_path(task).exists():
            self.drop_index()
            self.record_path(task).unlink(missing_ok=True)

    def record_stamp(self, task: str) -> int:
        """A number that changes when the record of a task is written again; 0 if there is no record."""
        try:
            with open_regular(self.record_path(task)) as file:  # opening refreshes the cache of NFS
                return os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return 0

    def recorded_tasks(self) -> set[str]:
        """The ids of the tasks that have a record. Files with other names are no records."""
        return _stems(self.path / fmt.RECORDS, ".json")

    def done_tasks(self) -> set[str]:
        """The ids of the tasks that are done: the record exists, and the shard that it names, if any."""
        tasks = self.recorded_tasks()
        without_shard = tasks - _stems(self.path / fmt.SHARDS, ".h5")
        return tasks - {task for task in without_shard if self.read_record(task).shard is not None}

    def pending_tasks(self, plan: Plan, retry: Iterable[str] = ()) -> list[Task]:
        """The tasks of a plan that are not done, and those with one of the videos to `retry`."""
        done, retry = self.done_tasks(), set(retry)
        return [
            task
            for task in plan.tasks
            if task.id not in done or any(segment.id in retry for segment in task.segments)
        ]

    # --- The index

    def load_index(self) -> Index:
        """The index of all done tasks: from the index file, and from the records that are newer."""
        tasks = self.done_tasks()
        if lost := len(self.recorded_tasks()) - len(tasks):
            log.warning(
                "%s: the shards of %d tasks are missing; `flowprep retry` extracts them again",
                self.path,
                lost,
            )
        index = read_index(self.index_path)
        if not set(index.tasks) <= tasks:
            index = Index()
        index.extend(map(self._read_task, sorted(tasks - set(index.tasks))))
        if twice := index.duplicates:
            video, shards = next(iter(twice.items()))
            log.warning(
                "%s: %s stored twice, and not read, such as %s, which is in %s: remove one of the shards, and"
                " its record",
                self.path,
                count_noun(len(twice), "video"),
                video,
                " and ".join(shards),
            )
        return index

    def _read_task(self, task: str) -> tuple[str, TaskRecord, npt.NDArray[Any] | None]:
        record = self.read_record(task)
        return task, record, Shard(self.shard_path(task)).videos if record.shard else None

    def save_index(self) -> Index:
        """Bring the index file up to date, and return the index."""
        folder = self.path / fmt.RECORDS
        before = folder.stat().st_mtime_ns if folder.is_dir() else 0
        index = self.load_index()
        write_index(self.index_path, index)
        if before and folder.stat().st_mtime_ns != before:
            # Another process may have replaced a record that was read here. It saves the index when it ends.
            self.drop_index()
        return index

    def rebuild_index(self) -> Index:
        """Make the index file from all shards and records, and return the index.

        Raises:
            NotACorpus: the folder is not a corpus.
        """
        self.check_exists()
        self.drop_index()
        return self.save_index()

    def drop_index(self) -> None:
        """Remove the index file, if there is one."""
        self.index_path.unlink(missing_ok=True)

    def drop_stale_index(self) -> None:
        """Remove the index file if it contains a task that is not done any more.

        Somebody may have deleted a record, for example. Call this before tasks run. The index knows a task
        by its id only, so it would return the data of the previous record instead of the new one.
        """
        if not read_indexed_tasks(self.index_path) <= self.done_tasks():
            self.drop_index()

    # --- Leases

    @contextmanager
    def lease(self, task: str, seen: int = 0) -> Iterator[int | None]:
        """Hold the lease of a task while the block runs. Log its start, and an error that ends it.

        Args:
            task: id of the task.
            seen: the task's `record_stamp` when it was found to be pending.

        Yields:
            The number of earlier owners that died during the task. None if this process must not run it: a
            living process holds the lease, or the record was written meanwhile.

        Raises:
            OSError: the lease cannot be created.
            CorpusFormatError: a folder of the corpus is a link.
        """
        self.check_folders()
        folder = self.path / fmt.LEASES
        folder.mkdir(exist_ok=True)
        lease = Lease.acquire(folder, check_task_id(task))
        if lease is None:
            yield None
            return
        with lease.keep_alive():
            for predecessor in lease.predecessors():
                if owner := predecessor.owner:
                    self._take_over(task, owner)
            # Compared after the lease was acquired: a previous owner published before it released its lease.
            if self.record_stamp(task) != seen:
                yield None
                return
            deaths = lease.epoch
            self.log(task, f"begun; earlier owners that died: {deaths}" if deaths else "begun")
            try:
                yield deaths
            except BaseException as exc:
                self.log(task, f"broken off: {type(exc).__name__}: {exc}")
                raise

    def is_leased(self, task: str) -> bool:
        """Whether a living process holds the lease of a task."""
        return is_leased(self.path / fmt.LEASES, check_task_id(task))

    def leased_tasks(self) -> set[str]:
        """The ids of the tasks that living processes work on."""
        return leased_names(self.path / fmt.LEASES)

    def release(self, owner: str) -> None:
        """Remove the leases and the temporary files of an owner that was stopped on purpose.

        Args:
            owner: the process, as `processes.owner` names it.
        """
        self.check_folders()
        for folder in (fmt.SHARDS, fmt.RECORDS, fmt.LEASES):
            remove_leftovers(self.path / folder, owner)
        for path in (self.path / fmt.LEASES).glob("*"):
            if Lease(path).owner == owner:
                path.unlink(missing_ok=True)

    def tidy(self, scratch: Path | None = None) -> None:
        """Remove the files that killed processes of this machine left behind.

        The leases of tasks that are not done stay: they count the owners that died during a task.

        Args:
            scratch: the folder in which shards were built, if it is not the corpus.
        """
        self.check_folders()
        folders = (self.path / name for name in (fmt.SHARDS, fmt.RECORDS, fmt.LEASES))
        for folder in (self.path, *folders, *([scratch] if scratch else [])):
            remove_leftovers(folder)
        # The owner of such a lease died after it had published the task.
        for path in (self.path / fmt.LEASES).glob("*.*[0-9]"):
            if is_task_id(path.stem) and self.record_stamp(path.stem) and Lease(path).is_over():
                path.unlink(missing_ok=True)

    def _take_over(self, task: str, owner: str) -> None:
        """Remove the unfinished files of an owner that died during a task."""
        log.info("task %s: taking over from %s", task, owner)
        shard = self.shard_path(task)
        for unfinished in (shard, shard.with_suffix(".bytes"), self.record_path(task)):
            temporary_path(unfinished, owner).unlink(missing_ok=True)

    # --- Logs

    def log(self, task: str, event: str) -> None:
        """Append a line to the log of a task."""
        task_log.append(self.log_path(task), task, event)

    def logged_tasks(self) -> set[str]:
        """The ids of the tasks that have a log."""
        return _stems(self.path / fmt.LOGS, ".log")

    def read_logs(self, tasks: Sequence[str] = ()) -> list[str]:
        """The lines of the logs of these tasks, or of all tasks if none is named, in order of time.

        Raises:
            NotACorpus: the folder is not a corpus.
            UsageError: a named task has no log.
        """
        known = self.logged_tasks()
        if not known:
            self.check_exists()
        if missing := [task for task in tasks if task not in known]:
            count = count_noun(len(known), "task")
            raise UsageError(f"{self.path} has no log of task {missing[0]!r}; it has logs of {count}")
        return task_log.read_merged(map(self.log_path, tasks or sorted(known)))


def _stems(folder: Path, suffix: str) -> set[str]:
    """The ids of the tasks that have a file with a suffix."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:  # a Path for each of 100,000 files would take most of the time
        names = (entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix))
        return set(filter(is_task_id, names))
