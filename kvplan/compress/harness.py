"""EleutherAI's lm-evaluation-harness over a compressed cache: a registered model with `technique=`.

    import lm_eval
    from kvplan.compress.harness import CompressedLM
    lm_eval.simple_evaluate(model=CompressedLM("./my-model", technique="h2o:20%"), tasks=["mmlu"])

The context of a request is read and compressed before its continuation is scored, so what a technique drops is missing.
"""

from contextlib import ExitStack
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from torch import Tensor
from torch.nn.functional import log_softmax

from kvplan.compress.caches import CompressedCache, running
from kvplan.compress.evaluation import EvaluationPlan, settings
from kvplan.compress.hooks import cache_name
from kvplan.compress.models import load
from kvplan.compress.storing import restored_from
from kvplan.compress.texts import Sentences
from kvplan.errors import SpecError

#: tokens generated where a task does not say, and of a window of running text
USUAL, WINDOW = 256, 2048


@register_model("kvplan")
class CompressedLM(LM):  # type: ignore[misc]
    """A model by its folder under a technique; requests are answered one at a time, greedily."""

    def __init__(
        self, pretrained: str, technique: str = "baseline", dtype: str | None = None, latents: str | None = None,
        seed: int = 0, **_others: Any,
    ):  # fmt: skip
        super().__init__()
        loaded = load(pretrained, dtype)
        if not isinstance(loaded.language, Sentences):
            raise SpecError(f"{pretrained}: has no tokenizer, which the harness needs; name a folder with one")
        self.tokenizer, self.network = loaded.language.tokenizer, loaded.model
        learned = None if latents is None else restored_from(latents, loaded)
        asked = EvaluationPlan(techniques=(technique,), tasks=(), lengths=(), seed=seed, learned=learned)
        self.stack = ExitStack()
        ready = settings(loaded, asked, technique)
        self.under = self.stack.enter_context(running(loaded.model, loaded.spec, technique, ready))
        self.longest = loaded.spec.max_context or WINDOW

    def close(self) -> None:
        """Leave the model as it was."""
        self.stack.close()

    # -- what the harness calls -------------------------------------------------------------------

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return (log-likelihood, whether greedy decoding says it) of each continuation."""
        return [self._scored(*self._pair(*request.args)) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, in windows: the first half of each is read, the second scored."""
        return [self._rolled(self._tokens(request.args[0])) for request in requests]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return what the model goes on with until a stop, greedily; SpecError where sampling is asked for."""
        return [self._written(*request.args) for request in requests]

    # -- how ----------------------------------------------------------------------------------------

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _start(self) -> list[int]:
        """Return what a text without context begins with."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return [int(token)]
        raise SpecError("the tokenizer has neither a first nor a last token, so an empty context cannot be read")

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the tokens of both: spaces at the end of a context belong to what follows."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        if not context:
            return self._start(), self._tokens(continuation)
        read = self._tokens(context)
        return read, self._tokens(context + continuation)[len(read) :]

    def _read(self, ids: list[int], cache: CompressedCache) -> Tensor:
        """Return the logits behind each token, fp32 [tokens, vocabulary]."""
        fed = torch.tensor([ids], device=self.network.device)
        with torch.no_grad():
            logits = self.network(fed, **{cache_name(self.network): cache}, use_cache=True).logits
        return logits[0].float()

    def _opened(self, context: list[int]) -> tuple[CompressedCache, Tensor]:
        """Return the cache of a context, compressed, and the logits behind it."""
        cache = self.under.cache()
        logits = self._read(context, cache)[-1:]
        self.under.finish(torch.tensor([context], device=self.network.device), cache)
        return cache, logits

    def _scored(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        context = context[-(self.longest - len(continuation)) :]
        cache, logits = self._opened(context)
        if len(continuation) > 1:
            logits = torch.cat([logits, self._read(continuation[:-1], cache)])
        wanted = torch.tensor(continuation, device=logits.device)
        likely = log_softmax(logits, -1).gather(-1, wanted[:, None]).sum()
        return float(likely), bool((logits.argmax(-1) == wanted).all())

    def _rolled(self, tokens: list[int]) -> float:
        """Return the sum over windows; each scores its tokens once, behind up to half a window of earlier ones."""
        half = min(WINDOW, self.longest) // 2
        whole = self._start() + tokens
        return sum(
            self._scored(whole[max(0, i - half) : i], whole[i : i + half])[0] for i in range(1, len(whole), half)
        )

    def _written(self, context: str, told: dict[str, Any]) -> str:
        if told.get("do_sample") and told.get("temperature", 1.0):
            raise SpecError("only greedy decoding runs under a compressed cache; set do_sample to false in the task")
        stops = told.get("until") or []
        stops = [stops] if isinstance(stops, str) else list(stops)
        most = int(told.get("max_gen_toks", USUAL))
        cache, logits = self._opened((self._tokens(context) or self._start())[-(self.longest - most) :])
        said: list[int] = []
        while len(said) < most:
            token = int(logits[-1].argmax())
            if token == self.tokenizer.eos_token_id:
                break
            said.append(token)
            text = self.tokenizer.decode(said)
            if any(stop in text for stop in stops):
                return str(min((text.split(stop)[0] for stop in stops if stop in text), key=len))
            logits = self._read([token], cache)
        return str(self.tokenizer.decode(said))
