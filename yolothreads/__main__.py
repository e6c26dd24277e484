"""`python -m yolothreads`: the same as the command `yolothreads`."""

import sys

from yolothreads.cli import main

if __name__ == "__main__":
    sys.exit(main())
