"""A batch: what a person asks of `convert`, made ready to run."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from learned_downscale import __version__, pretrained
from learned_downscale.conversion.arrays import ArraySink
from learned_downscale.conversion.disk import LocalStore
from learned_downscale.conversion.jobs import Choice, Job, Jobs, endings, find_jobs
from learned_downscale.conversion.local import in_order
from learned_downscale.conversion.manifest import Manifest, Row, write_parquet
from learned_downscale.conversion.recipe import Recipe
from learned_downscale.conversion.remote import RemoteStore, is_url, open_store
from learned_downscale.conversion.runs import Files, Policy, Run, Stop, Summary, Work
from learned_downscale.conversion.shards import ShardRun, find_shards, group_files
from learned_downscale.conversion.stores import STATE, Facts, Store
from learned_downscale.conversion.worker import Worker, check_lossless
from learned_downscale.engine.backend import processors
from learned_downscale.files import FORMATS, READABLE, image_files, open_image

Target = Literal["files", "array", "shards"]
TAR = ".tar"


@dataclass(frozen=True)
class Request:
    """What is asked.

    source, out: IN and OUT: paths or fsspec URLs.
    to: "files"; "array": one file of raw pixels; "shards": tar files. Tar files become tar files.
    shard_size: images in a shard that is made of files.
    workers: images that are worked on at once. None: two more than there are processors.
    engine, address: "ray": on a Ray cluster.
    """

    source: str
    out: str
    recipe: Recipe
    choice: Choice = field(default_factory=Choice)
    policy: Policy = field(default_factory=Policy)
    to: Target = "files"
    shard_size: int = 1000
    workers: int | None = None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None


@dataclass
class Estimate:
    """What a run would do. images: to convert. bytes_in, bytes_out, seconds: of all of them.
    sample: how many were made to know. failed: how many of these failed."""

    images: int
    bytes_in: int
    bytes_out: int
    seconds: float
    sample: int
    failed: int


@dataclass
class Check:
    """What the bundled classifier said of a sample. images: that it could read, originals and
    thumbnails. same: thumbnails whose top-1 prediction is their original's."""

    images: int
    same: int


