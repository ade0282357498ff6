"""``python -m lpref.cli`` is ``lpref``."""

from lpref.cli.main import main

main(prog_name="lpref")
