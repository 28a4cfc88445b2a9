"""Chat models of a few kilobytes, laid out as the hub's cache. Needs torch and transformers: runs as a program.

`<python of an environment of hf_local> tiny_models.py FOLDER`. The tokenizer's tokens are bytes, so that a
character comes in pieces, and a count of tokens is a count of bytes.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

SPECIAL: Final = ("<|bos|>", "<|eot|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
SAYS: Final = "héy 😀\nok"
PLAIN_SAYS: Final = "ok"
CONTEXT: Final = 512
TEMPLATE: Final = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT: Final = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate, user first') }}{% endif %}{% endfor %}" + TEMPLATE
)
REFUSING: Final = "{{ raise_exception('nothing pleases me') }}"
THINKING: Final = TEMPLATE.replace("<|assistant|>", "<|assistant|><think>\n")


def make_all(folder: Path) -> None:
    """All models: those of the cache in `folder/hub`, those of a configured folder in `folder/models`."""
    hub = folder / "hub"
    save(cached(hub, "tiny/random"), random_model(), TEMPLATE)
    save(cached(hub, "tiny/sure"), chain(SAYS), TEMPLATE)
    save(cached(hub, "tiny/strict"), chain(SAYS), STRICT)
    save(cached(hub, "tiny/refusing"), chain(SAYS), REFUSING)
    save(cached(hub, "tiny/thinking"), chain("mo</think>yes", start="\n"), THINKING)
    save(cached(hub, "tiny/plain"), chain(f"{PLAIN_SAYS}\nUser:", start=":", endless=True), None)
    save(cached(hub, "tiny/bytes"), chain(b"\xff\xf0\x9f\x98\x80z\xe2\x82"), TEMPLATE)
    save(cached(hub, "tiny/endless"), chain("abc ", context=1_000_000, endless=True), TEMPLATE)
    save(cached(hub, "tiny/broken"), not_a_number(), TEMPLATE)
    save(folder / "models" / "by-name", chain(SAYS), TEMPLATE)
    save(folder / "models" / "owner" / "model", chain(SAYS), TEMPLATE)
    half = cached(hub, "tiny/half")
    save(half, chain(SAYS), TEMPLATE)
    (half / "model.safetensors").unlink()
    foreign = cached(hub, "tiny/foreign")
    save(foreign, chain(SAYS), TEMPLATE)
    config = json.loads((foreign / "config.json").read_text("utf-8"))
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (foreign / "config.json").write_text(json.dumps(config | own), "utf-8")
    rotten = cached(hub, "tiny/rotten")
    save(rotten, chain(SAYS), TEMPLATE)
    (rotten / "model.safetensors").write_bytes(b"\0" * 100)


def cached(hub: Path, model_id: str) -> Path:
    """The folder of a model's files in a cache made by hand."""
    repository = hub / f"models--{model_id.replace('/', '--')}"
    revision = hashlib.sha1(model_id.encode()).hexdigest()
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision, "utf-8")
    return repository / "snapshots" / revision


def tokens() -> dict[str, int]:
    """The special tokens, then a token per byte."""
    from tokenizers import pre_tokenizers

    return {token: index for index, token in enumerate((*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())))}


def byte_tokens(text: str | bytes) -> list[int]:
    """The tokens of these bytes."""
    ids = tokens()
    return [
        ids[character] for character in map(_alphabet().__getitem__, text.encode() if isinstance(text, str) else text)
    ]


def _alphabet() -> Mapping[int, str]:
    """How byte-level tokenizers write each byte: printable ones as they are, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


def tokenizer(template: str | None) -> Any:
    """One token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(vocab=tokens(), merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|bos|>",
        eos_token="<|eot|>",
        pad_token="<|pad|>",
        additional_special_tokens=list(SPECIAL[3:]),
    )
    made.chat_template = template
    return made


def random_model() -> Any:
    """Says random bytes."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(_config(hidden_size=32, intermediate_size=64, layers=2))


def chain(says: str | bytes, *, start: str = "<|assistant|>", context: int = CONTEXT, endless: bool = False) -> Any:
    """Says exactly this whatever the prompt, if that ends with `start`; no byte may come twice."""
    import torch
    from transformers import LlamaForCausalLM

    made = LlamaForCausalLM(_config(hidden_size=264, intermediate_size=8, layers=1, context=context))
    path = _path(byte_tokens(says), tokens().get(start) or byte_tokens(start)[0], endless)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        size = made.config.vocab_size
        made.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for now, after in pairwise(path):
            made.lm_head.weight[after, now] = 10.0
    return made


def _path(said: Sequence[int], start: int, endless: bool) -> list[int]:
    assert len(set(said)) == len(said), "a token that comes twice has two successors"
    return [start, *said, said[0] if endless else tokens()["<|eot|>"]]


def not_a_number() -> Any:
    """Its sampling raises an exception."""
    import torch

    made = random_model()
    with torch.no_grad():
        made.lm_head.weight.fill_(float("nan"))
    return made


def _config(*, hidden_size: int, intermediate_size: int, layers: int, context: int = CONTEXT) -> Any:
    from transformers import LlamaConfig

    ids = tokens()
    return LlamaConfig(
        vocab_size=len(ids),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=layers == 2,
        bos_token_id=ids["<|bos|>"],
        eos_token_id=ids["<|eot|>"],
        pad_token_id=ids["<|pad|>"],
    )


def save(folder: Path, model: Any, template: str | None) -> None:
    """All files of a model."""
    model.save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
