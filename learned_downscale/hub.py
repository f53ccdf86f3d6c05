"""Weights folders to and from the Hugging Face Hub: push, list, download.

What is pushed is checked first and shown by `uploads`: config.json, the safetensors files,
model.onnx, and the folder's README.md with the front matter that the Hub reads.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learned_downscale import pretrained, remote

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, HfApi, ModelInfo

LIBRARY = "learned_downscale"
TAGS = ("downscaling", "thumbnails", "thumbnet")


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
    if found is not None and all(there.get(f.name) in (f.sha256, f.git_sha1) for f in files):
        stale = _stale(there, files)
        if not stale:
            return f"{repo}@{found.sha}"
    operations = [CommitOperationAdd(file.name, file.content) for file in files]
    deletions = [CommitOperationDelete(name) for name in _stale(there, files)]
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


def push_networks(
    repo: str, save: Any, *, private: bool, token: str | None, message: str | None
) -> str:
    """`push` of what `save(folder)` writes into a new folder of the repository's name."""
    _check_repo(repo)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / repo.rpartition("/")[2]
        save(folder)
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


def download(name: str, folder: Path | None = None, *, force: bool = False) -> tuple[Path, str]:
    """All files of a Hub model, checked as `pretrained.check_folder` does.

    Args:
        name: "owner/name" or "owner/name@revision".
        folder: where to copy them; a new or empty folder, or one that holds weights, which are
            replaced. Default: they stay in the cache of huggingface_hub.
        force: files that are in the cache are fetched again.

    Returns:
        Their folder, and "owner/name@commit".

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: the name is no Hub name, or the files are damaged or do not belong together.
        FileNotFoundError, PermissionError, ConnectionError: as `pretrained.load`.
    """
    parts = remote.split(name)
    if parts is None:
        raise ValueError(f"{name!r} is no model of the Hub; write owner/name or owner/name@revision")
    repo, revision = parts
    if folder is not None:
        pretrained.check_free(folder, *pretrained.KINDS)
    (config_path,) = remote.fetch(repo, (pretrained.CONFIG,), revision, force=force)
    commit = remote.commit_of(config_path)
    names = [pretrained.CONFIG, *pretrained.files_of(pretrained.parse_config(config_path))]
    paths = list(remote.fetch(repo, names, commit, force=force))
    try:
        paths += remote.fetch(repo, (pretrained.CARD,), commit, force=force)
    except FileNotFoundError:  # weights are whole without a card
        pass
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


def card(text: str, config: Mapping[str, Any], name: str, repo: str) -> str:
    """A model card as it is pushed: its front matter completed from config.json (library, tags,
    data, and figures as model-index), and its lines of use with the repository's name.

    Args:
        text: of the README.md.
        config: of the weights.
        name: of the weights folder, which the lines of use may have.
        repo: "owner/name".

    Raises:
        ValueError: the front matter is no YAML mapping.
    """
    import yaml  # of huggingface_hub
    from huggingface_hub import ModelCard, ModelCardData

    if not text.startswith("---"):
        text = f"---\nlibrary_name: {LIBRARY}\n---\n\n{text}"
    try:
        whole = ModelCard(text)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"the front matter of {name}/{pretrained.CARD} is none: {error}") from error
    data = whole.data
    assert isinstance(data, ModelCardData)
    kinds = [kind for kind in pretrained.KINDS if kind in config]
    data.library_name = LIBRARY
    data.tags = list(dict.fromkeys((*(data.tags or ()), *TAGS, *kinds)))
    training = config.get("training")
    if isinstance(training, Mapping) and not data.datasets:
        # the last part alone: what stands before it is a folder of ours, no owner on the Hub
        sets = [re.sub(r"[^\w.-]+", "-", str(x).rpartition("/")[2]) for x in training["data"]]
        data.datasets = sorted({*sets}) or None
    if not data.eval_results:
        data.eval_results = results(config.get("figures"), name) or None
    if data.eval_results:
        data.model_name, data.metrics = repo.rpartition("/")[2], ["accuracy"]
    for before, after in ((f'weights="{name}"', "weights"), (f'from_pretrained("{name}"', "name")):
        said = f'weights="{repo}"' if after == "weights" else f'from_pretrained("{repo}"'
        whole.text = whole.text.replace(before, said)
    return str(whole)
