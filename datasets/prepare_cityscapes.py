"""Make the panoptic annotations of Cityscapes: the command of ``efficientps.cli.data.cityscapes``."""

import sys

from efficientps.cli.data.cityscapes import main

if __name__ == "__main__":
    sys.exit(main())
