"""Run the command ``efficientps`` as ``python -m efficientps``."""

import sys

from efficientps.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
