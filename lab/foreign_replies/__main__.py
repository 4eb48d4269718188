"""Read many generated replies three times each, and say who disagrees."""

import sys

from lab.batches import main
from lab.foreign_replies.readers import batch

if __name__ == "__main__":
    sys.exit(main(batch, "lab.foreign_replies", __doc__))
