"""What a Prometheus server has kept of engines' metrics over a range, as looks at each server one window apart.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ range queries (2026-11): a matrix of series, each a
list of [unix time, "value"]. A server is told by the label `instance`.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

from kvplan.catalog.servers.metrics import fetched, located
from kvplan.errors import SpecError, shown
from kvplan.specs.metrics import MetricSample, Scrape

PATH = "/api/v1/query_range"
#: looks of one range: fewer than the 11,000 that a Prometheus server gives
MOST_LOOKS = 10_000
#: moments at which it is asked which series there are
FEW = 20
#: labels that tell a series from others, where `le` is a bucket's bound
NAME, INSTANCE = "__name__", "instance"


def endpoint(url: str) -> str:
    """Return the address of a Prometheus server's range queries; raise SpecError for what is none."""
    word = url if "//" in url else f"http://{url}"
    parts = located(word)
    if parts is None:
        raise SpecError(f"prometheus: {shown(url)} is no address; write one like http://localhost:9090")
    plain = word.rstrip("/")
    return plain if parts.path.endswith(PATH) else f"{plain}{PATH}"


def selector(names: Collection[str], labels: Mapping[str, str]) -> str:
    """Return the query of all series of these names under some labels."""
    matched = [f'{NAME}=~"{"|".join(sorted(names))}"']
    matched += [f"{name}={json.dumps(value)}" for name, value in labels.items()]
    return f"{{{','.join(matched)}}}"


def history(
    url: str, names: Collection[str], labels: Mapping[str, str], since: float, until: float, step: float
) -> dict[str, list[Scrape]]:
    """Return the looks at each server, oldest first; times in seconds since 1970. Raises SpecError."""
    if (until - since) / step > MOST_LOOKS:
        raise SpecError(
            f"window: {(until - since) / step:,.0f} windows are more than {MOST_LOOKS:,}; write a longer one"
        )
    asked = {"query": selector(names, labels), "start": f"{since:.3f}", "end": f"{until:.3f}", "step": f"{step:g}"}
    place = endpoint(url)
    text, _ = fetched(f"{place}?{urlencode(asked)}", place, "prometheus")
    looks: dict[str, defaultdict[float, list[MetricSample]]] = {}
    for series in matrix(text, place):
        told = {str(k): str(v) for k, v in series["metric"].items()}
        at = looks.setdefault(told.get(INSTANCE, ""), defaultdict(list))
        for moment, value in series["values"]:
            at[float(moment)].append(MetricSample(told.get(NAME, ""), told, float(value)))
    return {one: [Scrape(t, tuple(at[t]), t) for t in sorted(at)] for one, at in sorted(looks.items())}


def labelled(url: str, names: Collection[str], since: float, until: float) -> list[dict[str, str]]:
    """Return the labels of all series of some names that a Prometheus server kept in a range; raise SpecError."""
    step = max((until - since) / FEW, 1.0)
    asked = {"query": selector(names, {}), "start": f"{since:.3f}", "end": f"{until:.3f}", "step": f"{step:g}"}
    place = endpoint(url)
    text, _ = fetched(f"{place}?{urlencode(asked)}", place, "prometheus")
    return [{str(k): str(v) for k, v in series["metric"].items() if k != NAME} for series in matrix(text, place)]


def matrix(text: str, place: str) -> list[Any]:
    """Return the series of an answer; raise SpecError for another kind of answer."""
    try:
        answer = json.loads(text)
        if answer.get("status") != "success":
            raise SpecError(f"prometheus: {place} says {shown(answer.get('error', 'no success'))}")
        series = answer["data"]["result"]
        if answer["data"]["resultType"] != "matrix" or not all(s["metric"] and s["values"] for s in series):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SpecError(f"prometheus: {place} gives no matrix of series; is it a Prometheus server?") from None
    return list(series)
