"""Ctrl-C, SIGTERM and SIGHUP -> a run that ends in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def caught(stop: Callable[[str], None]) -> Iterator[list[int]]:
    """Within it, the first signal calls `stop` with its name, and a second one kills at once, as
    ever. Gives a list to which signals are added as they come."""
    came: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        came.append(number)
        stop(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # what nohup ignores stays ignored
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)