@dataclass
class Batch:
    """A request made ready; a context manager, within which the folder of thumbnails is locked and
    the engine runs.

        with Batch.of(request) as batch:
            summary = batch.run()

    total: images (of tars: shards) that are to be converted.
    others: names of files that are no images, by their endings.
    """

    request: Request
    worker: Worker
    out: Store
    runner: Run | ShardRun
    jobs: Jobs | None
    manifest: Manifest | None
    others: list[str] = field(default_factory=list)
    done: list[Row] = field(default_factory=list)
    driver: Callable[..., Iterator[tuple[Row, Any]]] = in_order
    _held: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def of(cls, request: Request) -> Self:
        """Find what there is to do, and load the weights. Nothing is written.

        Raises:
            ValueError, OSError, ImportError: the request is wrong, or something is not there; the
                message says what.
        """
        recipe = request.recipe
        tars = _tars(request.source)
        if request.engine == "ray" and (tars is not None or request.to != "files"):
            raise ValueError("--engine ray makes files; arrays and shards are made by local")
        if request.address is not None and request.engine != "ray":
            raise ValueError("--address is that of a Ray cluster: give --engine ray, too")
        if tars is not None:
            return cls._of_tars(request, *tars)
        if request.to == "shards" and recipe.small == "skip":
            raise ValueError("--to shards takes all images: --small skip is for files")
        choice = request.choice
        if request.to != "files":  # thumbnails get numbers, not names
            choice = replace(choice, on_collision="ignore")
        jobs = find_jobs(request.source, request.out, recipe, choice)
        worker = Worker(recipe, _threads(len(jobs.jobs), request.workers))
        if worker.needs_lossless and not recipe.raw:
            check_lossless(endings(jobs.jobs))
        if jobs.single and request.to != "files":
            raise ValueError(f"--to {request.to} makes a folder; name one as OUT")
        manifest = None if jobs.single else _manifest(request, worker, jobs.out, jobs.origin)
        runner: Run | ShardRun
        if request.to == "shards":
            assert manifest is not None
            shards = group_files(jobs, request.shard_size)
            runner = ShardRun(shards, jobs.out, worker, request.policy, manifest)
        elif request.to == "array":
            if not isinstance(jobs.out, LocalStore):
                raise ValueError("--to array writes into a folder of this machine, not to a URL")
            assert manifest is not None and recipe.size is not None
            sink = ArraySink(jobs.out, manifest, recipe.size)
            runner = Run(jobs, worker, request.policy, manifest, sink)
        else:
            files = Files(jobs.out, manifest)
            runner = Run(jobs, worker, request.policy, manifest, files)
        return cls(request, worker, jobs.out, runner, jobs, manifest, jobs.others)

    @classmethod
    def _of_tars(cls, request: Request, store: Store, names: list[str]) -> Self:
        if request.to == "array":
            raise ValueError("--to array is made of image files, not of shards")
        if request.recipe.suffix:
            raise ValueError("--suffix is for files: samples of shards keep their keys")
        if request.choice.names is not None or request.choice.on_collision == "rename":
            raise ValueError(
                "--files-from and --on-collision rename are for files; --include and --exclude "
                "choose members of shards"
            )
        out = open_store(request.out)
        if any(os.path.realpath(store.shown(n)) == os.path.realpath(out.shown(n)) for n in names):
            raise ValueError(f"{request.out} holds the originals; they are never overwritten")
        worker = Worker(request.recipe, _threads(2, request.workers))
        origin = request.source
        manifest = _manifest(
            request, worker, out, origin if is_url(origin) else os.path.abspath(origin)
        )
        shards = find_shards(store, names, request.choice)
        runner = ShardRun(shards, out, worker, request.policy, manifest)
        return cls(request, worker, out, runner, None, manifest)

    def __enter__(self) -> Self:
        """Start the engine, lock the folder, and find what is left to do.

        Raises:
            EngineError: it cannot be started; nothing was written.
            BusyError, OtherRecipeError, OSError: the folder cannot be used.
        """
        with ExitStack() as held:
            if self.request.engine == "ray":
                from learned_downscale.conversion.ray import Cluster

                self.driver = held.enter_context(Cluster(self.request.address))
            if self.manifest is not None:
                self.out.begin()
            held.callback(self.out.end)
            if self.manifest is not None:
                held.callback(self.manifest.log.close)
            self.runner.prepare()
            if isinstance(self.runner, Run) and self.request.policy.overwrite != "always":
                self.runner.sink.check(self.runner.todo)
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def makes_files(self) -> bool:
        """Whether thumbnails are files, and not parts of an array or of shards."""
        return isinstance(self.runner, Run) and isinstance(self.runner.sink, Files)

    @property
    def total(self) -> int:
        return len(self.runner.todo)

    @property
    def workers(self) -> int:
        count = self.request.workers or processors() + 2
        return max(1, min(count, self.total)) if isinstance(self.runner, Run) else count

    def run(
        self, on_row: Callable[[Row], None] = lambda row: None, stop: Stop | None = None
    ) -> Summary:
        """Do it. on_row: is called after each image. stop: ends the run early."""

        def seen(row: Row) -> None:
            if row.status == "done":
                self.done.append(row)
            on_row(row)

        if isinstance(self.runner, ShardRun):
            return self.runner(self.workers, on_row, stop)
        workers = self.request.workers or 0 if self.request.engine == "ray" else self.workers
        return self.runner(workers, seen, stop, self.driver)

    def estimate(self, sample: int = 24) -> Estimate:
        """Make a sample, write nothing, and tell what all would be.

        Raises:
            ValueError: for shards.
        """
        if not isinstance(self.runner, Run) or self.jobs is None:
            raise ValueError("--dry-run is for files and arrays, not for shards")
        self.runner.prepare()  # without a lock: nothing is written
        todo = self.runner.todo
        some = [todo[i * len(todo) // sample] for i in range(sample)] if todo else []
        some = list(dict.fromkeys(some))
        work = Work(self.jobs.source, self.worker, _Nothing())
        if some:
            work(some[0])  # the first one also loads what is needed
        begun = time.perf_counter()
        rows = [row for row, _ in in_order(some, work, self.workers)]
        seconds = time.perf_counter() - begun
        times = len(todo) / max(1, len(rows))
        return Estimate(
            images=len(todo),
            bytes_in=sum(facts.size for _, facts in todo if facts is not None),
            bytes_out=round(times * sum(row.bytes_out for row in rows)),
            seconds=times * seconds,
            sample=len(rows),
            failed=sum(row.status == "failed" for row in rows),
        )

    def check(self, count: int) -> Check:
        """Let the bundled classifier read a sample of what was made, and the originals."""
        from learned_downscale.files import decode
        from learned_downscale.readers.bundled import ThumbnailClassifier

        classifier = ThumbnailClassifier.from_pretrained()
        found = Check(0, 0)
        rows = list(dict.fromkeys(self.done[i * len(self.done) // count] for i in range(count)))
        for row in rows if self.done else []:
            assert self.jobs is not None
            try:
                pair = decode(self.jobs.source.read(row.input)), decode(self.out.read(row.output))
                both = classifier.probabilities(list(pair)).argmax(1)
            except (OSError, ValueError, TypeError):  # of a shape that it does not take
                continue
            found.images += 1
            found.same += int(both[0] == both[1])
        return found

    def write_parquet(self) -> str:
        """The manifest as `manifest.parquet` beside it, whose path is returned.

        Raises:
            ImportError: pyarrow is not installed.
        """
        assert self.manifest is not None
        content = io.BytesIO()
        write_parquet(list(self.manifest.rows.values()), content)
        name = f"{STATE}/manifest.parquet"
        self.out.commit(name, self.out.stage(name, content.getvalue()))
        return self.out.shown(name)


class _Nothing:
    """A sink that keeps nothing."""

    grows = False

    def begin(self) -> None: ...
    def check(self, todo: Any) -> None: ...
    def end(self) -> None: ...
    def there(self, job: Job, row: Row | None) -> Facts | None:
        return None

    def stage(self, job: Job, content: bytes) -> None: ...
    def commit(self, row: Row, staged: Any) -> Row:
        return row


def convert_bytes(content: bytes, recipe: Recipe, ending: str | None = None) -> bytes:
    """The thumbnail's file of one image's file, for pipes. ending: of the format; default: that of
    the recipe, or of the image.

    Raises:
        ValueError: as `Worker`; or the image's format cannot be written.
        Exception: Pillow raises many kinds of errors for broken files.
    """
    ending = recipe.ending or ending
    if ending is None:
        most = recipe.max_pixels
        kind = open_image(content, first=True, max_pixels=most, in_strips=True).format
        kind = "JPEG" if kind in ("MPO", "HEIF") else kind
        ending = next((e for e, name in FORMATS.items() if name == kind), ".png")
    made = Worker(recipe, None)(content, ending)
    return content if made.content is None else made.content


def _threads(images: int, workers: int | None) -> int | None:
    """For one image: several images at once, or several threads for one."""
    return 1 if min(images, workers or 2) > 1 else None


def _tars(source: str) -> tuple[Store, list[str]] | None:
    """The tar files that `source` is, or holds beside no images; else None."""
    if is_url(source):
        if source.endswith(TAR):
            folder, _, name = source.rpartition("/")
            return open_store(folder), [name]
        store = RemoteStore(source)
        tars = [name for name in store.top() if name.endswith(TAR)]
        return (store, tars) if tars else None
    path = Path(source)
    if path.is_file():
        return (LocalStore(path.parent), [path.name]) if path.suffix == TAR else None
    tars = sorted(p.name for p in path.glob(f"*{TAR}") if p.is_file()) if path.is_dir() else []
    return (LocalStore(path), tars) if tars and not image_files(path, formats=READABLE) else None


def _manifest(request: Request, worker: Worker, out: Store, origin: str) -> Manifest:
    hashes = {
        str(factor): str(pretrained.read_config(name).get("sha256"))
        for factor, name in worker.weights.items()
    }
    identity = request.recipe.identity(__version__, hashes)
    identity["to"] = request.to if request.to != "shards" else f"shards of {request.shard_size}"
    return Manifest(out, origin, identity)


def ending_of(place: str) -> str | None:
    """The ending that says a thumbnail's format; None for a folder's name or "-"."""
    ending = PurePosixPath(place).suffix.lower()
    return ending if ending in FORMATS else None
