"""The training loop of every task: it locks the run's folder, trains one task after the other with
AdamW, a warm-up and a cosine to 0, keeps checkpoints and resumes exactly from them.

`accelerate launch` runs it on several GPUs or in several processes: each computes its part of every
batch, so the result is the same but for the order of sums.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from learned_downscale.thumbnet.data import Batch, Batches, Photos
from learned_downscale.thumbnet.log import Log
from learned_downscale.thumbnet.tasks import Task, Trainable

CHECKPOINT, RUN = "checkpoint.pt", "run.json"

# Called after every step with (steps done, steps in all, the loss terms by name).
Report = Callable[[int, int, dict[str, float]], None]


def make_accelerator() -> Accelerator:
    """It says what device to use; several processes share each batch. Raises ValueError where
    several were started that do not."""
    accelerator = Accelerator(
        mixed_precision="no",  # E, JPEG and filters need float32; tasks have autocast of their own
        # some layers of S have no part in some tasks
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, but do not share the work; start one, or on CPUs "
            "set ACCELERATE_USE_CPU=true"
        )
    return accelerator


def fit(
    tasks: Sequence[Task],
    photos: Photos,
    run: Path,
    made_of: Mapping[str, Any],
    accelerator: Accelerator,
    report: Report = lambda done, total, terms: None,
    stop_after: int | None = None,
) -> bool:
    """Train the tasks; true when all steps are done. A stopped run resumes from its last checkpoint
    (one an epoch) and ends in the state that it would have reached uninterrupted.

    Args:
        run: folder for the checkpoint, the loss terms of every step (log.csv) and their curves.
        made_of: what the run is made of, for `lock_run`.
        report: is called after every step.
        stop_after: stop, with a checkpoint, after so many steps.

    Raises:
        ValueError: the folder holds another run or a damaged checkpoint; batches are too small for
            the processes; a task trains nothing or cannot take its batches; the loss diverged.
    """
    modules, main = nn.ModuleList(tasks), accelerator.is_main_process
    trained = [trained_by(i, task) for i, task in enumerate(tasks)]
    batches = [task.batches(photos, accelerator.device) for task in tasks]
    steps = (t.settings.epochs * b.steps_per_epoch for t, b in zip(tasks, batches, strict=True))
    ends = list(accumulate(steps, initial=0))
    if not (run / CHECKPOINT).exists():
        for i, task in enumerate(tasks):
            dry_run(i, task, batches[i], accelerator.num_processes)
    with accelerator.main_process_first():  # one writes what the others read
        lock_run(run, made_of)
        for task in tasks:
            task.prepare(photos, run)
    kept = read_checkpoint(run / CHECKPOINT)
    if kept:
        modules.load_state_dict(kept["modules"])
    done, total = kept["step"] if kept else 0, ends[-1]
    terms = list(dict.fromkeys(name for task in tasks for name in task.settings.weights()))
    log = Log(run, terms, done) if main else None
    part = slice(accelerator.process_index, None, accelerator.num_processes)

    for i, task in enumerate(tasks):
        if not ends[i] <= done < min(ends[i + 1], stop_after or total):
            continue
        optimiser, schedule = make_optimiser(modules, task, trained[i], ends[i + 1] - ends[i])
        if kept and kept["task"] == i:
            optimiser.load_state_dict(kept["optimiser"])
            schedule.load_state_dict(kept["schedule"])
        else:
            task.begin()
        model = accelerator.prepare_model(task)
        for step in range(done, min(ends[i + 1], stop_after or total)):
            batch = batches[i].take(step, part)
            share = len(batch.index) / batches[i].batch_size
            begun = time.perf_counter()
            found = train_step(model, batch, task.settings.weights(), share, accelerator)
            if not math.isfinite(found["loss"]):
                raise ValueError(
                    f"the loss is {found['loss']} at step {step}: training diverged; lower "
                    f"{' or '.join(t.setting for t in trained[i])} of task {i}"
                )
            rate = float(schedule.get_last_lr()[0])
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            schedule.step()
            task.after_step(step - ends[i])
            seconds, done = time.perf_counter() - begun, step + 1
            if log is not None:
                log.add(done, i, rate, found, seconds)
                report(done, total, found)
                if done % batches[i].steps_per_epoch == 0 or done in (ends[i + 1], stop_after):
                    state = {"modules": modules, "optimiser": optimiser, "schedule": schedule}
                    checkpoint(run / CHECKPOINT, state, step=done, task=i)
    if log is not None and 0 < done == total:
        log.draw()
    accelerator.wait_for_everyone()
    return bool(done == total)


def train_step(
    model: nn.Module,
    batch: Batch,
    weights: Mapping[str, float],
    share: float,
    accelerator: Accelerator,
) -> dict[str, float]:
    """The gradients of this process' share of a batch; the terms of all of it, their sum first."""
    processes = accelerator.num_processes
    terms = model(batch)
    loss = torch.stack([weights[name] * terms[name] for name in weights]).sum()
    # several processes: the mean of their gradients is taken
    accelerator.backward(loss * (share * processes))
    values = share * torch.stack([loss, *(terms[name] for name in weights)]).detach()
    values = accelerator.reduce(values, "sum") if processes > 1 else values
    return dict(zip(("loss", *weights), values.tolist(), strict=True))  # waits for a GPU


