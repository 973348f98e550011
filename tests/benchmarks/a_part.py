"""A benchmark that is over at once: `python -m tests.benchmarks.a_part NUMBER --out FILE`; below 0 it fails."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    number, _, out = sys.argv[1:]
    Path(out).write_text(number)
    sys.exit(int(number) < 0)
