"""
`python -m tidegate.sandbox.vllm.tiny FOLDER`: write a language model with random weights and its tokenizer, so small
that its own speed does not matter.

Runs in vLLM's environment. Nothing is downloaded, and the result is always the same.
"""

import random
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 7
# The replayer's token ids end below 1000.
VOCABULARY = 1024
HIDDEN, HEAD, LAYERS = 64, 64, 1
CONTEXT_TOKENS = 32768
SPECIAL = ["<pad>", "<begin>", "<end>"]
SYLLABLES = ("ti", "de", "ga", "te", "wa", "ter", "le", "vel", "lock", "ba", "sin", "flow", "ebb", "rise", "fall")
CHAT = "{% for m in messages %}<begin>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on invented words; it can encode any text."""
    chance = random.Random(SEED)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(4000)]
    lines = (" ".join(chance.choices(words, k=12)) for _ in range(4000))
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(lines, trainer)
    pad, begin, end = SPECIAL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=learned, pad_token=pad, bos_token=begin, eos_token=end, model_max_length=CONTEXT_TOKENS
    )
    fast.chat_template = CHAT
    return fast


def model() -> LlamaForCausalLM:
    """A Llama model with one layer of width 64."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT_TOKENS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


if __name__ == "__main__":
    tokenizer().save_pretrained(sys.argv[1])
    model().save_pretrained(sys.argv[1])
