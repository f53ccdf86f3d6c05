"""The images of a call, and which of them can be computed together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from learned_downscale.plan import Plan


@dataclass
class Job:
    """One image of a call: its plan, its samples, the way back to its kind, its thumbnail."""

    plan: Plan
    image: Any = None
    samples: Any = None
    pack: Any = None
    device: str = ""
    result: Any = None

    @property
    def key(self) -> Any:
        """Equal for those that can be computed together."""
        s = self.samples
        # PIL's samples have a fourth byte
        return (self.plan, type(self.image), self.device, s.colours, s.alpha, s.levels)


def alike(jobs: Iterable[Job]) -> list[list[Job]]:
    """Those without a result, in groups that can be computed together."""
    groups: dict[Any, list[Job]] = {}
    for i, job in enumerate(jobs):
        if job.result is None:
            groups.setdefault(job.key if job.samples.count == 1 else i, []).append(job)
    return list(groups.values())
