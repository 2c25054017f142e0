"""A workload: how long its requests are, when they come, what they share, and how soon they must be answered."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import ceil, exp, inf, log, prod, sqrt
from statistics import NormalDist

from kvplan.specs.model import IMAGE, MODALITIES, TEXT, VIDEO, ModelSpec
from kvplan.specs.source import Source
from kvplan.units import DAY

_NORMAL = NormalDist()
#: shares of the requests, shortest first, at which a distribution is cut into points; its tail is cut finer
EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
#: equally likely lengths that stand for a distribution
SLICES = 400
#: a lognormal's P95 cannot be further above its mean: exp(z^2 / 2)
WIDEST = exp(_NORMAL.inv_cdf(0.95) ** 2 / 2)
#: from this share of a prompt on that a prefix cache holds, it is compressed for questions yet to come
SHARED = 1 / 3
#: share of its prompt that a request finds at most where a workload says only how much all find: in Mooncake's log of
#: conversations those that find more than one block of 512 tokens find 74 %, whatever their length
FOUND = 0.75
#: mean time from a user's question to the next where nobody says: an assumption [s]
BETWEEN = 60.0


class Lengths(ABC):
    """A distribution of token counts. A kind of it gives `quantile` and `between`."""

    @abstractmethod
    def quantile(self, q: float) -> float:
        """Return the length that a share `q` of the requests do not exceed. [token]"""

    @abstractmethod
    def between(self, a: float, b: float) -> float:
        """Return the mean length of the requests from quantile a to quantile b. [token]"""

    @abstractmethod
    def times(self, factor: float) -> "Lengths":
        """Return the distribution with every length multiplied."""

    @cached_property
    def mean(self) -> float:
        """Mean length. [token]"""
        return sum(weight * length for length, weight in self.points)

    @cached_property
    def points(self) -> tuple[tuple[float, float], ...]:
        """(length, weight) pairs that stand for the distribution; their mean is the mean, weights sum to 1."""
        return tuple((self.between(a, b), b - a) for a, b in pairwise(EDGES))

    @cached_property
    def squared(self) -> float:
        """Squared coefficient of variation."""
        return sum(length * length for length in self.even) / len(self.even) / self.mean**2 - 1

    @cached_property
    def short(self) -> float:
        """Mean of 1 / length times the mean length: what short ones make of a delay that all share."""
        return sum(1 / max(length, 1.0) for length in self.even) / len(self.even) * self.mean

    @cached_property
    def even(self) -> tuple[float, ...]:
        """Lengths that are equally likely. [token]"""
        return tuple(self.quantile((k + 0.5) / SLICES) for k in range(SLICES))


@dataclass(frozen=True)
class Lognormal(Lengths):
    """Lognormal by its mean and P95, its tails cut at low and high. Cutting leaves the mean as stated. [token]"""

    average: float  #: mean of the distribution as it is cut [token]
    p95: float  #: 95th percentile before it is cut [token]
    low: float  #: shortest [token]
    high: float  #: longest [token]

    @cached_property
    def sigma(self) -> float:
        """Standard deviation of the logarithm, from the mean and the P95."""
        z = _NORMAL.inv_cdf(0.95)
        return z - sqrt(max(z * z - 2 * log(self.p95 / self.average), 0.0))

    @cached_property
    def mu(self) -> float:
        """Logarithm of the median, moved until the mean of the cut distribution is the stated one."""
        low, high = log(self.low) - 40 * self.sigma, log(self.high) + 40 * self.sigma
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self._between(0.0, 1.0, middle) < self.average else (low, middle)
        return (low + high) / 2

    def quantile(self, q: float) -> float:
        """Return the length that a share `q` of the requests do not exceed. [token]"""
        if not 0 < q < 1:
            return self.low if q <= 0 else self.high
        return min(max(exp(self.mu + self.sigma * _NORMAL.inv_cdf(q)), self.low), self.high)

    def between(self, a: float, b: float) -> float:
        """Return the mean length of the requests from quantile a to quantile b. [token]"""
        return self._between(a, b, self.mu)

    def _between(self, a: float, b: float, mu: float) -> float:
        """Mean of the slice: what is cut to low, the lognormal's partial expectation, what is cut to high."""
        zl, zh = (log(self.low) - mu) / self.sigma, (log(self.high) - mu) / self.sigma
        start, end = _NORMAL.cdf(zl), _NORMAL.cdf(zh)
        total = self.low * max(min(b, start) - a, 0.0) + self.high * max(b - max(a, end), 0.0)
        za = zl if a <= start else _NORMAL.inv_cdf(min(a, end)) if 0 < min(a, end) < 1 else zh
        zb = zh if b >= end else _NORMAL.inv_cdf(max(b, start)) if 0 < max(b, start) < 1 else zl
        share = max(_NORMAL.cdf(zb - self.sigma) - _NORMAL.cdf(za - self.sigma), 0.0)
        return (total + exp(mu + self.sigma**2 / 2) * share) / (b - a)

    def times(self, factor: float) -> "Lognormal":
        """Return the distribution with every length multiplied."""
        return Lognormal(self.average * factor, self.p95 * factor, max(self.low * factor, 1.0), self.high * factor)


