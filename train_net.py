"""Train, evaluate and run a panoptic network: ``python train_net.py [fit | validate | test | predict] [options]``."""

import sys

from efficientps.cli.start import run

if __name__ == "__main__":
    sys.exit(run())
