"""Write procedural construction yards: the command of ``efficientps.cli.data.synthetic_yard``."""

import sys

from efficientps.cli.data.synthetic_yard import main

if __name__ == "__main__":
    sys.exit(main())
