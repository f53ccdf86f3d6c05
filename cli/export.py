"""learned-downscale export."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Write model.onnx into a weights FOLDER, of a downscaler or of a thumbnail classifier; and
    decoder.onnx, where the downscaler has a decoder.

    model.onnx serves `backend="onnx"` and other programs, decoder.onnx other programs; config.json
    gets their SHA-256. Needs the extra `onnx`.
    """
    from learned_downscale import pretrained
    from learned_downscale.engine.export import export_onnx
    from learned_downscale.readers.onnx_graph import export_classifier, export_decoder

    exports = [export_onnx]  # says what else may be wrong with the folder
    for kind, others in (
        ("classifier", [export_classifier]),
        ("decoder", [export_onnx, export_decoder]),
    ):
        try:
            pretrained.read_config(folder, kind)
            exports = others
            break
        except (OSError, ValueError):
            continue
    for export in exports:
        try:
            path = export(folder)
        except (ImportError, OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{path}: {path.stat().st_size} bytes")
