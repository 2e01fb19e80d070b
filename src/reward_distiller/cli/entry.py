"""Where the command `reward-distiller` starts: process settings, then the commands.

Errors of ours end in one message and their exit code, never in a traceback.
"""

from __future__ import annotations

import os
import sys

from reward_distiller.console import say
from reward_distiller.errors import RewardDistillerError


def entry() -> None:
    # Must stand before torch is loaded. Its threads spin while they wait for each other, by default for so long
    # that a training on all cores becomes ten times slower as soon as anything else wants one of them.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import transformers

    from reward_distiller.cli.main import app

    transformers.utils.logging.disable_progress_bar()  # ours say more
    transformers.utils.logging.set_verbosity_error()
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
