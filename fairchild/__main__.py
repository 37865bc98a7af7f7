"""``python -m fairchild``: the command line."""

import sys

from fairchild.cli import main

sys.exit(main())
