"""Split a COCO panoptic JSON file into train.json and val.json: the command of ``efficientps.cli.data.split``."""

import sys

from efficientps.cli.data.split import main

if __name__ == "__main__":
    sys.exit(main())
