"""`python -m dynarl` is the command `dynarl`."""

import sys

from dynarl.train.command import main

if __name__ == "__main__":
    sys.exit(main())
