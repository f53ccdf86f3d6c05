"""All jobs on this machine: decoding, resizing and encoding of several files at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from learned_downscale.conversion.jobs import Job
from learned_downscale.conversion.worker import convert_file
from learned_downscale.files import quiet
from learned_downscale.plan import Plan
from learned_downscale.resizer import Resizer


def convert_files(
    jobs: Sequence[Job], resizer: Resizer, workers: int, **options: Any
) -> Iterator[tuple[Job, Plan | Exception | None]]:
    """Each job, in their order, with what `convert_file` gave or raised.

    Args:
        resizer: best with `num_threads` of 1: the files are what is worked on at once.
        options: as for `convert_file`.
        workers: threads. Decoders and encoders let go of Python's lock, so threads do. At most
            twice as many images are in memory.
    """
    waiting: deque[tuple[Job, Future[Plan | None]]] = deque()

    def first() -> tuple[Job, Plan | Exception | None]:
        job, future = waiting.popleft()
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        return job, future.result() if error is None else error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="learned_downscale_convert")
    try:
        with quiet():  # here, since it is not for several threads
            for job in jobs:
                if len(waiting) == 2 * workers:
                    yield first()
                future = pool.submit(convert_file, job, resizer, **options)
                waiting.append((job, future))
            while waiting:
                yield first()
    finally:  # also where the caller stops: what has begun is finished, the rest is not begun
        pool.shutdown(cancel_futures=True)
