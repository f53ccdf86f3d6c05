"""All jobs on a Ray cluster, by Ray Data; the extra `ray`.

Every machine must reach IN and OUT: a shared file system, or URLs. The machine that starts the run
writes the manifest and does the last step of each file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from learned_downscale.conversion.jobs import Job
from learned_downscale.conversion.manifest import Row
from learned_downscale.conversion.stores import Facts

BATCH = 16  # jobs that an actor is given at once

Driver = Callable[
    [Iterable[tuple[Job, Facts | None]], Callable[..., tuple[Row, Any]], int],
    Iterator[tuple[Row, Any]],
]


class Actor:
    """A process of the cluster: one worker, whose weights are loaded once."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import pickle

        from learned_downscale.files import quiet

        with quiet():
            made = [pickle.dumps(self.work(pickle.loads(task))) for task in batch["task"]]
        return {"made": made}


def on_cluster(address: str | None) -> Driver:
    """A driver, as `local.in_order`, whose workers are processes of a Ray cluster; 0 workers: as
    many as it has processors.

    address: of the cluster, as `ray.init` takes it. None: a new one on this machine.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'learned-downscale[ray]'") from error

    def drive(
        tasks: Iterable[tuple[Job, Facts | None]],
        work: Callable[..., tuple[Row, Any]],
        workers: int,
    ) -> Iterator[tuple[Row, Any]]:
        import pickle

        todo = [{"task": pickle.dumps(task)} for task in tasks]
        if not todo:
            return
        started = not ray.is_initialized()
        if started:
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        try:
            workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            blocks = max(1, min(len(todo), max(4 * workers, len(todo) // (4 * BATCH))))
            data = ray.data.from_items(todo, override_num_blocks=blocks).map_batches(
                Actor,
                fn_constructor_args=(work,),
                batch_size=BATCH,
                concurrency=workers,
                num_cpus=1,
            )
            for row in data.iter_rows():
                yield pickle.loads(row["made"])
        finally:
            if started:
                ray.shutdown()

    return drive
