"""`python -m bcrit`."""

import os
import sys

# `-m` puts the working folder before the standard library, where a user's `random.py` would be taken for Python's own.
# It goes, or, where it is the checkout that is run here, comes last.
here = sys.path.pop(0) if sys.path[:1] == [os.getcwd()] else None
if here == os.path.dirname(os.path.dirname(__file__)):
    sys.path.append(here)

try:
    from bcrit.cli import main
except KeyboardInterrupt:  # its imports take a second
    print("stopped; nothing was run", file=sys.stderr)
    sys.exit(130)

main()
