"""``python -m softmax_ext`` is the ``softmax-ext`` command."""

import sys

from ._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
