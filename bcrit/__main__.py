"""`python -m bcrit`."""

from bcrit.cli import main

main()
