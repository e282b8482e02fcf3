"""Where the command line begins, as `bcrit` and as `python -m bcrit`."""

import os
import signal
import sys


def start() -> None:
    """Import the command line, which takes a second, and run it."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # what is imported may take its exception for a fault of its own
        signal.signal(signal.SIGINT, _stop)
    from bcrit.cli import main

    signal.signal(signal.SIGINT, heard)
    main()


def _stop(*_: object) -> None:
    os.write(2, b"stopped; nothing was run\n")
    os._exit(130)


if __name__ == "__main__":
    # `-m` puts the working folder before the standard library, where a user's `random.py` would be taken for Python's
    # own. It goes, or, where it is the checkout that is run here, comes last.
    here = sys.path.pop(0) if sys.path[:1] == [os.getcwd()] else None
    if here == os.path.dirname(os.path.dirname(__file__)):
        sys.path.append(here)
    start()
