"""Weights to and from a Hub on 127.0.0.1, through the real huggingface_hub client."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from click.testing import CliRunner
from conftest import drawn_photo
from hub_server import READER, TOKEN, Hub
from huggingface_hub import constants

from learned_downscale import Decoder, Downscaler, Resizer, ThumbnailClassifier, pretrained, remote
from learned_downscale import hub as library
from learned_downscale.cli import main
from learned_downscale.engine import loading
from learned_downscale.readers.efficientnet_lite import EfficientNetLite

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights"

# huggingface_hub uses an argument of its HTTP library that is going away
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """As if HF_ENDPOINT and HF_HOME had been set before huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
    # the other way to store large files needs a server of its own
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        use(monkeypatch, server.url, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        loading.pinned.cache_clear()
        yield server
        huggingface_hub.close_session()


@contextmanager
def quickly(seconds: float = 5) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def refused(kind: type[Exception], message: str) -> AbstractContextManager[Any]:
    return pytest.raises(kind, match=message)


def pair(folder: Path, seed: int = 0) -> Path:
    """A weights folder of a small downscaler and its decoder."""
    torch.manual_seed(seed)
    E = Downscaler(2, channels=4)
    torch.nn.init.normal_(E.out.weight)
    E.save_pretrained(folder)
    Decoder(2, width=4).save_pretrained(folder)
    return folder


def test_what_was_pushed_comes_back(
    hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = pair(tmp_path / "mine")
    pinned = library.push(folder, "acme/mine", private=True)
    name, commit = pinned.split("@")
    stored = hub.repositories[name]
    assert stored.private and stored.commits[-1][0] == commit
    files = stored.commits[-1][1]
    for file in ("config.json", "model.safetensors", "decoder.safetensors"):
        assert files[file] == (folder / file).read_bytes()
    ours, theirs = Downscaler.from_pretrained(folder), Downscaler.from_pretrained(pinned)
    assert torch.equal(ours.out.weight, theirs.out.weight)
    assert Decoder.from_pretrained("acme/mine").factor == 2
    sent = len(hub.requests)
    assert library.push(folder, "acme/mine") == pinned  # nothing has changed
    assert hub.requests[sent:] == ["GET /api/models/acme/mine?blobs=true"]
    (folder / "decoder.safetensors").unlink()  # and weights without one
    config = json.loads((folder / "config.json").read_text())
    for key in ("decoder", "decoder_sha256"):
        del config[key]
    pretrained.write_config(folder, config)
    library.push(folder, "acme/mine")
    assert "decoder.safetensors" not in hub.repositories["acme/mine"].commits[-1][1]
    assert Decoder.from_pretrained(pinned).factor == 2  # the old commit still has it
    assert capfd.readouterr() == ("", "")  # the library prints nothing


def test_the_card_of_the_published_weights() -> None:
    files = {file.name: file for file in library.uploads(WEIGHTS / "x4-machine", "acme/x4m")}
    names = ["config.json", "model.safetensors", "decoder.safetensors", "model.onnx", "README.md"]
    assert [*files] == names
    _, front, text = files["README.md"].content.decode().split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["library_name"] == "learned_downscale" and data["license"] == "apache-2.0"
    assert {"thumbnails", "downscaler", "decoder"} <= {*data["tags"]}
    assert data["datasets"] == ["caltech-satellite-pets-cells"]
    (result,) = data["model-index"][0]["results"]
    assert data["model-index"][0]["name"] == "x4m"
    values = {m["name"].rpartition(" ")[2]: m["value"] for m in result["metrics"]}
    assert values == {"efficientnet-lite2": 76.8, "resnet50-keras": 72.9, "squeezenet": 56.6}
    assert 'weights="acme/x4m"' in text and 'from_pretrained("acme/x4m")' in text


def test_networks_are_pushed_from_memory(hub: Hub) -> None:
    E, D = Downscaler(2, channels=4), Decoder(2, width=4)
    E.push_to_hub("acme/pair", license="apache-2.0")
    pinned = D.push_to_hub("acme/pair")  # joins the downscaler
    assert Downscaler.from_pretrained(pinned).channels == 4
    again = Decoder.from_pretrained(pinned)
    assert torch.equal(again.layers[0].weight, D.layers[0].weight.half().float())
    card = hub.repositories["acme/pair"].commits[-1][1]["README.md"].decode()
    assert "license: apache-2.0" in card and 'Decoder.from_pretrained("acme/pair")' in card
    network = EfficientNetLite(0.25, 0.25, 2, 2)
    student = ThumbnailClassifier(network, ["cat", "dog"], ["n1", "n2"], 0.5, decoder=D)
    back = ThumbnailClassifier.from_pretrained(student.push_to_hub("acme/student"))
    photo = drawn_photo(48, 48)
    assert back.labels == ("cat", "dog") and back.decoder is not None
    assert abs(back(photo).probability - student(photo).probability) < 0.01
    with refused(ValueError, "acme/student holds weights of another kind"):
        E.push_to_hub("acme/student")
    kinds = {model.name: model.kinds for model in library.models("acme")}
    assert kinds["acme/pair"] == ("downscaler", "decoder")
    assert kinds["acme/student"] == ("decoder", "classifier")


def test_revisions(hub: Hub, tmp_path: Path) -> None:
    first = library.push(pair(tmp_path / "a", seed=1), "acme/mine").partition("@")[2]
    library.push(pair(tmp_path / "b", seed=2), "acme/mine")
    hub.repositories["acme/mine"].tags["v1"] = first
    old, new = (Downscaler.from_pretrained(tmp_path / x).out.weight for x in "ab")
    assert not torch.equal(old, new)
    assert torch.equal(Downscaler.from_pretrained("acme/mine").out.weight, new)
    for name, revision in (
        ("acme/mine@v1", None),
        ("acme/mine", "v1"),
        (f"acme/mine@{first}", None),
    ):
        model = Downscaler.from_pretrained(name, revision=revision)
        assert torch.equal(model.out.weight, old)
    sent = len(hub.requests)
    Downscaler.from_pretrained(f"acme/mine@{first}")
    assert len(hub.requests) == sent  # a commit in the cache is not asked for
    with refused(ValueError, "differ"):
        Downscaler.from_pretrained("acme/mine@v1", revision="v2")
    with refused(ValueError, "names no revision"):
        Downscaler.from_pretrained("acme/mine@")
    with refused(ValueError, "is for models of the Hub"):
        Downscaler.from_pretrained("x4", revision="v1")
    with quickly(), refused(FileNotFoundError, "no such branch, tag or commit"):
        Downscaler.from_pretrained("acme/mine@v3")


def test_a_resizer_stays_at_its_commit(hub: Hub, tmp_path: Path) -> None:
    library.push(pair(tmp_path / "a", seed=1), "acme/mine")
    photo = drawn_photo(64, 48)
    resizer = Resizer(2, weights="acme/mine")
    before = resizer(photo).tobytes()
    commit = hub.repositories["acme/mine"].commits[-1][0]
    assert resizer.weights == {2: f"acme/mine@{commit}"}
    library.push(pair(tmp_path / "b", seed=2), "acme/mine")
    loading.pinned.cache_clear()  # as in another process
    assert pickle.loads(pickle.dumps(resizer))(photo).tobytes() == before
    assert Resizer(2, weights="acme/mine")(photo).tobytes() != before


def test_files_that_are_missing_or_damaged(hub: Hub, tmp_path: Path) -> None:
    library.push(pair(tmp_path / "mine"), "acme/mine")
    stored = hub.repositories["acme/mine"]
    hub.damaged = {"model.safetensors"}
    with quickly(), refused(ValueError, r"SHA-256 differs.*download"):
        Downscaler.from_pretrained("acme/mine")
    hub.damaged = set()
    result = CliRunner().invoke(main, ["download", "acme/mine", "--force"])
    assert result.exit_code == 0, result.output
    assert Downscaler.from_pretrained("acme/mine").factor == 2  # the cache is mended
    files = dict(stored.commits[-1][1])
    stored.commit({**files, "model.safetensors": files["decoder.safetensors"]})
    with quickly(), refused(ValueError, "SHA-256 differs"):
        Downscaler.from_pretrained("acme/mine")
    del files["model.safetensors"]
    stored.commit(files)
    with quickly(), refused(FileNotFoundError, r"no file model\.safetensors"):
        Downscaler.from_pretrained("acme/mine")
    stored.commit({"pytorch_model.bin": b"\x80\x04N."})
    with quickly(), refused(FileNotFoundError, r"no file config\.json"):
        Downscaler.from_pretrained("acme/mine")


def test_who_may_read_and_write(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pair(tmp_path / "mine")
    library.push(folder, "acme/secret", private=True)
    with quickly(), refused(FileNotFoundError, "shows no such model"):
        Downscaler.from_pretrained("acme/none")
    for name in ("acme/a--b", "acme/.."):
        with quickly(), refused(ValueError, "no name that the Hub allows"):
            Downscaler.from_pretrained(name)
    monkeypatch.setenv("HF_TOKEN", READER)
    assert Downscaler.from_pretrained("acme/secret").factor == 2
    pair(folder, seed=3)
    with quickly(), refused(PermissionError, "may not write"):
        library.push(folder, "acme/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with quickly(), refused(PermissionError, "token is wrong"):
        Decoder.from_pretrained("acme/secret")
    monkeypatch.delenv("HF_TOKEN")
    with quickly(), refused(FileNotFoundError, r"private and there is no token.*HF_TOKEN"):
        Decoder.from_pretrained("acme/secret")
    with quickly(), refused(PermissionError, "no token to push with"):
        library.push(folder, "acme/secret")
    assert library.push(folder, "acme/secret", token=TOKEN).startswith("acme/secret@")
    assert library.models() == []  # private ones are not shown without a token
    assert [model.private for model in library.models(token=TOKEN)] == [True]


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


CALLS: dict[str, Callable[[Path], object]] = {
    "load": lambda _: Downscaler.from_pretrained("acme/other"),
    "download": lambda _: library.download("acme/other"),
    "push": lambda folder: library.push(folder, "acme/other"),
    "push_to_hub": lambda _: Downscaler(2, channels=4).push_to_hub("acme/other"),
    "models": lambda _: library.models("acme"),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_network(hub: Hub, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pair(tmp_path / "mine")
    library.push(folder, "acme/mine")
    weight = Downscaler.from_pretrained("acme/mine").out.weight
    use(monkeypatch, closed_port(), tmp_path / "cache")
    with quickly(), refused(ConnectionError, "cannot be reached.*HF_ENDPOINT"):
        CALLS[call](folder)
    with quickly():  # what is in the cache is used
        assert torch.equal(Downscaler.from_pretrained("acme/mine").out.weight, weight)
    with quickly(), refused(ConnectionError, r"does not hold config\.json and decoder"):
        Decoder.from_pretrained("acme/mine")


def test_a_hub_that_does_not_answer(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 503
    with quickly(), refused(ConnectionError, "answered with HTTP 503; try again"):
        Downscaler.from_pretrained("acme/mine")
    hub.status, hub.delay = None, 30
    assert remote.patience() == 4
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    with quickly(3), refused(ConnectionError, "cannot be reached"):
        Downscaler.from_pretrained("acme/mine")
    with quickly(3), refused(ConnectionError, "no answer in 1 s"):
        remote.ask(lambda _: time.sleep(10), "acme/mine")  # such as a search for an address


def test_offline_by_environment(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE of a new process, as users set them."""
    library.push(WEIGHTS / "x4", "acme/x4", private=True)
    code = (
        "import sys; from learned_downscale import pretrained\n"
        "try: print(pretrained.load_onnx(sys.argv[1])[1]['downscaler']['factor'])\n"
        "except OSError as error: print(type(error).__name__, error)\n"
    )
    home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}

    def run(name: str, **environment: str) -> str:
        out = subprocess.run(
            [sys.executable, "-c", code, name],
            env={**clean, **home, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stderr == ""
        return out.stdout.strip()

    assert "private and there is no token" in run("acme/x4")
    assert run("acme/x4", HF_TOKEN=READER) == "4"
    assert (tmp_path / "home" / "hub" / "models--acme--x4").is_dir()
    sent = len(hub.requests)
    assert run("acme/x4", HF_HUB_OFFLINE="1") == "4"
    assert run("acme/x2", HF_HUB_OFFLINE="1").startswith("ConnectionError acme/x2: the Hub")
    assert len(hub.requests) == sent


def test_commands(hub: Hub, tmp_path: Path) -> None:
    folder = pair(tmp_path / "mine")
    run = CliRunner().invoke
    result = run(main, ["push", str(folder), "acme/mine"])
    assert result.exit_code == 0, result.output
    pinned = result.stdout.strip()
    assert pinned == f"acme/mine@{hub.repositories['acme/mine'].commits[-1][0]}"
    result = run(main, ["models", "--org", "acme"])
    assert result.stdout == "acme/mine: downscaler + decoder, licence not stated\n"
    copy = tmp_path / "copy"
    result = run(main, ["download", pinned, str(copy)])
    assert result.stdout == f"{copy}\n{pinned}\n"
    pretrained.check_folder(copy)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    result = run(main, ["download", pinned, str(tmp_path / "other")])
    assert result.exit_code == 1 and "its files are not replaced" in result.stderr
    assert run(main, ["download", "x4"]).exit_code == 2
    for wrong in (
        ["push"],
        ["push", str(folder)],
        ["push", "--all"],
        ["models", "--hub", "--org", "a"],
    ):
        assert run(main, wrong).exit_code == 2
    (folder / "photo.jpg").write_bytes(b"private")
    result = run(main, ["push", str(folder), "acme/mine"])
    assert result.exit_code == 1 and "photo.jpg, which config.json does not name" in result.stderr


def test_all_bundled_weights_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a dry run must not touch the network")

    monkeypatch.setattr(socket, "socket", no_network)
    result = CliRunner().invoke(main, ["push", "--all", "--org", "acme", "--dry-run"])
    assert result.exit_code == 0, result.output
    for folder in (path for path in WEIGHTS.iterdir() if path.is_dir() and path.name[0] != "_"):
        assert f"acme/{folder.name}, from " in result.stdout
        for file in folder.iterdir():
            assert file.name in result.stdout
        hashes = pretrained.parse_config(folder / "config.json")
        assert all(hashes[key] in result.stdout for key in pretrained.HASHED if key in hashes)
    result = CliRunner().invoke(main, ["models", "--json"])
    names = [row["name"] for row in json.loads(result.stdout)]
    assert names == ["thumbnail1000", "x2", "x2-machine", "x4", "x4-jpeg", "x4-machine"]
