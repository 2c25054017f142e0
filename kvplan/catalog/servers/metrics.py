"""Metrics pages of engines, fetched over HTTP and read by prometheus-client: the one connection a command opens.

It is opened to the address a user names, for metrics alone; nothing but a query is sent.
"""

import time
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from kvplan.errors import SpecError, shown
from kvplan.specs.metrics import MetricSample, Scrape

#: no engine's page comes near [B]
LARGEST = 16 * 2**20
#: how long an engine may take to answer [s]
PATIENCE = 10.0
#: formats asked for, the one whose parser knows more types first
ACCEPTED = "application/openmetrics-text; version=1.0.0, text/plain; version=0.0.4; q=0.5"
#: hosts that are this machine, whose GPUs are here
HERE = ("localhost", "127.0.0.1", "::1")
NEEDS = "metrics: needs the package prometheus-client: pip install 'kvplan[live]'"


class _SamePlace(HTTPRedirectHandler):
    """Follows no redirection: a page that has moved is named instead."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Return None, for which urllib raises HTTPError."""


def address(url: str) -> str:
    """Return a metrics page's address; a bare host gets http:// and /metrics. Raises SpecError for what is none."""
    word = url if "//" in url else f"http://{url}"
    parts = located(word)
    if parts is None:
        raise SpecError(f"metrics: {shown(url)} is no address; write one like http://localhost:8000/metrics")
    return word if parts.path.strip("/") else f"{word.rstrip('/')}/metrics"


def located(url: str) -> SplitResult | None:
    """Return the parts of an address of HTTP that names a host and, if any, a port from 1 on; None for others."""
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number or too large
        return None
    return parts if named and url.isprintable() and " " not in url else None


def is_here(place: str) -> bool:
    """Return whether an address is of this machine."""
    return urlsplit(place).hostname in HERE


def scrape(url: str) -> Scrape:
    """Return the figures of a page; raise SpecError, in one line, for what goes wrong."""
    place = address(url)
    text, kind = fetched(place, place, "metrics")
    return Scrape(time.monotonic(), parsed(text, kind, place), time.time())


def fetched(place: str, shown_as: str, name: str) -> tuple[str, str]:
    """Return what an address answers and its content type; raise SpecError, `name` and `shown_as` in front."""
    request = Request(place, headers={"Accept": ACCEPTED if name == "metrics" else "application/json"})  # noqa: S310
    try:
        with build_opener(_SamePlace).open(request, timeout=PATIENCE) as answer:
            text, kind = answer.read(LARGEST + 1), answer.headers.get("Content-Type", "")
    except HTTPError as error:
        what = {"metrics": "the metrics page"}.get(name, "a Prometheus server")
        raise SpecError(f"{name}: {shown_as} answers {error.code} {error.reason}; is it {what}?") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise SpecError(f"{name}: {shown_as} does not answer: {why}") from None
    if len(text) > LARGEST:
        raise SpecError(f"{name}: {shown_as} sends more than {LARGEST // 2**20} MiB; that is too much to be right")
    return text.decode("utf-8", "replace"), kind


def parsed(text: str, kind: str, place: str) -> tuple[MetricSample, ...]:
    """Return the samples of a page by its content type; raise SpecError for a page that is none."""
    try:
        from prometheus_client.openmetrics import parser as openmetrics
        from prometheus_client.parser import text_string_to_metric_families as plain
    except ImportError:
        raise SpecError(NEEDS) from None
    read = openmetrics.text_string_to_metric_families if "openmetrics" in kind else plain
    try:
        return tuple(
            MetricSample(s.name, dict(s.labels), float(s.value)) for family in read(text) for s in family.samples
        )  # fmt: skip
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SpecError(f"metrics: {place} is not a metrics page: {str(error) or type(error).__name__}") from None
