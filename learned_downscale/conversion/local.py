"""Several things at once on this machine: threads, since decoders, encoders and networks let go of
Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from learned_downscale.files import quiet

T = TypeVar("T")
R = TypeVar("R")


def in_order(tasks: Iterable[T], work: Callable[[T], R], workers: int) -> Iterator[R]:
    """What `work` gives for each task, in their order; what it raises is raised.

    workers: threads. At most twice as many tasks have begun and are not given out yet. Where the
    caller stops, what has begun is finished, and the rest is not begun.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="learned_downscale_convert")
    try:
        with quiet():  # here, since it is not for several threads
            for task in tasks:
                if len(waiting) == 2 * workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, task))
            while waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
