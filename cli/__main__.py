"""`python -m lpref.cli`: the `lpref` command."""

from lpref.cli.main import main

main()
