"""Plot learning curves: python scripts/plot.py RUN... [--metric NAME] [--band std|minmax|ci] [--output FILE.png]."""

import sys

from dynarl.train.plot import main

if __name__ == "__main__":
    sys.exit(main())
