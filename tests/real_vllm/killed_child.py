"""Ask a launched model one question, say so, and wait to be killed: `python killed_child.py MODEL FOLDER`."""

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # as pytest has it

if __name__ == "__main__":
    from served import launched

    from reward_distiller.teacher.engine import open_engine
    from reward_distiller.teacher.questions import Question

    model, folder = map(Path, sys.argv[1:])
    with open_engine(folder / "ledger.sqlite", {}) as engine:
        asked = Question("q", [{"role": "user", "content": "hello"}], str, reads_cut=True)
        engine.ask(launched(model, sampling={"max_tokens": 2}), "s", [asked])
        print("answered", flush=True)
        time.sleep(600)
