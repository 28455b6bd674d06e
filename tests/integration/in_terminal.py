"""Runs `orchestrator` in a terminal of its own, whose input is this process's standard input."""

import os
import pty
import sys

if __name__ == "__main__":
    ended = pty.spawn([sys.executable, "-m", "orchestrator", *sys.argv[1:]])
    sys.exit(os.waitstatus_to_exitcode(ended))
