"""A run: what is left to do of all jobs is done, and each has its row in the manifest."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol

from learned_downscale.conversion.jobs import Job, Jobs
from learned_downscale.conversion.local import in_order
from learned_downscale.conversion.manifest import Manifest, Row
from learned_downscale.conversion.stores import Facts, FullError, Store
from learned_downscale.conversion.worker import Worker

Overwrite = Literal["never", "changed", "always"]
OnError = Literal["skip", "stop"]


class EngineError(Exception):
    """What works on the images cannot start, or ended early; the message says what to do."""


@dataclass(frozen=True)
class Policy:
    """How a run meets what is there already, and what fails.

    overwrite: "never" replaces no file; "changed" makes thumbnails again whose image has another
        size or time than in the manifest, and those that are gone or cut; "always" makes all.
    retry_failed: try images again that failed and have not changed. Failures of reading and writing
        are tried again always.
    on_error: "stop" ends the run at the first failure.
    hashes: put the SHA-256 of every image into the manifest.
    """

    overwrite: Overwrite = "changed"
    retry_failed: bool = False
    on_error: OnError = "skip"
    hashes: bool = False


@dataclass
class Stop:
    """Set `reason` to end a run soon: what is being written is finished or removed."""

    reason: str | None = None


@dataclass
class Summary:
    """What a run did.

    counts: images by what became of them: done, copied, skipped, failed, kept (the file was there,
        by whom is not known), unchanged (done by an earlier run), failed before (and not tried).
    stopped: why it ended early; None if it did not.
    manifest: its path or URL.
    """

    counts: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    manifest: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every image has what it should have."""
        return self.stopped is None and not self.counts["failed"] + self.counts["failed before"]

    def add(self, row: Row) -> None:
        self.counts[row.status] += 1
        self.bytes_in += row.bytes_in
        self.bytes_out += row.bytes_out


class Sink(Protocol):
    """Where thumbnails go. `stage` is called from several threads, the rest from one.

    grows: thumbnails are only added, never replaced.
    """

    grows: bool

    def check(self, todo: Iterable[tuple[Job, Facts | None]]) -> None:
        """Refuse what cannot be done. Raises OtherRecipeError."""

    def begin(self) -> None:
        """Called before the first thumbnail, when the manifest has begun."""

    def end(self) -> None:
        """Called after the last thumbnail, also where the run ends early. Raises FullError."""

    def there(self, job: Job, row: Row | None) -> Facts | None:
        """What is in the place of a thumbnail."""

    def stage(self, job: Job, content: bytes) -> Any: ...

    def commit(self, row: Row, staged: Any) -> Row:
        """Make the thumbnail appear and its row be written; gives the row that was."""


class Files:
    """Thumbnails as files of a store.

    A new file's row is written before the file appears, and a replaced file's after: whenever a run
    dies, what the rows say is there is there, or is found missing and made again.
    """

    grows = False

    def __init__(self, out: Store, manifest: Manifest | None) -> None:
        self.out, self.manifest = out, manifest

    def __getstate__(self) -> dict[str, Any]:
        return {"out": self.out, "manifest": None}

    def check(self, todo: Iterable[tuple[Job, Facts | None]]) -> None:
        pass

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass

    def there(self, job: Job, row: Row | None) -> Facts | None:
        return self.out.facts(job.output)

    def stage(self, job: Job, content: bytes) -> tuple[bool, Any]:
        new = self.out.facts(job.output) is None
        return new, self.out.stage(job.output, content)

    def commit(self, row: Row, staged: tuple[bool, Any]) -> Row:
        new, part = staged
        if new:
            record(self.manifest, row)
        try:
            self.out.commit(row.output, part)
        except OSError as error:
            row = failed(row, error, transient=True)
            record(self.manifest, row)
            return row
        if not new:
            record(self.manifest, row)
        return row


def record(manifest: Manifest | None, row: Row) -> None:
    if manifest is not None:
        manifest.append(row)


def failed(row: Row, error: Exception, transient: bool = False) -> Row:
    """The row of an image that failed, with the reason in words."""
    reason = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        reason = error.strerror
    reason = reason or type(error).__name__
    again = transient or isinstance(error, MemoryError)
    return replace(row, status="failed", reason=reason, transient=again, bytes_out=0)


@dataclass(frozen=True)
class Work:
    """The work on one job, up to the last step; picklable, for any driver."""

    source: Store
    worker: Worker
    sink: Sink
    hashes: bool = False

    def __call__(self, task: tuple[Job, Facts | None]) -> tuple[Row, Any]:
        """The row of a job, and what `Sink.commit` takes. Raises FullError."""
        job, facts = task
        begun = time.perf_counter()
        row = Row(job.name, job.output, "failed")
        if facts is not None:
            row = replace(row, size=facts.size, mtime_ns=facts.mtime_ns)
        staged, storing = None, False
        try:
            if job.problem is not None:
                raise ValueError(job.problem)
            if facts is not None and not facts.regular:  # reading a pipe waits for ever
                raise ValueError("it is no regular file, or a folder that cannot be read")
            storing = True
            content = self.source.read(job.name)
            storing = False
            row = replace(row, bytes_in=len(content))
            if self.hashes:
                row = replace(row, sha256=hashlib.sha256(content).hexdigest())
            made = self.worker(content, PurePosixPath(job.output).suffix)
            row = replace(row, plan=made.how, decoder=made.decoder)
            storing = True
            if made.content is None:
                row = replace(row, status="skipped", reason="it is not larger than asked")
            else:
                staged = self.sink.stage(job, made.content)
                row = replace(row, status=made.status, bytes_out=len(made.content))
        except FullError:
            raise
        except Exception as error:  # one bad file must not stop the rest; Pillow raises many kinds
            row = failed(row, error, transient=storing)
        return replace(row, seconds=round(time.perf_counter() - begun, 4)), staged


