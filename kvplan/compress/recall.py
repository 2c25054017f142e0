"""A small real model that proves techniques with no hub: it recalls facts and follows chains of them.

A text is filler with facts `SET a b` in it; questions `ASK a` are answered by the chain `b c d`. The model is of the
Llama class, learns this on one core in minutes, and is shipped under the name recall. Its tokens are numbers: it has no
tokenizer, and `episodes` writes its texts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

BOS, SET, ASK, PAD = 0, 1, 2, 3
#: filler words and names, the first of each
FILLER, NAMES = range(4, 64), range(64, 192)
#: facts of a chain, and tokens of a question with its answer
HOPS, QUESTION = 3, 5
#: of the shared curriculum, and what a stage must reach before the next begins: the first one, and later ones
LENGTHS, REACHED = (32, 64, 128, 256, 512), (0.8, 0.9)
#: tokens of a training step; steps over which the learning rate rises, after which it falls, and that there are at most
TOKENS, WARM, FALLS, STEPS = 1024, 50, 1400, 2000


@dataclass(frozen=True)
class Episodes:
    """A batch of texts: filler with facts, and questions about chains of them."""

    body: torch.Tensor  #: [batch, length] the text before the questions
    chains: torch.Tensor  #: [batch, questions, 4] the name asked about and the three that follow

    @property
    def asked(self) -> torch.Tensor:
        """The text with all questions and their answers behind it. [batch, length + 5 x questions]"""
        ask = torch.full_like(self.chains[..., :1], ASK)
        return torch.cat([self.body, torch.cat([ask, self.chains], -1).flatten(1)], 1)

    @property
    def labels(self) -> torch.Tensor:
        """For each token of `asked` the one to be predicted next where it is an answer, else -100."""
        asked = torch.full_like(self.asked, -100)
        tail = asked[:, self.body.shape[1] :].view(*self.chains.shape[:2], QUESTION)
        tail[..., 1:4] = self.chains[..., 1:]
        return asked


def episodes(batch: int, length: int, questions: int, generator: torch.Generator, facts: int | None = None) -> Episodes:
    """Return `batch` texts of `length` tokens, each with `facts` (a share of the length by default) and questions."""
    chains = max(1, (facts or max(3, min(48, length * 2 // 7))) // HOPS)
    pairs = chains * HOPS
    names = rows(batch, len(NAMES), generator)[:, : chains * (HOPS + 1)].view(batch, chains, HOPS + 1) + NAMES[0]
    facts_of = torch.stack([names[..., :-1], names[..., 1:]], -1).view(batch, pairs, 2)
    places = 1 + 3 * rows(batch, (length - 1) // 3, generator)[:, :pairs]
    if places.shape[1] < pairs:
        raise ValueError(f"{length} tokens hold no {pairs} facts")
    body = torch.randint(FILLER.start, FILLER.stop, (batch, length), generator=generator)
    body[:, 0] = BOS
    body.scatter_(1, places, SET)
    body.scatter_(1, places + 1, facts_of[..., 0])
    body.scatter_(1, places + 2, facts_of[..., 1])
    which = torch.randint(0, chains, (batch, questions), generator=generator)
    return Episodes(body, names.gather(1, which[..., None].expand(-1, -1, HOPS + 1)))


def rows(batch: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return a permutation of `count` numbers for each row."""
    return torch.rand(batch, count, generator=generator).argsort(1)


# -- the model ------------------------------------------------------------------------------------


def config() -> LlamaConfig:
    """Return the shape of the model: 2 layers, 4 query and 2 key/value heads of 32, tied embeddings."""
    return LlamaConfig(
        vocab_size=NAMES.stop, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=4096, tie_word_embeddings=True,
        attention_bias=True, initializer_range=0.08, bos_token_id=BOS, eos_token_id=None, pad_token_id=PAD,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip


def fresh(seed: int) -> LlamaForCausalLM:
    """Return the untrained model; the first key/value head of layer 0 starts by looking at the token before.

    Biases alone do it: queries are turned by one position against keys in the fastest frequencies. All of it is
    trained afterwards.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config())
    attention, width, fast, size = model.model.layers[0].self_attn, 32, 6, 6.5
    angle = 10_000.0 ** (-torch.arange(0, width, 2).float() / width)[:fast]
    with torch.no_grad():
        attention.k_proj.weight[:width] *= 0.1
        attention.q_proj.weight[: 2 * width] *= 0.1
        attention.k_proj.bias[:fast] = size
        for start in (0, width):
            attention.q_proj.bias[start : start + fast] = size * torch.cos(angle)
            attention.q_proj.bias[start + width // 2 : start + width // 2 + fast] = -size * torch.sin(angle)
    return model


def repetition(batch: int, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pairs of names from a small dictionary, and as labels those of each pair seen before."""
    pairs, words = length // 2, max(3, length // 6)
    names = rows(batch, len(NAMES), generator)[:, : 2 * words] + NAMES[0]
    drawn = torch.randint(0, words, (batch, pairs), generator=generator)
    text = torch.full((batch, 2 * pairs + 1), BOS)
    text[:, 1::2], text[:, 2::2] = names.gather(1, drawn), names.gather(1, drawn + words)
    before = (drawn[:, :, None] == drawn[:, None, :]).tril(-1).any(-1)
    labels = torch.full_like(text, -100)
    labels[:, 1::2] = torch.where(before, text[:, 2::2], -100)
    return text, labels


def answered(model: LlamaForCausalLM, text: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return (loss, share right) of the tokens that have a label."""
    hidden = model.model(input_ids=text, use_cache=False).last_hidden_state
    wanted = labels >= 0
    logits = model.lm_head(hidden[wanted])
    return cross_entropy(logits, labels[wanted]), float((logits.argmax(-1) == labels[wanted]).float().mean())


def train(seed: int, say: Callable[[str], None] = lambda _line: None) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Return the model trained from a seed, and how it went; one core, loss on answers only.

    Texts grow from 32 to 512 tokens, a stage at a time, lengths already learned mixed in (they are forgotten
    otherwise). Accuracy stands still for long, then jumps: no stage ends by its loss.
    """
    model, generator = fresh(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    begun, stage, share, step, held = time.process_time(), 0, 0.0, 0, 0
    while step < STEPS:
        shorter = stage and step % 3 == 2
        length = LENGTHS[int(torch.randint(0, stage, (), generator=generator))] if shorter else LENGTHS[stage]
        loss, right = answered(model, *lesson(length, generator))
        if stage == 0:
            loss = loss + answered(model, *repetition(TOKENS // 2 // length, length, generator))[0]
        rate = 3e-3 * min(1.0, (step + 1) / WARM, max(0.05, (STEPS - step) / (STEPS - FALLS)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step, held = step + 1, held + 1
        if not shorter:
            share = 0.9 * share + 0.1 * right
        if step % 50 == 0:
            say(f"step {step}, {length} tokens: {share:.3f} right after {time.process_time() - begun:.0f} s")
        last = stage == len(LENGTHS) - 1
        if held > 30 and share > (0.995 if last else REACHED[min(stage, 1)]) and (not last or held > 60):
            if last:
                break
            stage, held, share = stage + 1, 0, share * 0.9
    record = {"seed": seed, "steps": step, "seconds": round(time.process_time() - begun, 1), "share_right": share}
    return model.eval(), record


def lesson(length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return texts of `length` tokens, questions included, and their labels: a training step's worth."""
    questions = max(3, min(16, length // 16))
    written = episodes(max(1, TOKENS // length), length - QUESTION * questions, questions, generator)
    return written.asked, written.labels
