"""What an operator asks of a pod, without the pod: a telemetry port that answers as the test says."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eventengine_contract.well_known import PORT_TELEMETRY
from eventengine_harness.control_planes import own_addresses

ADDRESSES = own_addresses()
"""A pod has one of its own: a connection that is kept open would lead to the pod before."""


class Engine:
    """A telemetry port on a loopback address that no other one has, so that no pod is taken for another."""

    def __init__(self) -> None:
        self.address = next(ADDRESSES)
        self.body = ""
        self.reads = 0
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.reads += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(engine.body.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((self.address, PORT_TELEMETRY), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
