"""Make panoptic annotations from masks: the command of ``efficientps.cli.data.from_masks``."""

import sys

from efficientps.cli.data.from_masks import main

if __name__ == "__main__":
    sys.exit(main())
