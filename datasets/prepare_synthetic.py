"""Write procedural street scenes as a Cityscapes tree: the command of ``efficientps.cli.data.synthetic_streets``."""

import sys

from efficientps.cli.data.synthetic_streets import main

if __name__ == "__main__":
    sys.exit(main())