@dataclass(frozen=True)
class Quantiles(Lengths):
    """Measured quantiles, (share of the requests, length) from 0 to 1, straight lines between them. [token]"""

    known: tuple[tuple[float, float], ...]  #: (share of the requests, length [token]), ascending

    def quantile(self, q: float) -> float:
        """Return the length that a share `q` of the requests do not exceed. [token]"""
        if q <= 0:
            return self.known[0][1]
        for (a, at_a), (b, at_b) in pairwise(self.known):
            if q <= b:
                return at_a + (at_b - at_a) * (q - a) / (b - a)
        return self.known[-1][1]

    def between(self, a: float, b: float) -> float:
        """Return the mean length of the requests from quantile a to quantile b. [token]"""
        cuts = sorted({a, b, *(q for q, _ in self.known if a < q < b)})
        return sum((self.quantile(x) + self.quantile(y)) / 2 * (y - x) for x, y in pairwise(cuts)) / (b - a)

    def times(self, factor: float) -> "Quantiles":
        """Return the distribution with every length multiplied."""
        return Quantiles(tuple((q, length * factor) for q, length in self.known))


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One number of a derivation: '500 words'."""

    value: float  #: in the unit that `of` names
    of: str  #: what it counts
    source: Source  #: who says so

    @property
    def counts_tokens(self) -> bool:
        """Whether it says how many tokens one thing makes."""
        return self.of.startswith("token")

    def __str__(self) -> str:
        return f"{self.value:,.12g} {self.of}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a prompt or an answer, its tokens derived as a product."""

    name: str  #: what it is
    factors: tuple[Factor, ...]  #: whose product is its tokens
    requests: float = 1.0  #: requests in a row that begin with this very part, ALL for all of them
    modality: str = TEXT  #: what it is of: text, image, video (frames, read as images) or audio
    size: tuple[int, int] | None = None  #: width and height of an image or frame, None where not told [pixel]

    @property
    def visual(self) -> bool:
        """Whether it is of images or frames, which a cross-attention model keeps out of its decoder."""
        return self.modality in (IMAGE, VIDEO)

    @property
    def images(self) -> float:
        """Images or frames of a visual part: the product of its factors but the tokens of one."""
        return prod(f.value for f in self.factors if not f.counts_tokens) if self.visual else 0.0

    def read_by(self, model: ModelSpec) -> "Part":
        """Return the part with the tokens that a model makes of an image of its size, if one is told."""
        if not self.visual or self.size is None or model.vision is None:
            return self
        frames = model.vision.frames if self.modality == VIDEO else 1
        tokens = Factor(value=model.vision.tokens(*self.size) / frames, of="tokens", source=model.source)
        return replace(self, factors=(*(f for f in self.factors if not f.counts_tokens), tokens))

    @property
    def tokens(self) -> float:
        """The product of the factors. [token]"""
        return prod(f.value for f in self.factors)

    def __str__(self) -> str:
        product = " x ".join(str(f) for f in self.factors)
        return f"{product} = {self.tokens:,.0f} tokens" if len(self.factors) > 1 else product


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """When requests come."""

    queries_per_day: float  #: mean volume [1/day]
    hours: tuple[float, ...]  #: weights of the 24 hours of a day
    burstiness: float  #: coefficient of variation of the time between requests, 1 for Poisson arrivals
    busiest_minute: float  #: requests of the busiest minute over the mean minute of its hour

    @property
    def mean_rate(self) -> float:
        """Queries per second over a day. [1/s]"""
        return self.queries_per_day / DAY

    @property
    def peak_factor(self) -> float:
        """Busiest hour over the mean hour."""
        return max(self.hours) * len(self.hours) / sum(self.hours)

    @property
    def peak_rate(self) -> float:
        """Queries per second in the busiest hour. [1/s]"""
        return self.mean_rate * self.peak_factor

    def rate(self, hour: int) -> float:
        """Queries per second in an hour of the day, 0 to 23. [1/s]"""
        return self.mean_rate * self.hours[hour % 24] * len(self.hours) / sum(self.hours)


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Latency limits that a share of the requests must meet, None where there is none."""

    ttft: float | None  #: to the first token [s]
    tpot: float | None  #: mean time of a token after the first [s]
    e2e: float | None  #: to the last token [s]
    percentile: float  #: share of the requests that must meet them, of 1


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one application asks of a model."""

    name: str  #: as files and options spell it
    title: str  #: as reports print it
    task: str  #: task family whose quality counts
    offline: bool  #: whether nobody waits for an answer
    input: Lengths  #: of prompts [token]
    output: Lengths  #: of answers [token]
    parts: tuple[Part, ...] = ()  #: of the prompt, which derive its mean where no log gave it
    beside: tuple[Part, ...] = ()  #: that the decoder does not read: images of a cross-attention model
    answer: tuple[Part, ...] = ()  #: of the answer, which derive its mean where no log gave it
    reused: float | None = None  #: measured share of input tokens an ideal prefix cache holds; None: `parts` tell it
    arrivals: Arrivals  #: when requests come
    slo: Slo  #: how soon they must be answered
    item: str = ""  #: what users count, made of one or several requests: contract, record ..., '' where it is a request
    requests_per_item: float = 1.0  #: requests that one item takes
    between_questions: float = BETWEEN  #: mean time from a user's question to the next [s]
    question: str = ""  #: seen or unseen when a cache is compressed, '' where the parts tell it
    notes: tuple[str, ...] = ()  #: remarks for the user
    source: Source  #: of the file
    sources: dict[str, Source]  #: who gave each figure
    defaults: tuple[str, ...] = ()  #: names of the figures that its file leaves to kvplan

    @property
    def prefix_share(self) -> float:
        """Share of the input tokens that a prefix cache never short of room already holds."""
        if self.reused is not None or not self.parts:
            return self.reused or 0.0
        again, leading = 0.0, inf
        for part in self.parts:  # a prefix ends where a part is new
            leading = min(leading, part.requests)
            again += part.tokens * (1 - 1 / leading)
        return again / sum(p.tokens for p in self.parts)

    @property
    def question_seen(self) -> bool:
        """Whether the question stands in the prompt when its cache is compressed: one question to each prompt.

        Not where a good part of the prompt serves several requests: what is kept of it was chosen before they came.
        """
        return self.question == "seen" if self.question else self.prefix_share < SHARED

    @property
    def session(self) -> tuple[int, float]:
        """(requests of a session, share of their prompt that all but its first find) of a measured share.

        As few requests as find no more than FOUND each. Were all alike, those that begin a session would be forgotten:
        of the log of `agents`, 5 % compute 29,464 tokens and more, against 24,716 if all found 37 %, and 27,760 so.
        """
        share = min(self.reused or 0.0, 0.99)
        each = ceil(1 / (1 - share / max(FOUND, (1 + share) / 2)) - 1e-9)
        return each, share * each / max(each - 1, 1)

    @property
    def visual(self) -> tuple[Part, ...]:
        """The parts of images or frames, read by the decoder or beside it."""
        return tuple(p for p in (*self.parts, *self.beside) if p.visual)

    @property
    def prefix_classes(self) -> tuple[tuple[float, float], ...]:
        """(share of the requests, share of their input tokens that a prefix cache holds), the least held first.

        A part that stands in k requests in a row is new in one of k.
        """
        if self.reused is not None or not self.parts:
            each, held = self.session
            return ((1.0, 0.0),) if each == 1 else ((1 / each, 0.0), (1 - 1 / each, held))
        whole, leading, ends = sum(p.tokens for p in self.parts), inf, []
        for part in self.parts:  # a prefix ends where a part is new
            leading = min(leading, part.requests)
            ends.append((1 / leading, part.tokens / whole))
        cuts = sorted({0.0, 1.0, *(new for new, _ in ends)})
        return tuple((b - a, sum(share for new, share in ends if new <= a)) for a, b in pairwise(cuts))

    @property
    def visual_tokens(self) -> float:
        """Mean visual tokens of a request: input of a decoder-only model, cross-attended otherwise. [token]"""
        return sum(p.tokens for p in self.visual)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it asks a model to read, text first."""
        kinds = {p.modality for p in (*self.parts, *self.beside)}
        return tuple(kind for kind in MODALITIES if kind in kinds or kind == TEXT)

    def read_by(self, model: ModelSpec) -> "Workload":
        """Return the workload as a model reads it: its own tokens an image, and none of them where it cross-attends."""
        crosses = model.vision is not None and any(m.kind == "cross" for m in model.mixers)
        parts = tuple(p.read_by(model) for p in self.parts)
        own = self if parts == self.parts else self._of(parts)
        return own.cross_attended() if crosses else own

    def cross_attended(self) -> "Workload":
        """Return the workload as a cross-attention model reads it: visual tokens are no input of its decoder."""
        text, visual = (tuple(p for p in self.parts if p.visual is image) for image in (False, True))
        return replace(self._of(text), beside=(*self.beside, *visual)) if visual else self

    def _of(self, parts: tuple[Part, ...]) -> "Workload":
        """Return the workload with other parts, its prompts longer or shorter by what they come to."""
        share = sum(p.tokens for p in parts) / sum(p.tokens for p in self.parts)
        return replace(self, parts=parts, input=self.input.times(share))

    def context(self, q: float) -> float:
        """Return input and output tokens at a quantile of both (a bound: long prompts need not get long answers)."""
        return self.input.quantile(q) + self.output.quantile(q)


#: what a part that every request begins with writes for `requests`
ALL = inf
