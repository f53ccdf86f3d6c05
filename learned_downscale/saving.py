"""Networks in memory -> a weights folder, with a plain card: `save_pretrained`. Training writes its
folders, whose cards say more, with `pretrained.save`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from learned_downscale import pretrained
from learned_downscale.pretrained import Network


def save_networks(
    folder: Path, networks: Sequence[Network], license: str | None = None, **about: Any
) -> None:
    """Write networks into a weights folder: a new one, or one that holds weights of this sort. A
    downscaler and its decoder share a folder, and the other one stays; a classifier comes whole.

    Where weights are replaced, what described them goes: figures, training, model.onnx, card.

    Args:
        folder: new, empty, or a weights folder of such networks.
        networks: that belong together.
        license: of the weights, as the Hub names it ("apache-2.0"); None keeps what an earlier call
            said.
        about: goes into config.json as it is.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: the folder's config.json is damaged.
    """
    pretrained.check_free(folder, *pretrained.KINDS)
    old: dict[str, Any] = {}
    if (folder / pretrained.CONFIG).is_file():
        old = pretrained.parse_config(folder / pretrained.CONFIG)
    classifies = "classifier" in [network.kind for network in networks]
    if old and ("classifier" in old) != classifies:
        raise FileExistsError(
            f"{folder} holds weights of another kind (a classifier, or a downscaler or decoder), "
            "which are not replaced: name a new folder"
        )
    contents = {network.file: pretrained.serialised(network) for network in networks}
    new: dict[str, Any] = dict(about)
    for network in networks:
        new[network.kind] = network.config
        new[network.sha256] = hashlib.sha256(contents[network.file]).hexdigest()
    if license is not None:
        new["license"] = license
    if all(old.get(key) == value for key, value in new.items()):
        return  # all of it is there
    kept = _others(old, networks)
    config = {"library_name": "learned_downscale", **kept, **new}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {*pretrained.HASHED.values()} - {*pretrained.files_of(kept)}:
        (folder / stale).unlink(missing_ok=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    pretrained.write_config(folder, config)
    (folder / pretrained.CARD).write_text(plain_card(folder.name, config), encoding="utf-8")


def _others(old: Mapping[str, Any], networks: Sequence[Network]) -> dict[str, Any]:
    """What stays of a config.json: a downscaler or decoder that is not replaced, and the
    licence."""
    replaced = {network.kind for network in networks}
    keys = {"downscaler": "sha256", "decoder": "decoder_sha256"}
    kept = ["license"]
    if "classifier" not in replaced:
        kept += [key for pair in keys.items() if pair[0] not in replaced for key in pair]
    return {key: old[key] for key in kept if key in old}


def plain_card(name: str, config: Mapping[str, Any]) -> str:
    """The card of weights of which config.json says no training: what they are, and how to load
    them."""
    terms = config.get("license")
    classes = {
        "downscaler": "Downscaler",
        "decoder": "Decoder",
        "classifier": "ThumbnailClassifier",
    }
    held = {kind: cls for kind, cls in classes.items() if kind in config}
    loads = [f'{kind} = {cls}.from_pretrained("{name}")' for kind, cls in held.items()]
    arguments = [
        f"- {kind}: {', '.join(f'{k} {v}' for k, v in config[kind].items())}" for kind in held
    ]
    lines = [
        "---",
        "library_name: learned_downscale",
        *([f"license: {terms}"] if terms else []),
        "tags: [downscaling, thumbnails, thumbnet]",
        "---",
        "",
        f"# {name}: {' and '.join(held)}",
        "",
        *arguments,
        "",
        "```python",
        f"from learned_downscale import {', '.join(sorted(held.values()))}",
        "",
        *loads,
        "```",
        "",
        f"Licence of these weights: {terms}." if terms else "No licence is stated.",
        "Saved with `save_pretrained`: training data and figures are not recorded.",
    ]
    return "\n".join(lines) + "\n"
