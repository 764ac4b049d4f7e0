"""
The response to a client: one JSON body, or a stream of server-sent events.

A stream has one event per token. If the client's connection is slower than the engine, an event has several tokens, as
in vLLM.
"""

import json
import time

from aiohttp import web

from tidegate.sandbox.emulator.engine import Ticket
from tidegate.sandbox.emulator.prompts import Ask, new_id, words
from tidegate.units import milliseconds


class Answer:
    """The answer to one request, as the engine emits its tokens."""

    def __init__(self, ask: Ask, ticket: Ticket, *, metrics: bool) -> None:
        self._ask, self._ticket, self._metrics = ask, ticket, metrics
        self._head = {
            "id": new_id(ask.chat),
            "object": _object(chat=ask.chat, stream=ask.stream),
            "created": int(time.time()),
            "model": ask.model,
        }

    async def whole(self) -> web.Response:
        """Wait for the last token, then send the whole answer."""
        while not self._ticket.request.done:
            await self._ticket.news()
        text = words(0, self._ticket.request.emitted)
        part: dict[str, object] = (
            {"message": {"role": "assistant", "content": text}} if self._ask.chat else {"text": text}
        )
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": self._ticket.finish_reason}
        body = {**self._head, "choices": [choice], "usage": self._usage()}
        if self._metrics:
            body["metrics"] = self._request_metrics()
        return web.json_response(body)

    async def stream(self, http: web.Request) -> web.StreamResponse:
        """Send tokens as they are emitted."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(http)
        if self._ask.chat:
            await response.write(self._event({"role": "assistant", "content": ""}, None))
        before, after = self._frame()
        sent, last = 0, self._ask.output_tokens
        while sent < last:
            out = await self._ticket.news()
            if out == sent:
                continue
            finish = f'"{self._ticket.finish_reason}"' if out == last else "null"
            await response.write(f"{before}{words(sent, out)}{after}{finish}}}]}}\n\n".encode())
            sent = out
        await response.write(self._tail())
        await response.write_eof()
        return response

    def _frame(self) -> tuple[str, str]:
        """What precedes and follows the text of an event; computed once, because there are many events."""
        head = json.dumps(self._head)[:-1]
        opened = '"delta": {"content": "' if self._ask.chat else '"text": "'
        closed = '"}' if self._ask.chat else '"'
        return f'data: {head}, "choices": [{{"index": 0, {opened}', f'{closed}, "logprobs": null, "finish_reason": '

    def _tail(self) -> bytes:
        usage = b""
        if self._ask.include_usage:
            body: dict[str, object] = {**self._head, "choices": [], "usage": self._usage()}
            usage = b"data: " + json.dumps(body).encode() + b"\n\n"
        return usage + b"data: [DONE]\n\n"

    def _event(self, delta: dict[str, str], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + json.dumps({**self._head, "choices": [choice]}).encode() + b"\n\n"

    def _usage(self) -> dict[str, int]:
        prompt, output = self._ask.prompt_tokens, self._ticket.request.emitted
        return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}

    def _request_metrics(self) -> dict[str, float]:
        """Result of `--enable-per-request-metrics`; its time to first token excludes the queue, as in vLLM."""
        request = self._ticket.request
        assert request.first_scheduled_s is not None, "it is done"
        assert request.first_token_s is not None, "it is done"
        decode_s = request.last_token_s - request.first_token_s
        return {
            "time_to_first_token_ms": milliseconds(request.first_token_s - request.first_scheduled_s),
            "generation_time_ms": milliseconds(decode_s),
            "queue_time_ms": milliseconds(request.first_scheduled_s - request.arrived_s),
            "mean_itl_ms": milliseconds(decode_s / (request.emitted - 1)) if request.emitted > 1 else 0.0,
            "tokens_per_second": request.emitted / (request.last_token_s - request.first_scheduled_s),
        }


def _object(*, chat: bool, stream: bool) -> str:
    if not chat:
        return "text_completion"
    return "chat.completion.chunk" if stream else "chat.completion"
