"""WebDataset shards: tar files whose samples are runs of members with one key.

A shard is the unit of work: its tar appears whole when all of its images have been done, and then
its rows are written. A run that dies does its last shard again.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from learned_downscale.conversion.jobs import Choice, Job, Jobs
from learned_downscale.conversion.local import in_order
from learned_downscale.conversion.manifest import Manifest, Row
from learned_downscale.conversion.runs import Policy, Stop, Summary, failed, settled
from learned_downscale.conversion.stores import Facts, FullError, Store, raise_if_full
from learned_downscale.conversion.worker import Worker
from learned_downscale.files import READABLE, format_of, suffix_for

INSIDE = "::"  # between a shard's name and a member's, in rows


@dataclass(frozen=True)
class Member:
    """A member of a tar: its head, its content, whether it is an image to convert, and why it could
    not be read."""

    head: tarfile.TarInfo
    content: bytes
    is_image: bool
    problem: str | None = None


Sample = list[Member]


@dataclass(frozen=True)
class Shard:
    """A tar to write.

    name: of its file, and of its row.
    facts: size and time of the tar it is made of; of files, their number and 0.
    digest: of the names, sizes and times of the files that it is made of.
    samples: reads what goes in.
    """

    name: str
    facts: Facts | None
    digest: str | None
    samples: Callable[[], Iterator[Sample]]


def key_of(name: str) -> str:
    """The key of a member: its name up to the first dot after the last slash."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition(".")[0])


def forget_members(tar: Any) -> None:
    """tarfile keeps the heads of all members; shards may have millions."""
    tar.members = []


def find_shards(store: Store, names: Sequence[str], choice: Choice) -> list[Shard]:
    """Shards for tar files of a store. choice: which members are images to convert."""
    shards = []
    for name in names:
        shards.append(Shard(name, store.facts(name), None, partial(_read_tar, store, name, choice)))
    return shards


