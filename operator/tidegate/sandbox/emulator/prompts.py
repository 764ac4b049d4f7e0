"""
Parse requests: what is asked for, how long the prompt is, which blocks it shares with others.

There is no tokenizer. Token ids are counted exactly; text counts as one token per four characters, rounded up, which is
typical of tokenizers for English.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

CHARACTERS_PER_TOKEN = 4
# vLLM's default limit of a completion.
COMPLETION_TOKENS = 16

Content = str | list[int]


class BadRequest(Exception):
    """An invalid request; `status` is vLLM's HTTP status for it."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "BadRequestError") -> None:
        self.status, self.kind = status, kind
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    One valid request.

    Args:
        chat: Whether it came through /v1/chat/completions.
        content: The prompt, as text or token ids.
        prompt_tokens: Its length, >= 1.
        output_tokens: Tokens that the answer will have.
        max_tokens: The client's limit, or the default.
        stopped: Whether the answer ends on its own (`stop`) before the limit (`length`).
    """

    model: str
    chat: bool
    stream: bool
    include_usage: bool
    content: Content
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    stopped: bool


def read(body: bytes, *, chat: bool, names: Sequence[str], model_len: int) -> Ask:
    """
    Parse and check a request body.

    Without `ignore_eos` the answer ends on its own at a length derived from the prompt: about 0.6 of the limit (at most
    512) on average. With it the answer ends at the limit. So all servers of one process give a request the same answer.

    Raises:
        BadRequest: vLLM would answer 400 or 404.
    """
    fields = _object(body)
    model = fields.get("model") or names[0]
    if model not in names:
        raise BadRequest(f"The model `{model}` does not exist.", status=404, kind="NotFoundError")
    if fields.get("n") not in (None, 1) or fields.get("best_of") not in (None, 1):
        raise BadRequest("the emulated server answers n = 1 only")
    content = _chat_content(fields) if chat else _completion_content(fields)
    prompt = tokens_of(content)
    room = model_len - prompt
    if room < 1:
        raise BadRequest(f"maximum context length is {model_len} tokens; the prompt has {prompt}")
    limit = _limit(fields, chat=chat, room=room)
    own_end = limit if fields.get("ignore_eos") else _own_length(content, limit)
    options = fields.get("stream_options") or {}
    return Ask(
        model=str(model),
        chat=chat,
        stream=bool(fields.get("stream")),
        include_usage=bool(options.get("include_usage")) if isinstance(options, dict) else False,
        content=content,
        prompt_tokens=prompt,
        output_tokens=min(limit, own_end),
        max_tokens=limit,
        stopped=own_end < limit,
    )


def tokens_of(content: Content) -> int:
    """Tokens of a prompt, >= 1."""
    return max(1, len(content) if isinstance(content, list) else -(-len(content) // CHARACTERS_PER_TOKEN))


def block_contents(content: Content, block_tokens: int) -> list[int]:
    """One number per full block; equal numbers mean equal prompts up to the end of that block."""
    width = block_tokens if isinstance(content, list) else block_tokens * CHARACTERS_PER_TOKEN
    contents: list[int] = []
    before = 0
    for start in range(0, len(content) - width + 1, width):
        part = content[start : start + width]
        before = hash((before, tuple(part) if isinstance(part, list) else part))
        contents.append(before)
    return contents


_WORDS = (" tide", " gate", " water", " level", " rise", " fall", " lock", " basin", " keep", " flow", " ebb")
_serial = count()


def words(start: int, end: int) -> str:
    """The text of an answer from token `start` to `end`; one word per token."""
    return "".join(_WORDS[index % len(_WORDS)] for index in range(start, end))


def new_id(chat: bool) -> str:
    """A unique id in vLLM's format."""
    return f"{'chatcmpl' if chat else 'cmpl'}-{next(_serial):016x}"


def _object(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body)
    except ValueError as wrong:
        raise BadRequest(f"the body is not JSON: {wrong}") from wrong
    if not isinstance(fields, dict):
        raise BadRequest("the body is not a JSON object")
    return fields


def _completion_content(fields: dict[str, object]) -> Content:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str) or (isinstance(prompt, list) and all(isinstance(i, int) for i in prompt)):
        return prompt
    raise BadRequest("prompt: one text or one list of token ids")


def _chat_content(fields: dict[str, object]) -> str:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest("messages: a list of at least one message")
    return "".join(f"{m.get('role')}: {_text(m.get('content'))}\n" for m in messages)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _limit(fields: dict[str, object], *, chat: bool, room: int) -> int:
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
    if asked is None:
        return room if chat else min(COMPLETION_TOKENS, room)
    if not isinstance(asked, int) or asked < 1:
        raise BadRequest(f"max_tokens must be at least 1, got {asked}")
    if asked > room:
        raise BadRequest(f"max_tokens {asked} is more than the {room} tokens that the prompt leaves")
    return asked


def _own_length(content: Content, limit: int) -> int:
    # 0.1 to 1.1 times the limit, or times 512 if that is less, which is about as long as a person would wait for.
    spread = hash(tuple(content) if isinstance(content, list) else content) % 1000 / 1000
    return max(1, round(min(limit, 512) * (0.1 + spread)))
