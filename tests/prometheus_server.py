"""A server that speaks Prometheus' query API over HTTP; what it knows is up to each test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs


class PrometheusHandler(BaseHTTPRequestHandler):
    """Answers each query with `series`."""

    def series(self, form: dict[str, list[str]], *, points: bool) -> list[dict[str, object]]:
        """The series of an answer; `points`: each over a range."""
        raise NotImplementedError

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        points = self.path.endswith("query_range")
        data = {"resultType": "matrix" if points else "vector", "result": self.series(form, points=points)}
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(handler: type[PrometheusHandler]) -> Iterator[str]:
    """Run a server; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
