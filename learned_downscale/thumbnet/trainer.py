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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from learned_downscale.thumbnet.data import Batch, Batches, Photos
from learned_downscale.thumbnet.log import Log, Stopwatch
from learned_downscale.thumbnet.tasks import Task, Trainable

CHECKPOINT, RUN = "checkpoint.pt", "run.json"

# Called after every step with (steps done, steps in all, the loss terms by name).
Report = Callable[[int, int, dict[str, float]], None]


def make_accelerator() -> Accelerator:
    """It says what device to use; several processes share each batch.

    Raises:
        ValueError: several processes were started that do not share their work.
    """
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
    tasks: Sequence[Task[Any]],
    photos: Photos,
    run: Path,
    made_of: Mapping[str, Any],
    accelerator: Accelerator,
    report: Report = lambda done, total, terms: None,
    stop_after: int | None = None,
) -> bool:
    """Train the tasks; true when all steps are done.

    A stopped run resumes from its last checkpoint (one an epoch) and ends in the state that it
    would have reached uninterrupted.

    Args:
        run: folder for the checkpoint, the loss terms of every step (log.csv) and their curves.
        made_of: what the run is made of, for `lock_run`.
        report: is told of every step.
        stop_after: stop, with a checkpoint, after so many steps.

    Raises:
        ValueError: the folder holds another run or a damaged checkpoint; a batch is too small for
            the processes; a task cannot take its batches; or the loss is no longer finite.
    """
    modules = nn.ModuleList(tasks)
    trained = [trained_by(i, task) for i, task in enumerate(tasks)]
    batches = [task.batches(photos, accelerator.device) for task in tasks]
    _check_batches(batches, accelerator)
    ends = _ends(tasks, batches)
    if not (run / CHECKPOINT).exists():
        for i, task in enumerate(tasks):
            dry_run(i, task, batches[i])
    with accelerator.main_process_first():  # one writes what the others read
        lock_run(run, made_of)
        for task in tasks:
            task.prepare(photos, run)
    kept = read_checkpoint(run / CHECKPOINT)
    if kept:
        modules.load_state_dict(kept["modules"])
    done: int = kept["step"] if kept else 0
    total = ends[-1] if ends else 0
    terms = list(dict.fromkeys(name for task in tasks for name in task.weights()))
    log = Log(run, terms, done) if accelerator.is_main_process else None
    networks = Stopwatch()
    part = slice(accelerator.process_index, None, accelerator.num_processes)

    for i, task in enumerate(tasks):
        begin, end = ends[i - 1] if i else 0, ends[i]
        if not begin <= done < end:
            continue
        freeze_others(modules, trained[i])
        optimiser, schedule = make_optimiser(task, trained[i], end - begin)
        if kept and kept["task"] == i:
            optimiser.load_state_dict(kept["optimiser"])
            schedule.load_state_dict(kept["schedule"])
        else:
            task.begin()
        model = accelerator.prepare_model(task)
        for step in range(done, min(end, stop_after or total)):
            batch = batches[i].take(step, part)
            share = len(batch.index) / batches[i].batch_size
            with networks:
                found = train_step(model, batch, task.weights(), share, accelerator)
            if not math.isfinite(found["loss"]):
                raise ValueError(
                    f"the loss is {found['loss']} at step {step}: training diverged; lower "
                    f"{' or '.join(t.setting for t in trained[i])} of task {i}"
                )
            rate = float(schedule.get_last_lr()[0])
            with networks:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                schedule.step()
                task.after_step(step - begin)
            done = step + 1
            if log is not None:
                log.add(done, i, rate, found, networks.take())
                report(done, total, found)
                if done % batches[i].steps_per_epoch == 0 or done in (end, stop_after):
                    state = {"modules": modules, "optimiser": optimiser, "schedule": schedule}
                    checkpoint(run / CHECKPOINT, state, step=done, task=i)
        if done == stop_after and done < total:
            break
    if done == total and total and log is not None:
        log.draw()
    accelerator.wait_for_everyone()
    return done == total


