"""`python -m learned_downscale.cli`."""

from learned_downscale.cli import main

main(prog_name="learned-downscale")
