"`python -m echomotion`, which is what `accelerate launch -m echomotion` and `torchrun -m echomotion` start"
import sys

from echomotion.cli import main

if __name__ == '__main__': sys.exit(main())
