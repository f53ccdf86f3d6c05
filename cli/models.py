"""learned-downscale models."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("models")
@click.option(
    "--org", metavar="ORG", help="List the models of this user or organisation on the Hub instead."
)
@click.option("--hub", "everyone", is_flag=True, help="List everyone's models on the Hub instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(org: str | None, everyone: bool, as_json: bool) -> None:
    """List weights: those inside the package, or with --org or --hub those on the Hugging Face Hub.

    Without these options nothing is asked of the network.
    """
    if org is not None and everyone:
        raise click.UsageError("give --org or --hub, not both")
    try:
        rows = _on_the_hub(org) if everyone or org is not None else _bundled()
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        kinds = " + ".join(row["kinds"]) or "kind not stated"
        private = ", private" if row.get("private") else ""
        size = f", {row['bytes']:,} bytes" if "bytes" in row else ""
        terms = row["license"] or "not stated"
        click.echo(f"{row['name']}: {kinds}{size}, licence {terms}{private}")
    if not rows:
        click.echo("No models are there", err=True)


def _bundled() -> list[dict[str, Any]]:
    from learned_downscale import pretrained

    rows: dict[str, dict[str, Any]] = {}
    for kind in pretrained.KINDS:
        for name in pretrained.bundled(kind):
            folder = pretrained.folder_of(name, kind)
            assert folder is not None  # it is bundled
            config = pretrained.read_config(name, kind)
            files = [folder / file for file in pretrained.files_of(config)]
            rows[name] = {
                "name": name,
                "kinds": [k for k in pretrained.KINDS if k in config],
                "license": config["training"]["license"],
                "bytes": sum(file.stat().st_size for file in files),
            }
    return [rows[name] for name in sorted(rows)]


def _on_the_hub(org: str | None) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from learned_downscale import hub

    return [asdict(model) for model in hub.models(org)]
