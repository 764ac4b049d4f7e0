"""Traffic read back from a Prometheus that answers as the real one does."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

import numpy as np
import pytest

from tidegate.errors import SourceError
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.sim.recorded import recorded

START_S, HOUR = 1_767_225_600.0, 3600.0
MODEL = "a-model"


class Answers(BaseHTTPRequestHandler):
    """Two requests/s in the first half of each hour, six in the second; prompts of 800 tokens, answers of 300."""

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        query, start, end = form["query"][0], float(form["start"][0]), float(form["end"][0])
        times = np.arange(start, end + 1, 60.0)
        values = [[t, self.value(query, t)] for t in times] if f'model_name="{MODEL}"' in query else []
        data = {"resultType": "matrix", "result": [{"metric": {}, "values": values}] if values else []}
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def value(query: str, time_s: float) -> str:
        if "prompt_tokens_sum" in query:
            return "800" if time_s % 600 else "NaN"
        if "generation_tokens_sum" in query:
            return "300"
        return "2" if (time_s - 1) % HOUR < HOUR / 2 else "6"

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def client() -> Iterator[Prometheus]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield Prometheus(Access(url=f"http://127.0.0.1:{server.server_port}"))
    server.shutdown()
    thread.join()
    server.server_close()


def test_arrivals_follow_the_recorded_rate_and_lengths_their_recorded_mean(client: Prometheus) -> None:
    trace = recorded(client, MODEL, start_s=START_S, end_s=START_S + 2 * HOUR, seed=1)
    counts, _ = np.histogram(trace.arrival_s, np.arange(0, 2 * HOUR + 1, HOUR / 2))
    assert counts / 1800 == pytest.approx([2, 6, 2, 6], rel=0.1)
    assert trace.prompt_tokens.mean() == pytest.approx(800, rel=0.05)
    assert trace.output_tokens.mean() == pytest.approx(300, rel=0.05)


def test_days_are_asked_for_one_by_one_and_joined(client: Prometheus) -> None:
    trace = recorded(client, MODEL, start_s=START_S, end_s=START_S + 50 * HOUR, seed=1)
    counts, _ = np.histogram(trace.arrival_s, np.arange(0, 50 * HOUR + 1, HOUR))
    assert counts.min() > 0.9 * 4 * HOUR
    assert counts.max() < 1.1 * 4 * HOUR


def test_a_model_nobody_asked_for_is_named(client: Prometheus) -> None:
    with pytest.raises(SourceError, match="another"):
        recorded(client, "another", start_s=START_S, end_s=START_S + HOUR, seed=1)
