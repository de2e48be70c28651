"""Make panoptic from instance annotations: the command of ``efficientps.cli.data.from_coco_instances``."""

import sys

from efficientps.cli.data.from_coco_instances import main

if __name__ == "__main__":
    sys.exit(main())
