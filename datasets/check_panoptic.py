"""Check a data set in the COCO panoptic format: the command of ``efficientps.cli.data.check``."""

import sys

from efficientps.cli.data.check import main

if __name__ == "__main__":
    sys.exit(main())