def train_step(
    model: nn.Module,
    batch: Batch,
    weights: Mapping[str, float],
    share: float,
    accelerator: Accelerator,
) -> dict[str, float]:
    """The gradients of this process' share of a batch; the loss terms of the whole batch by name,
    with their weighted sum first."""
    processes = accelerator.num_processes
    terms = model(batch)
    loss = torch.stack([weights[name] * terms[name] for name in weights]).sum()
    # several processes: the mean of their gradients is taken
    accelerator.backward(loss * (share * processes))
    values = share * torch.stack([loss, *(terms[name] for name in weights)]).detach()
    if processes > 1:
        values = accelerator.reduce(values, "sum")
    return dict(zip(("loss", *weights), values.tolist(), strict=True))  # waits for a GPU


def make_optimiser(
    task: Task[Any], trained: Sequence[Trainable], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW, and the schedule of its learning rates."""
    decay = task.settings.weight_decay
    groups = [
        {"params": t.parameters, "lr": t.rate, "weight_decay": decay * t.decays} for t in trained
    ]
    optimiser = torch.optim.AdamW(groups, fused=True)
    rate = partial(learning_rate, total=steps, warmup=task.settings.warmup)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


def trained_by(i: int, task: Task[Any]) -> list[Trainable]:
    """What a task trains.

    Raises:
        ValueError: nothing.
    """
    trained = [t for t in task.trainable() if t.rate and t.parameters]
    if not trained:
        raise ValueError(f"task {i} ({task.settings.type}) trains nothing; leave it out")
    return trained


def freeze_others(modules: nn.Module, trained: Sequence[Trainable]) -> None:
    """Freeze all but what a task trains."""
    modules.requires_grad_(False)
    for each in trained:
        for parameter in each.parameters:
            parameter.requires_grad_(True)


def learning_rate(step: int, total: int, warmup: float) -> float:
    """Share of the full learning rate: a linear rise, then half a cosine to 0."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def _ends(tasks: Sequence[Task[Any]], batches: Sequence[Batches]) -> list[int]:
    """The step after the last one of each task."""
    ends, end = [], 0
    for task, own in zip(tasks, batches, strict=True):
        end += task.settings.epochs * own.steps_per_epoch
        ends.append(end)
    return ends


def _check_batches(batches: Sequence[Batches], accelerator: Accelerator) -> None:
    for each in batches:
        if each.batch_size < accelerator.num_processes:
            raise ValueError(
                f"batches of {each.batch_size} cannot be shared by {accelerator.num_processes} "
                "processes; start fewer, or raise run.batch_size"
            )


@torch.no_grad()
def dry_run(i: int, task: Task[Any], batches: Batches) -> None:
    """One photo in the smallest crop through a task: what cannot take it says so before the
    training, not in its midst."""
    batch = batches.smallest()
    try:
        for step in range(task.turns):
            task(replace(batch, step=step))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"task {i} ({task.settings.type}) fails on its smallest crops, "
            f"{' x '.join(map(str, batch.x.shape[:1:-1]))} px: {error}; give larger ones or "
            "another network"
        ) from error


def lock_run(run: Path, made_of: Mapping[str, Any]) -> None:
    """Make the folder of a run and write what it is made of, or refuse another run's folder.

    made_of: "recipe" (as `Recipe.config` gives it) and fingerprints by name.

    Raises:
        ValueError: the folder holds another run; says in what it differs.
    """
    path = run / RUN
    if not path.is_file():
        run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made_of, indent=2) + "\n", encoding="utf-8")
        return
    theirs, mine = (_flat(m) for m in (json.loads(path.read_text(encoding="utf-8")), made_of))
    if changed := [k for k in {**theirs, **mine} if theirs.get(k) != mine.get(k)]:
        raise ValueError(
            f"{run} holds a run with another {', '.join(changed)}; name another folder, or delete "
            "this one"
        )


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested tables and lists as one, with dotted keys."""
    if not isinstance(value, (dict, list)):
        return {key: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Any] = {}
    for name, inner in pairs:
        found |= _flat(inner, f"{key}.{name}".strip("."))
    return found


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
