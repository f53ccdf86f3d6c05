"""Weights folders to and from the Hugging Face Hub: push, list, download.

What is pushed is checked first and shown by `uploads`: config.json, the safetensors files,
model.onnx, and the folder's README.md with the front matter that the Hub reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from learned_downscale import pretrained, remote, saving
from learned_downscale.front_matter import LIBRARY, card

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

    from learned_downscale.pretrained import Network


@dataclass(frozen=True)
class Upload:
    """A file as it will lie in a Hub repository."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_sha1(self) -> str:
        """What git calls the file, where it is not stored as a large one."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Model:
    """A model of this library on the Hub.

    name: "owner/name", for `from_pretrained`. commit: of its main branch. kinds: of its networks,
    as far as its tags say: "downscaler", "decoder", "classifier". license: as the Hub names it.
    """

    name: str
    commit: str | None
    kinds: tuple[str, ...]
    license: str | None
    private: bool


def uploads(folder: Path, repo: str) -> list[Upload]:
    """What `push` of a weights folder would send to a repository "owner/name".

    Raises:
        FileNotFoundError: config.json, README.md or a file that config.json names is missing.
        ValueError: the folder is damaged or holds other files (`pretrained.check_folder`), the
            card's front matter is none, or the repository's name is none.
    """
    _check_repo(repo)
    config = pretrained.check_folder(folder)
    path = folder / pretrained.CARD
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; the Hub shows it as the model's card")
    text = card(path.read_text(encoding="utf-8"), config, folder.resolve().name, repo)
    names = [pretrained.CONFIG, *pretrained.files_of(config)]
    files = [Upload(name, (folder / name).read_bytes()) for name in names]
    return [*files, Upload(pretrained.CARD, text.encode("utf-8"))]


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Send a weights folder to the main branch of a Hub model, which is made if there is none.

    Files of earlier weights that are no longer part of them are deleted there; files that are not
    ours stay. If all is there already, nothing is sent.

    Args:
        folder: as `pretrained.save`, training or `save_pretrained` write it.
        repo: "owner/name".
        private: a model that is made is private; one that exists stays as it is.
        token: default: HF_TOKEN, or the token of `hf auth login`.
        message: of the commit.

    Returns:
        "owner/name@commit", which `from_pretrained` takes.

    Raises:
        FileNotFoundError, ValueError: as `uploads`.
        PermissionError: there is no token, or it may not write.
        ConnectionError: the Hub cannot be reached (within 5 seconds), or did not take the files.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    files = uploads(folder, repo)
    token = token or get_token()
    if token is None:
        raise PermissionError(
            f"{repo}: there is no token to push with; set HF_TOKEN or log in with `hf auth login`"
        )
    api = HfApi(token=token, library_name=LIBRARY)
    found = _look_up(api, repo)
    there = _hashes(found)
    stale = _stale(there, files)
    same = all(there.get(file.name) in (file.sha256, file.git_sha1) for file in files)
    if found is not None and same and not stale:
        return f"{repo}@{found.sha}"
    operations = [CommitOperationAdd(file.name, file.content) for file in files]
    deletions = [CommitOperationDelete(name) for name in stale]
    try:
        with _no_bars():
            if found is None:
                api.create_repo(repo, private=private)
            commit = api.create_commit(
                repo,
                [*operations, *deletions],
                commit_message=message or f"{LIBRARY}: {folder.resolve().name}",
                parent_commit=found.sha if found is not None else None,
            )
    except Exception as error:
        raise remote.explained(error, repo) from error
    return f"{repo}@{commit.oid}"


class Storable:
    """`save_pretrained` and `push_to_hub` of the networks (`pretrained.Network`)."""

    def save_pretrained(self: Network, folder: str | Path, *, license: str | None = None) -> None:
        """Write this network into a weights folder, for `from_pretrained`: config.json,
        safetensors and a plain card. A downscaler and its decoder may share a folder.

        Args:
            folder: a new one, or one that holds weights: this network is added, or replaced with
                all that described it (figures, training, model.onnx, card). A Path or a str.
            license: of the weights, as the Hub names it ("apache-2.0").

        Raises:
            FileExistsError: the folder holds something else.
            ValueError: the folder's config.json is damaged.
        """
        saving.save_networks(Path(folder), [self], license)

    def push_to_hub(
        self: Network,
        repo: str,
        *,
        private: bool = False,
        token: str | None = None,
        license: str | None = None,
        message: str | None = None,
    ) -> str:
        """Send this network to a model of the Hugging Face Hub, as `save_pretrained` does to a
        folder: other networks of the model stay. Weights folders are sent with their cards by
        `learned-downscale push`.

        Args:
            repo: "owner/name"; it is made if there is none.
            private: a model that is made is private; one that exists stays as it is.
            token: default: HF_TOKEN, or the token of `hf auth login`.
            license: of the weights, as the Hub names it ("apache-2.0").
            message: of the commit.

        Returns:
            "owner/name@commit", which `from_pretrained` takes.

        Raises:
            ValueError: the name is none of a Hub model, or the model holds a classifier.
            PermissionError: there is no token, or it may not write.
            ConnectionError: the Hub cannot be reached (within 5 seconds).
        """

        def save(folder: Path) -> None:
            saving.save_networks(folder, [self], license)

        return push_saved(repo, save, private=private, token=token, message=message)


def push_saved(
    repo: str,
    save: Callable[[Path], None],
    *,
    private: bool,
    token: str | None,
    message: str | None,
) -> str:
    """`push` of what `save(folder)` writes into a copy of what is on the Hub; raises as
    `Storable.push_to_hub`."""
    _check_repo(repo)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / repo.rpartition("/")[2]
        with contextlib.suppress(FileNotFoundError):  # a new model
            download(repo, folder, token=token)
        try:
            save(folder)
        except FileExistsError as error:
            raise ValueError(
                f"{repo} holds weights of another kind (a classifier, or a downscaler or decoder), "
                "which are not replaced: name another model"
            ) from error
        return push(folder, repo, private=private, token=token, message=message)


def models(owner: str | None = None, *, token: str | None = None) -> list[Model]:
    """Models of this library on the Hub, by name, at most 1,000; owner: of this user or
    organisation only. Private ones are among them where the token may read them.

    Raises:
        ConnectionError: the Hub cannot be reached (within 5 seconds).
        PermissionError: the token is wrong.
    """
    from huggingface_hub import HfApi

    about = f"the models of {owner or 'this library'}"
    remote.reach(about)
    api = HfApi(token=token, library_name=LIBRARY)
    try:
        found = list(api.list_models(author=owner, filter=LIBRARY, limit=1000))
    except Exception as error:
        raise remote.explained(error, about) from error
    return sorted((_model(info) for info in found), key=lambda model: model.name)


def download(
    name: str, folder: Path | None = None, *, force: bool = False, token: str | None = None
) -> tuple[Path, str]:
    """All files of a Hub model, checked as `pretrained.check_folder` does.

    Args:
        name: "owner/name" or "owner/name@revision".
        folder: where to copy them; a new or empty folder, or one that holds weights, which are
            replaced. Default: they stay in the cache of huggingface_hub.
        force: files that are in the cache are fetched again.
        token: default: HF_TOKEN, or the token of `hf auth login`.

    Returns:
        Their folder, and "owner/name@commit".

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: the name is no Hub name, or the files are damaged or do not belong together.
        FileNotFoundError, PermissionError, ConnectionError: as `pretrained.load`.
    """
    parts = remote.split(name)
    if parts is None:
        raise ValueError(
            f"{name!r} is no model of the Hub; write owner/name or owner/name@revision"
        )
    repo, revision = parts
    if folder is not None:
        pretrained.check_free(folder, *pretrained.KINDS)
    (config_path,) = remote.fetch(repo, (pretrained.CONFIG,), revision, force=force, token=token)
    commit = remote.commit_of(config_path)
    names = [pretrained.CONFIG, *pretrained.files_of(pretrained.parse_config(config_path))]
    paths = list(remote.fetch(repo, names, commit, force=force, token=token))
    with contextlib.suppress(FileNotFoundError):  # weights are whole without a card
        paths += remote.fetch(repo, (pretrained.CARD,), commit, force=force, token=token)
    with tempfile.TemporaryDirectory() as temporary:
        checked = Path(temporary) / repo.rpartition("/")[2]
        checked.mkdir()
        for path in paths:
            shutil.copyfile(path, checked / path.name)
        pretrained.check_folder(checked)
        if folder is None:
            return config_path.parent, f"{repo}@{commit}"
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (*pretrained.HASHED.values(), pretrained.CARD):
            (folder / stale).unlink(missing_ok=True)
        for path in paths:
            shutil.copyfile(checked / path.name, folder / path.name)
    return folder, f"{repo}@{commit}"


def _check_repo(repo: str) -> None:
    parts = remote.split(repo)
    if parts is None or parts[1] is not None:
        raise ValueError(f"{repo!r} is no name of a Hub model; write owner/name")


def _look_up(api: HfApi, repo: str) -> ModelInfo | None:
    """What is on the main branch; None where there is no such model, or none to be seen."""
    try:
        return remote.ask(
            lambda seconds: api.model_info(repo, files_metadata=True, timeout=seconds), repo
        )
    except FileNotFoundError:
        return None


def _hashes(info: ModelInfo | None) -> dict[str, str | None]:
    """By name, the SHA-256 of large files and git's SHA-1 of the others."""
    siblings = info.siblings if info is not None else None
    return {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in siblings or ()}


def _stale(there: Mapping[str, str | None], files: Sequence[Upload]) -> list[str]:
    """Files of earlier weights, which the new config.json does not name."""
    kept = {file.name for file in files}
    return [name for name in pretrained.HASHED.values() if name in there and name not in kept]


def _model(info: ModelInfo) -> Model:
    tags = info.tags or []
    terms = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), None)
    kinds = tuple(kind for kind in pretrained.KINDS if kind in tags)
    return Model(info.id, info.sha, kinds, terms, bool(info.private))


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Without huggingface_hub's progress bars, which its uploads show whatever they are told. Its
    own switch is for the whole process and is set back afterwards."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield  # as the user set it
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