def settled(
    job: Job, facts: Facts | None, known: Row | None, there: Facts | None, policy: Policy
) -> str | None:
    """Why a job needs no work: "unchanged", "kept", "skipped" or "failed before"; else None.

    facts: of the image. known: its row. there: what is in the place of the thumbnail.
    """
    if policy.overwrite == "always" or (there is not None and not there.regular):
        return None
    same = (
        known is not None
        and facts is not None
        and (known.size, known.mtime_ns, known.output) == (facts.size, facts.mtime_ns, job.output)
    )
    never = policy.overwrite == "never" and there is not None
    if known is not None and known.status == "failed":
        if same and not (known.transient or policy.retry_failed or job.problem):
            return "failed before"
        return "kept" if never else None
    if there is None:
        return "skipped" if same and known is not None and known.status == "skipped" else None
    if known is None or known.status == "kept":
        return "kept" if job.problem is None else None
    whole = known.status in ("done", "copied") and there.size == known.bytes_out
    return "unchanged" if never or (same and whole) else None


class Run:
    """One run over all jobs.

    Args:
        jobs: what there is to do.
        worker: makes the thumbnails.
        policy: as there.
        manifest: None for a single file.
        sink: where the thumbnails go.
    """

    def __init__(
        self, jobs: Jobs, worker: Worker, policy: Policy, manifest: Manifest | None, sink: Sink
    ) -> None:
        self.jobs, self.worker, self.policy = jobs, worker, policy
        self.manifest, self.sink = manifest, sink
        self.summary = Summary(manifest=manifest.shown if manifest else None)
        self.todo: list[tuple[Job, Facts | None]] = []

    def prepare(self) -> None:
        """Find what is left to do; nothing is written yet.

        Raises:
            OtherRecipeError: the manifest is of another recipe, or of other images.
        """
        found = [(job, self._facts(job)) for job in self.jobs.jobs]
        manifest = self.manifest
        if manifest is not None:
            manifest.read()
            if self.policy.overwrite != "always":
                manifest.check((j.name, f.size, f.mtime_ns) for j, f in found if f is not None)
        self._kept: list[Row] = []
        for job, facts in found:
            known = None if manifest is None else manifest.rows.get(job.name)
            there = self._there(job, known)
            state = settled(job, facts, known, there, self.policy)
            if state is None:
                self.todo.append((job, facts))
                continue
            self.summary.counts[state] += 1
            if state == "kept" and known is None and facts is not None:
                reason = "a file of this name was there, without a row"
                row = Row(job.name, job.output, "kept", facts.size, facts.mtime_ns, reason=reason)
                self._kept.append(row)

    def __call__(
        self,
        workers: int,
        on_row: Callable[[Row], None] = lambda row: None,
        stop: Stop | None = None,
        driver: Callable[..., Iterator[tuple[Row, Any]]] = in_order,
    ) -> Summary:
        """Do what is left to do.

        Args:
            workers: images that are worked on at once.
            on_row: is called after each image.
            stop: ends the run early.
            driver: as `local.in_order`.
        """
        stop = stop or Stop()
        begun = time.perf_counter()
        work = Work(self.jobs.source, self.worker, self.sink, self.policy.hashes)
        try:
            if self.manifest is not None:
                self.manifest.begin(self.policy.overwrite == "always", self.sink.grows)
                self.manifest.append(*self._kept)
            self.sink.begin()
            for row, staged in self._rows(driver(self._tasks(stop), work, workers), stop):
                row = self._committed(row, staged)
                self.summary.add(row)
                on_row(row)
                if row.status == "failed" and self.policy.on_error == "stop":
                    stop.reason = stop.reason or f"{row.input} failed (--on-error stop)"
        except (FullError, EngineError) as error:
            stop.reason = str(error)
        finally:
            with suppress(FullError):
                self.sink.end()
            with suppress(FullError):
                if self.manifest is not None:
                    self.manifest.log.sync()
        self.summary.stopped = stop.reason
        self.summary.seconds = time.perf_counter() - begun
        return self.summary

    def _tasks(self, stop: Stop) -> Iterable[tuple[Job, Facts | None]]:
        for task in self.todo:
            if stop.reason is not None:
                return
            yield task

    @staticmethod
    def _rows(made: Iterator[tuple[Row, Any]], stop: Stop) -> Iterator[tuple[Row, Any]]:
        """Those that are made, until the run is to stop."""
        close = getattr(made, "close", None)
        try:
            for one in made:
                yield one
                if stop.reason is not None:
                    return
        finally:
            if close is not None:
                close()

    def _committed(self, row: Row, staged: Any) -> Row:
        if row.status in ("done", "copied"):
            return self.sink.commit(row, staged)
        record(self.manifest, row)
        return row

    def _facts(self, job: Job) -> Facts | None:
        try:
            return self.jobs.source.facts(job.name)
        except OSError:  # reading it says why
            return None

    def _there(self, job: Job, row: Row | None) -> Facts | None:
        try:
            return self.sink.there(job, row)
        except OSError:  # writing it says why
            return None
