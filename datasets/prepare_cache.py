"""Decode a data set into a cache that training reads faster: the command of ``efficientps.cli.data.cache``."""

import sys

from efficientps.cli.data.cache import main

if __name__ == "__main__":
    sys.exit(main())
