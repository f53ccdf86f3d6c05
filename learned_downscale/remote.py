"""The Hugging Face Hub, asked quietly and with a deadline: which commit a revision is, and files of
it. Knows no weights.

- A commit that is in the cache is used without the network; so is any revision in the cache when
  HF_HUB_OFFLINE is set or the Hub cannot be reached.
- HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and the token of `hf auth login` are honoured.
- Nothing is printed. An unreachable Hub is an error within 5 seconds (`patience`).
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def split(name: str | Path, revision: str | None = None) -> tuple[str, str | None] | None:
    """("owner/name", revision) of a Hub name "owner/name" or "owner/name@revision"; None for what
    is no Hub name (a Path never is).

    Raises:
        ValueError: nothing stands after the "@", or `revision` says another one.
    """
    if not isinstance(name, str) or name.startswith((".", "/", "~")):
        return None
    repo, at, named = name.partition("@")
    if _REPO.fullmatch(repo) is None:
        return None
    if at and not named:
        raise ValueError(f"{name!r} names no revision after the @; write one, or leave the @ out")
    if named and revision not in (None, named):
        raise ValueError(f"{name!r} and revision={revision!r} differ; give one of them")
    return repo, named or revision


def patience() -> float:
    """Seconds to wait for the Hub's first answer: 4, or HF_HUB_ETAG_TIMEOUT where that is set."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_ETAG_TIMEOUT) if "HF_HUB_ETAG_TIMEOUT" in os.environ else 4.0


def ask(question: Callable[[float], T], about: str) -> T:
    """The answer to one question to the Hub; `question` is told its timeout in seconds.

    about: what is asked for, "owner/name" or "owner/name@revision", for messages.

    Raises:
        ConnectionError: the Hub cannot be reached, or HF_HUB_OFFLINE is set.
        PermissionError: the token is missing, wrong or not allowed to do this.
        FileNotFoundError: there is no such model, revision or file.
        ValueError: the name is none that the Hub allows.
    """
    # In a thread, since the HTTP library's timeouts leave out the search for the address (DNS), and
    # count for each of the host's addresses anew.
    seconds = patience()
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, question(seconds)))
        except BaseException as error:
            answers.put((False, error))

    threading.Thread(target=run, daemon=True, name="learned_downscale.remote").start()
    try:
        well, answer = answers.get(timeout=seconds + 0.5)
    except queue.Empty:
        error = TimeoutError(f"no answer in {seconds:g} s")
        raise explained(error, about) from None
    if well:
        return answer
    raise explained(answer, about) from answer


def explained(error: BaseException, about: str) -> BaseException:
    """What went wrong in plain words, as `ask` raises it; errors that are not the Hub's stay."""
    from huggingface_hub import constants, errors

    if type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__  # of an upload in a thread
    hub = f"the Hub ({constants.ENDPOINT})"
    login = "set HF_TOKEN or log in with `hf auth login`"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ConnectionError(f"{about}: {hub} is not asked, since HF_HUB_OFFLINE is set")
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{about}: its owner has to allow access; ask for it on {constants.ENDPOINT}/"
            f"{about.partition('@')[0]}, then {login}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"{about}: {hub} shows no such model; the name is wrong, or the model is private and "
            f"there is no token that may read it: {login}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{about}: the model has no such branch, tag or commit")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        path = str(error.response.url).rpartition("/")[2].partition("?")[0]
        return FileNotFoundError(f"{about}: there is no file {path} in the model")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        said = f": {error.server_message}" if error.server_message else ""
        if status in (401, 403):
            return PermissionError(
                f"{about}: {hub} refused (HTTP {status}{said}); the token is wrong or may not do "
                f"this: {login}"
            )
        return ConnectionError(f"{about}: {hub} answered with HTTP {status}{said}; try again later")
    if isinstance(error, errors.HFValidationError):
        return ValueError(f"{about!r} is no name that the Hub allows: {error}")
    missing = isinstance(error, errors.LocalEntryNotFoundError)  # the network broke meanwhile
    broken = isinstance(error, (ConnectionError, TimeoutError)) or missing
    ours = isinstance(error, (TypeError, ValueError, OSError))  # of the disk, say
    if (ours and not broken) or not isinstance(error, Exception):
        return error
    # of the HTTP library, which differs between versions of huggingface_hub
    return ConnectionError(
        f"{about}: {hub} cannot be reached ({type(error).__name__}: {error}); check the network "
        "and HF_ENDPOINT, use weights that are bundled or in a folder, or give it more time with "
        "HF_HUB_ETAG_TIMEOUT (seconds)"
    )


def reach(about: str) -> None:
    """Raise as `ask` if the Hub cannot be reached: before calls of huggingface_hub that try again
    for long."""
    from huggingface_hub import constants, get_session

    def question(seconds: float) -> None:
        get_session().head(constants.ENDPOINT, timeout=seconds)  # any answer will do

    ask(question, about)


def fetch(
    repo: str,
    names: Sequence[str],
    revision: str | None = None,
    *,
    force: bool = False,
    token: str | None = None,
) -> tuple[Path, ...]:
    """Files of a Hub model in the cache, all of one commit, the name of their folder
    (`commit_of`). The first must be in the model.

    Args:
        repo: "owner/name".
        names: of the files.
        revision: branch, tag or commit; default: the main branch.
        force: files that are in the cache are fetched again.
        token: default: HF_TOKEN, or the token of `hf auth login`.

    Raises:
        ConnectionError, PermissionError, FileNotFoundError, ValueError: as `ask`. Of an unreachable
            Hub only if a file is not in the cache.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    about = repo if revision is None else f"{repo}@{revision}"
    is_commit = revision is not None and _COMMIT.fullmatch(revision) is not None
    cached = None if force else _cached(repo, names, revision, about)
    if cached is not None and is_commit:
        return cached
    try:
        # The same question comes first in hf_hub_download, which asks it for 25 seconds.
        ask(
            lambda seconds: get_hf_file_metadata(
                hf_hub_url(repo, names[0], revision=revision), token=token, timeout=seconds
            ),
            about,
        )
    except ConnectionError as error:
        if cached is not None:
            return cached
        raise ConnectionError(f"{error}; and the cache does not hold {' and '.join(names)}") from (
            error.__cause__
        )
    # With its branch or tag, the first one also notes in the cache which commit that is.
    first = _download(repo, names[0], revision, force, token, about)
    commit = commit_of(first)
    return (first, *(_download(repo, name, commit, force, token, about) for name in names[1:]))


def commit_of(path: Path) -> str:
    """The commit of a file that `fetch` gave: 40 hexadecimal digits."""
    return path.parent.name


def _cached(
    repo: str, names: Sequence[str], revision: str | None, about: str
) -> tuple[Path, ...] | None:
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        found = [try_to_load_from_cache(repo, name, revision=revision) for name in names]
    except errors.HFValidationError as error:
        raise explained(error, about) from error
    paths = tuple(Path(path) for path in found if isinstance(path, str))
    return paths if len(paths) == len(names) else None


class _Silent:
    """In place of a progress bar."""

    n = 0
    total: int | None = None

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _download(
    repo: str, name: str, revision: str | None, force: bool, token: str | None, about: str
) -> Path:
    from huggingface_hub import hf_hub_download

    silent: Any = _Silent
    try:
        path = hf_hub_download(
            repo,
            name,
            revision=revision,
            library_name="learned_downscale",
            force_download=force,
            token=token,
            etag_timeout=patience(),
            tqdm_class=silent,
        )
    except Exception as error:
        raise explained(error, about) from error
    return Path(path)
