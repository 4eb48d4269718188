"""Drive many generated decisions through the chain, and say what came of them."""

import sys

from lab.batches import main
from lab.generated_decisions.drive import batch

if __name__ == "__main__":
    sys.exit(main(batch, "lab.generated_decisions", __doc__))