def group_files(jobs: Jobs, size: int) -> list[Shard]:
    """Shards for image files: each of `size` of them, in their order. Keys are numbers; beside each
    image a member `.json` says its name (path)."""
    shards = []
    digits = max(6, len(str(len(jobs.jobs) // size)))
    for start in range(0, len(jobs.jobs), size):
        part = jobs.jobs[start : start + size]
        digest = hashlib.sha256()
        for job in part:
            facts = _facts(jobs.source, job)
            what = (job.name, job.output, facts and (facts.size, facts.mtime_ns))
            digest.update(json.dumps(what).encode("ascii"))
        shards.append(
            Shard(
                f"{start // size:0{digits}}.tar",
                Facts(len(part), 0),
                digest.hexdigest(),
                partial(_read_files, jobs.source, part, start),
            )
        )
    return shards


def _facts(store: Store, job: Job) -> Facts | None:
    try:
        return store.facts(job.name)
    except OSError:
        return None


def _read_tar(store: Store, name: str, choice: Choice) -> Iterator[Sample]:
    """The samples of a tar.

    Raises:
        ValueError: it ends early.
        tarfile.TarError, OSError: it cannot be read.
    """
    with store.open(name) as file:
        _check_end(file)
        sample: Sample = []
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for head in tar:
                if sample and key_of(head.name) != key_of(sample[0].head.name):
                    yield sample
                    sample = []
                opened = tar.extractfile(head) if head.isfile() else None
                content = b"" if opened is None else opened.read()
                is_image = opened is not None and format_of(Path(head.name), READABLE) is not None
                sample.append(Member(head, content, is_image and choice.takes(head.name)))
                forget_members(tar)
        if sample:
            yield sample


def _check_end(file: IO[bytes]) -> None:
    """Refuse a tar without its last, empty block: tarfile takes it for a whole one where it is cut
    between two members."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - tarfile.BLOCKSIZE))
    whole = size % tarfile.BLOCKSIZE == 0 and not any(file.read())
    if not whole or not size:
        raise ValueError("the shard ends early: it has no end of archive; fetch or write it again")
    file.seek(0)


def _read_files(store: Store, jobs: Sequence[Job], start: int) -> Iterator[Sample]:
    for number, job in enumerate(jobs, start):
        head = tarfile.TarInfo(f"{number:09}{PurePosixPath(job.output).suffix}")
        content, problem = b"", job.problem
        try:
            facts = store.facts(job.name)
            if facts is not None and not facts.regular:
                raise ValueError("it is no regular file, or a folder that cannot be read")
            if problem is None:
                content = store.read(job.name)
            head.mtime = (facts.mtime_ns if facts else 0) // 10**9
        except Exception as error:  # one bad file must not stop the rest
            problem = failed(Row("", "", ""), error).reason
        about = tarfile.TarInfo(f"{number:09}.json")
        about.mtime = head.mtime
        text = json.dumps({"path": job.name}).encode("ascii")
        yield [Member(head, content, True, problem), Member(about, text, False)]


@dataclass(frozen=True)
class SampleWork:
    """A sample with its images made smaller; picklable."""

    worker: Worker
    shard: str
    hashes: bool = False

    def __call__(self, sample: Sample) -> tuple[Sample, list[Row]]:
        """The members to write, and a row for each image. A sample with an image that fails is left
        out as a whole, so that no reader finds a part of one."""
        members, rows = [], []
        by_output: dict[str, set[str]] = {}
        for member in sample:
            by_output.setdefault(self._output(member), set()).add(member.head.name)
        for member in sample:
            if not member.is_image:
                members.append(member)
                continue
            begun, name, output = time.perf_counter(), member.head.name, self._output(member)
            row = Row(self.shard + INSIDE + name, self.shard + INSIDE + output, "failed")
            row = replace(row, size=len(member.content), bytes_in=len(member.content))
            if self.hashes:
                row = replace(row, sha256=hashlib.sha256(member.content).hexdigest())
            try:
                if member.problem is not None:
                    raise ValueError(member.problem)
                if alike := by_output[output] - {name}:
                    raise ValueError(f"{', '.join(sorted(alike))} would be {output}, too")
                made = self.worker(member.content, PurePosixPath(output).suffix)
                row = replace(row, plan=made.how, decoder=made.decoder)
                row = replace(row, status=made.status, bytes_out=len(made.content or b""))
                if made.content is None:
                    row = replace(row, reason="it is not larger than asked")
                else:
                    head = tarfile.TarInfo(output)
                    head.mtime, head.mode = member.head.mtime, member.head.mode
                    members.append(Member(head, made.content, True))
            except Exception as error:  # Pillow raises many kinds
                row = failed(row, error)
            rows.append(replace(row, seconds=round(time.perf_counter() - begun, 4)))
        bad = next((row for row in rows if row.status not in ("done", "copied")), None)
        if bad is None:
            return members, rows
        reason = f"left out with {bad.input.partition(INSIDE)[2]} of the same sample"
        return [], [
            row if row.reason else replace(row, status=bad.status, reason=reason, bytes_out=0)
            for row in rows
        ]

    def _output(self, member: Member) -> str:
        """The name of what is written for a member."""
        path = PurePosixPath(member.head.name)
        if not member.is_image:
            return member.head.name
        return str(path.with_suffix(self.worker.recipe.ending or suffix_for(path.suffix)))


class ShardRun:
    """One run over shards; as `runs.Run`, with an image's row for `on_row`."""

    def __init__(
        self, shards: list[Shard], out: Store, worker: Worker, policy: Policy, manifest: Manifest
    ) -> None:
        self.shards, self.out, self.worker = shards, out, worker
        self.policy, self.manifest = policy, manifest
        self.summary = Summary(manifest=manifest.shown)
        self.todo: list[Shard] = []

    def prepare(self) -> None:
        """Find what is left to do. Raises OtherRecipeError."""
        self.manifest.read()
        if self.policy.overwrite != "always":
            self.manifest.check(iter(()))
        for shard in self.shards:
            known = self.manifest.rows.get(shard.name)
            there = self.out.facts(shard.name)
            if known is not None and known.sha256 != shard.digest:
                known = replace(known, size=-1)  # of other files
            state = settled(Job(shard.name, shard.name), shard.facts, known, there, self.policy)
            partly = known is not None and known.reason is not None
            if partly and state == "unchanged":
                state = None if self.policy.retry_failed else "failed before"
            if state is None:
                self.todo.append(shard)
            else:
                self.summary.counts[state] += 1

    def __call__(
        self,
        workers: int,
        on_row: Callable[[Row], None] = lambda row: None,
        stop: Stop | None = None,
    ) -> Summary:
        """Do what is left to do; as `runs.Run`."""
        stop = stop or Stop()
        begun = time.perf_counter()
        try:
            self.manifest.begin(restart=self.policy.overwrite == "always")
            for shard in self.todo:
                if stop.reason is None:
                    self._convert(shard, workers, on_row, stop)
        except FullError as error:
            stop.reason = str(error)
        self.summary.stopped, self.summary.seconds = stop.reason, time.perf_counter() - begun
        return self.summary

    def _convert(
        self, shard: Shard, workers: int, on_row: Callable[[Row], None], stop: Stop
    ) -> None:
        begun = time.perf_counter()
        facts = shard.facts or Facts(0, 0)
        row = Row(shard.name, shard.name, "failed", facts.size, facts.mtime_ns, shard.digest)
        rows: list[Row] = []
        part = self.out.scratch()
        try:
            with closing(self._write(shard, part, workers, rows, on_row, stop)) as steps:
                for _ in steps:
                    if stop.reason is not None:
                        return
            bad = sum(r.status == "failed" for r in rows)
            row = replace(
                row,
                status="done",
                bytes_in=sum(r.bytes_in for r in rows),
                bytes_out=part.stat().st_size,
                reason=f"{bad} images failed; their samples are left out" if bad else None,
            )
            staged = self.out.stage(shard.name, part)
        except FullError:
            raise
        except Exception as error:  # one bad shard must not stop the rest
            raise_if_full(error)
            row = failed(row, error, transient=isinstance(error, OSError))
            self.manifest.append(replace(row, seconds=round(time.perf_counter() - begun, 4)))
            self.summary.counts["failed"] += 1
            on_row(row)
            return
        finally:
            if row.status == "failed":
                part.unlink(missing_ok=True)
        row = replace(row, seconds=round(time.perf_counter() - begun, 4))
        self.out.commit(shard.name, staged)
        self.manifest.append(*rows, row)
        self.manifest.log.sync()
        for one in rows:
            self.summary.add(one)

    def _write(
        self,
        shard: Shard,
        part: Path,
        workers: int,
        rows: list[Row],
        on_row: Callable[[Row], None],
        stop: Stop,
    ) -> Generator[None]:
        """Write a tar, sample by sample; rows are added to `rows`."""
        work = SampleWork(self.worker, shard.name, self.policy.hashes)
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for members, made in in_order(shard.samples(), work, workers):
                for member in members:
                    head = member.head
                    head.size = len(member.content)
                    tar.addfile(head, io.BytesIO(member.content))
                    forget_members(tar)
                rows += made
                for row in made:
                    on_row(row)
                    if row.status == "failed" and self.policy.on_error == "stop":
                        stop.reason = stop.reason or f"{row.input} failed (--on-error stop)"
                yield
