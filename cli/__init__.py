"""The command line, one thin module a command; installed as `learned_downscale.cli`.

Results go to standard output, the rest to standard error. Exit status: 0 success, 1 something
failed, 2 wrong usage. Nothing heavy is imported before a command runs.
"""

import click

from learned_downscale import __version__
from learned_downscale.cli.bench import bench
from learned_downscale.cli.classify import classify
from learned_downscale.cli.convert import convert
from learned_downscale.cli.demo import demo
from learned_downscale.cli.evaluate import evaluate
from learned_downscale.cli.evaluate_classifier import evaluate_classifier
from learned_downscale.cli.export import export
from learned_downscale.cli.train import train
from learned_downscale.cli.train_classifier import train_classifier
from learned_downscale.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="learned-downscale")
def main() -> None:
    """Make images smaller with a downscaler that is trained to keep what a classifier needs."""


for command in (
    bench,
    classify,
    convert,
    demo,
    evaluate,
    evaluate_classifier,
    export,
    train,
    train_classifier,
    verify,
):
    main.add_command(command)
