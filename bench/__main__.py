"""`python -m bench`."""

import os

# As in `cli/entry.py`, before torch is loaded, and for every side alike: threads that wait must not spin for long.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from bench.run import main

if __name__ == "__main__":
    raise SystemExit(main())
