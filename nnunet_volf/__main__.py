"""``python -m nnunet_volf``, and so ``torchrun … -m nnunet_volf train …``, is the command ``nnunet-volf``."""

import sys

from nnunet_volf.cli import main

if __name__ == "__main__":
    sys.exit(main())
