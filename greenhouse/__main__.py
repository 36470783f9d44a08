"""``python -m greenhouse`` is the command line; the demo starts its service this way."""

from greenhouse.cli import main

main()
