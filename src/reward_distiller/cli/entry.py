"""Where the command `reward-distiller` starts: process settings, then the commands.

Errors of ours end in one message and their exit code, never in a traceback. A command that another one has started
(`recipes/side_by_side.py`) ends with it, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

from reward_distiller.console import say
from reward_distiller.errors import RewardDistillerError
from reward_distiller.processes import has_siblings

TO_STOP = 25.0  # seconds; answers in flight are paid for, and land within 20


def _end_with_parent() -> None:
    """Be interrupted when stdin ends, which the parent holds open as long as it lives."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs come with it ignored

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(TO_STOP)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


def entry() -> None:
    # Must stand before torch is loaded. Its threads spin while they wait for each other, by default for so long
    # that a training on all cores becomes ten times slower as soon as anything else wants one of them.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if has_siblings():
        _end_with_parent()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # imported, it says what it lacks on a CPU
    from reward_distiller.cli.main import app

    try:
        app()
    except RewardDistillerError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        sys.exit(130)


if __name__ == "__main__":
    entry()
