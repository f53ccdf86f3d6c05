"""learned-downscale export."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Write model.onnx into a weights FOLDER, of a downscaler or of a thumbnail classifier.

    The file serves `backend="onnx"` and other programs; config.json gets its SHA-256. Needs the
    extra `onnx`.
    """
    from learned_downscale import pretrained
    from learned_downscale.engine.export import export_onnx
    from learned_downscale.readers.onnx_graph import export_classifier

    try:
        pretrained.read_config(folder, "classifier")
        export = export_classifier
    except (OSError, ValueError):
        export = export_onnx  # of a downscaler; says what else may be wrong with the folder
    try:
        path = export(folder)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{path}: {path.stat().st_size} bytes")
