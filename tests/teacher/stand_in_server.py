"""A stand-in for `vllm serve`: `python stand_in_server.py MODEL --host H --port P [...]`. Only the standard library.

--pid FILE says who it is, --fail ends at once, --never is never healthy.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FLAGS = ("--fail", "--never")
ARGUMENTS = [argument for argument in sys.argv[2:] if argument not in FLAGS]
GIVEN = dict(zip(ARGUMENTS[::2], ARGUMENTS[1::2], strict=True))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if "--never" in sys.argv else 200)
        self.end_headers()

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = {"index": 0, "message": {"role": "assistant", "content": "an answer"}, "finish_reason": "stop"}
        body = json.dumps({"object": "chat.completion", "model": request["model"], "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if "--fail" in sys.argv:
        sys.exit("no such model")
    if "--pid" in GIVEN:
        Path(GIVEN["--pid"]).write_text(str(os.getpid()))
    ThreadingHTTPServer((GIVEN["--host"], int(GIVEN["--port"])), Handler).serve_forever()