def trained_by(i: int, task: Task) -> list[Trainable]:
    """What a task trains; raises ValueError if that is nothing."""
    trained = [t for t in task.trainable() if t.rate and t.parameters]
    if not trained:
        raise ValueError(f"task {i} ({task.settings.type}) trains nothing; leave it out")
    return trained


def make_optimiser(
    modules: nn.Module, task: Task, trained: Sequence[Trainable], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW and the schedule of its learning rates; everything that it does not train is frozen."""
    modules.requires_grad_(False)
    for parameter in (p for each in trained for p in each.parameters):
        parameter.requires_grad_(True)
    decay = task.settings.weight_decay
    groups = [
        {"params": t.parameters, "lr": t.rate, "weight_decay": decay * t.decays} for t in trained
    ]
    optimiser = torch.optim.AdamW(groups, fused=True)
    rate = partial(learning_rate, total=steps, warmup=task.settings.warmup)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


def learning_rate(step: int, total: int, warmup: float) -> float:
    """Share of the full learning rate: a linear rise, then half a cosine to 0."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


@torch.no_grad()
def dry_run(i: int, task: Task, batches: Batches, processes: int) -> None:
    """One photo in the smallest crop through a task: what cannot take it says so before the
    training, not in its midst."""
    if batches.batch_size < processes:
        raise ValueError("there are more processes than photos in a batch; start fewer")
    batch = batches.smallest()
    try:
        for step in range(max(1, len(task.readers))):
            task(replace(batch, step=step))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"task {i} ({task.settings.type}) fails on its smallest crops, {batch.x.shape[-1]} px: "
            f"{error}; give larger ones or another network"
        ) from error


def lock_run(run: Path, made_of: Mapping[str, Any]) -> None:
    """Make the folder of a run and write what it is made of: the recipe, and fingerprints. Raises
    ValueError where it holds another run, and says in what that differs."""
    path = run / RUN
    if not path.is_file():
        run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made_of, indent=2) + "\n", encoding="utf-8")
        return
    theirs, mine = (
        {**m, **{f"recipe.{k}": v for k, v in m["recipe"].items()}, "recipe": None}
        for m in (json.loads(path.read_text(encoding="utf-8")), made_of)
    )
    if changed := [k for k in {**theirs, **mine} if theirs.get(k) != mine.get(k)]:
        raise ValueError(
            f"{run} holds a run with another {', '.join(changed)}; name another folder, or delete "
            "this one"
        )


def checkpoint(path: Path, state: Mapping[str, Any], **values: int) -> None:
    """Keep the state of everything that training changes."""
    partial_file = path.with_suffix(".partial")
    torch.save({**values, **{k: part.state_dict() for k, part in state.items()}}, partial_file)
    partial_file.replace(path)  # never a half-written checkpoint


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `checkpoint` kept; None for a new run."""
    if not path.is_file():
        return None
    try:
        kept: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start again") from error
    return kept
