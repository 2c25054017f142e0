"""The schema of every kind of YAML file that people write, made from the fields that its reader takes.

Editors complete and check by it; readers stay the judges, since a schema cannot say that a mean lies between two ends.
"""

from collections.abc import Callable, Iterable

from kvplan import CODE
from kvplan.catalog import claim_files, fleets, scores, workloads
from kvplan.catalog.costs import rental
from kvplan.catalog.files import read_json
from kvplan.catalog.hardware.gpus import NEEDED, RATES
from kvplan.catalog.servers import engine_rules, launching
from kvplan.catalog.shapes import (
    Shape,
    by_name,
    day,
    fields,
    file_of,
    listed,
    number,
    one_of,
    quantity,
    several,
    source,
    stated,
    text,
    with_source,
    yes,
)
from kvplan.catalog.studies import sweeps
from kvplan.specs.claims import CASE_FIELDS
from kvplan.specs.fields import described
from kvplan.specs.hardware import GPU_FIELDS, SERVES, Gpu
from kvplan.specs.model import MODALITIES
from kvplan.specs.money import OWNERSHIP_FIELDS, OWNERSHIP_MEANING
from kvplan.specs.quality import ATTENTION, AVERAGE, GRADES, OTHER_WORDS, QUERIES, SHORT, TASKS
from kvplan.specs.sweep import METHODS

NAMED = {"name": text("how options spell it; default: the file's name"), "title": text("how reports spell it")}
WORTH = by_name(number(), "USD for one unit of a currency, as in EUR: 1.08")
ALIASES = {"aliases": listed(text(), "other names that it answers to")}
LIMITS = {
    "ttft": quantity("s", "limit of the time to first token"),
    "tpot": quantity("s", "limit of the time per output token"),
    "e2e": quantity("s", "limit of a whole request"),
    "percentile": number("share of requests that must keep the limits, as in 95"),
}  # fmt: skip


def gpu() -> Shape:
    """Return the schema of a GPU."""
    figures = {n: stated(quantity(GPU_FIELDS[n], about["meaning"])) for n, about in described(Gpu).items()}
    shape = fields({"name": NAMED["name"], **figures, **ALIASES, "source": source()}, NEEDED)
    return {**shape, "anyOf": [{"required": [rate]} for rate in RATES]}


def model() -> Shape:
    """Return the schema of a model."""
    config = {"type": "object", "description": "fields of the checkpoint's config.json", "minProperties": 1}
    changes = by_name({"type": ["object", "null"]}, "release: the fields that its own config.json changes")
    unseen = by_name({"type": ["object", "null"]}, "release: the fields that differ, its own config.json not read")
    longer = text("how a longer context is reached")
    derived = listed(text(), "models made from it, of its shape: fine-tunes, distills, later releases")
    uploads = by_name({"type": ["object", "null"]}, "quantised upload: the fields that its own config.json changes")
    parts = {
        **NAMED, **ALIASES, "derived": derived, "releases": changes, "unseen": unseen, "uploads": uploads,
        "longer": longer, "source": source(), "config": config,
    }  # fmt: skip
    return {**fields(parts, ("config",)), "additionalProperties": True}


def prices() -> Shape:
    """Return the schema of a list of GPU prices."""
    entry = {
        "gpu": text("a GPU's name"),
        "provider": text("who lets it; default: the file's name"),
        "price": quantity("USD/s", "rent of one GPU"),
        "term": {
            "type": "string", "pattern": f"^({rental._TERM.pattern})$",
            "description": "on-demand (the default), spot, community, reserved-1y ...",
        },
        "from": day("first day it holds"),
        "to": day("first day it no longer holds"),
        "gpus": number("GPUs that are let together"),
        "host_memory": quantity("B", "memory of the server, a GPU's part"),
        "note": text("a remark for the reader"),
    }  # fmt: skip
    offers = listed(with_source(fields(entry, ("gpu", "price", "from"))), "offers")
    return fields({**NAMED, "source": source(), "rates": WORTH, "prices": offers}, ("prices", "source"))


def api() -> Shape:
    """Return the schema of an API's prices."""
    entry = {
        "model": text("the provider's name of the model"),
        "serves": text("kvplan's name of it, where its weights are public"),
        "input": quantity("USD/token", "of an input token"),
        "output": quantity("USD/token", "of an output token"),
        "cached": quantity("USD/token", "of an input token found in the provider's cache"),
        "above": number("holds for prompts longer than this [token]"),
        "from": day("first day it holds"),
        "to": day("first day it no longer holds"),
        "note": text("a remark for the reader"),
    }
    offers = listed(with_source(fields(entry, ("model", "from"))), "prices")
    return fields({**NAMED, "source": source(), "prices": offers}, ("prices", "source"))


def ownership() -> Shape:
    """Return the schema of what owning takes."""
    figures = {n: stated(quantity(unit, OWNERSHIP_MEANING[n])) for n, (unit, _, _) in OWNERSHIP_FIELDS.items()}
    server = {
        "gpu": text("a GPU's name"),
        "price": quantity("USD", "of the whole server"),
        "gpus": number("GPUs in it"),
        "power": quantity("W", "of the whole server"),
        "host_memory": quantity("B", "of the whole server, beside its GPUs"),
        "note": text("a remark for the reader"),
    }
    servers = listed(with_source(fields(server, ("gpu", "price", "gpus"))), "servers that can be bought")
    return fields({**NAMED, "source": source(), **figures, "servers": servers}, ("source",))


def workload() -> Shape:
    """Return the schema of a workload."""
    factor = with_source(fields({"value": number(), "of": text("what it counts, as in pages")}, ("value", "of")))
    part = {
        "name": text("what the part is"),
        "factors": listed(factor, "their product is the part's tokens", 1),
        "requests": {"anyOf": [{"const": "all"}, number()], "description": "requests that share it, or all"},
        "modality": one_of(MODALITIES),
        "visual": yes(),
        "size": listed(number(), "width and height [pixel]", 2),
    }
    lengths = {
        "parts": listed(fields(part, ("name", "factors")), "what its tokens are made of"),
        "p95": number("95th percentile, times the mean"),
        "low": number("the shortest [token]"),
        "high": number("the longest [token]"),
        "quantiles": by_name(number(), "of a log: percent: tokens, from 0 to 100"),
        "reused": number("share that an earlier request brought"),
        "source": source(),
    }
    log, derived = {"required": ["quantiles"]}, {"required": ["parts", *workloads.DERIVED]}
    either = {"if": log, "then": {"not": {"required": ["parts"]}}, "else": derived}
    arrivals = {
        "queries_per_day": quantity("queries", "mean volume"),
        "burstiness": number("coefficient of variation of the time between requests; 1: Poisson"),
        "busiest_minute": number("load of the busiest minute, times its hour's mean"),
        "hours": {**listed(number(), "24 weights, midnight first", 24), "maxItems": 24},
        "source": source(),
    }
    slo = {**fields({**LIMITS, "source": source()}), "anyOf": [{"required": [n]} for n in ("ttft", "tpot", "e2e")]}
    parts: dict[str, Shape] = {
        **NAMED, **ALIASES,
        "task": one_of((*TASKS, *OTHER_WORDS), "a task family of quality scores"),
        "offline": yes("whether nobody waits"),
        "source": source(),
        "input": {**fields(lengths), **either, "description": "the prompt"},
        "output": {**fields(lengths), **either, "description": "the answer"},
        "arrivals": fields(arrivals, ("queries_per_day",), "when requests come"),
        "slo": {**slo, "description": "limits that requests must keep"},
        "item": text("what several requests make, as in contract"),
        "requests_per_item": stated(number("requests to one item")),
        "between_questions": stated(quantity("s", "time between two questions to one prefix")),
        "question": one_of(QUERIES, "whether questions are known when a cache is compressed"),
        "notes": listed(text(), "remarks for the reader"),
    }  # fmt: skip
    return fields({n: parts[n] for n in workloads.FIELDS}, ("source", "task", "input", "output", "arrivals", "slo"))


def fleet() -> Shape:
    """Return the schema of a fleet."""
    stock = fields({"count": number("GPUs that can be had"), "price": quantity("USD/s", "rent")}, ("count",))
    job = {
        "name": text("of this load; default: the workload's"),
        "workload": text("a workload's name or file"),
        "model": text("a model's name or file"),
        "queries_per_day": quantity("queries", "mean volume, in place of the workload's"),
        "rate": quantity("queries", "the same a second"),
        **LIMITS,
        "max_quality_drop": number("greatest loss of quality, as in 1%"),
    }
    jobs = listed(fields({n: job[n] for n in fleets.JOB}, ("workload", "model")), "what must be served", 1)
    gpus = by_name({"anyOf": [number(), stock]}, "GPU: how many can be had, as in h100: 32")
    parts = {
        "name": NAMED["name"],
        "rates": WORTH,
        "gpus": gpus,
        "workloads": jobs,
        "buckets": number("buckets of input length"),
    }
    return fields({n: parts[n] for n in fleets.FIELDS}, ("gpus", "workloads"))


def study(asked: Iterable[str] = ()) -> Shape:
    """Return the schema of a study; `asked` are the questions that one may ask."""
    span = {
        "from": text("first value"),
        "to": text("last value"),
        "steps": number("values between them"),
        "scale": one_of(sweeps.SCALES),
    }
    vary = {"anyOf": [several(text()), fields(span, ("from", "to"))]}
    value = {"anyOf": [text(), listed(text())]}
    sample = {"method": one_of(METHODS), "points": number("points drawn"), "seed": number("of the draw")}
    heat = {"x": text("parameter"), "y": text("parameter"), "figure": text("of the answers")}
    parts: dict[str, Shape] = {
        **NAMED,
        "source": source(),
        "ask": one_of(asked, "what every point asks") if asked else text("what every point asks"),
        "fixed": by_name(value, "parameters that stay, as in model: llama3.1-70b"),
        "cases": listed(by_name(value), "parameters that differ together", 1),
        "vary": by_name(vary, "parameter: its values, or {from, to, steps, scale}"),
        "sample": fields(sample, ("points",), "points drawn instead of all"),
        "minimize": several(text(), "figures of the Pareto front"),
        "heat": fields(heat, heat, "the heat map"),
    }
    return fields({n: parts[n] for n in sweeps.FIELDS}, ("ask",))


def quality() -> Shape:
    """Return the schema of quality scores."""
    either = {"anyOf": [number(), listed(number()), by_name({"anyOf": [number(), listed(number())]})]}
    row: dict[str, Shape] = {
        "technique": text("as options spell it, as in h2o:20%"),
        "share": number("share of the cache that it keeps"),
        "task": one_of((AVERAGE, SHORT, *TASKS, *OTHER_WORDS), "a task family"),
        "context": text("tokens, as in 32k"),
        "condition": text("how it was measured"),
        "benchmark": text("whose score it is"),
        "query": {"enum": ["", *QUERIES], "description": "whether the question was known"},
        "retained": {**either, "description": "score after over score before, of one or of several models"},
        "scores": {**either, "description": "[before, after], of one or of several models"},
        "spread": number("standard error of what was retained"),
        "source": {"anyOf": [source(), {"type": "string"}], "description": "a source, or a name under sources"},
        "grade": one_of(GRADES),
    }
    rows = {**fields({n: row[n] for n in scores.ROW}, ("technique",))}
    test = fields({"task": row["task"], "condition": text()})
    curve = {
        **{n: row[n] for n in ("technique", "query", "condition")},
        "shares": listed(number(), "shares of the cache that were kept"),
        "scores": by_name(by_name(listed(number())), "model: test: score of the whole cache, then of each share"),
    }
    models = {"parameters": number(), "attention": one_of(ATTENTION), "context": text("tokens")}
    base = {"claimed": text(), "effective": text(), "scores": by_name(number(), "tokens: score of 100")}
    size = {"what": text(), "accuracy": by_name(number(), "parameters: accuracy retained")}
    parts: dict[str, Shape] = {
        **NAMED,
        "source": source(),
        "sources": by_name(source(), "sources that rows call by name"),
        "grade": one_of(GRADES, "how well it is known; default: A in a file of one's own"),
        "benchmark": row["benchmark"],
        "models": by_name(fields(models), "models that rows name"),
        "rows": listed(rows, "scores"),
        "tests": by_name(test, "tests that curves name"),
        "curves": listed(fields(curve, ("technique", "scores")), "scores at several shares"),
        "base": by_name(fields(base, ("scores",)), "model: its scores by length, before any compression"),
        "sizes": listed(fields(size), "how losses depend on a model's size"),
    }
    return fields({n: parts[n] for n in scores.FIELDS}, ("source",))


def claims() -> Shape:
    """Return the schema of claims."""
    case = {n: several(text(), meaning) for n, meaning in CASE_FIELDS.items()}
    factor = with_source(fields({"value": several(number()), "of": text()}, ("value", "of")))
    hows = {n: listed(factor, f"factors of an arithmetic check: their {n}", 1) for n in claim_files.HOWS}
    claim: dict[str, Shape] = {
        "id": text("its name in the file"),
        "about": text("its subject; holds for the claims after it too"),
        "claim": text("the sentence that claims it"),
        "check": text("the quantity it is checked as, as in kv_bytes"),
        "claimed": text("its figure or range, as in over 40 GB"),
        "tolerance": number("how far off it may be, a share"),
        "cases": fields(case, (), "what it is checked on; a list means every one of them"),
        "needs": text("what would have to be known"),
        "note": text("a remark for the reader"),
        "headline": yes("whether it matters most to a reader"),
        "source": source(),
    }
    entry = fields({**{n: claim[n] for n in claim_files.CLAIM}, **hows}, ("id", "claim", "check"))
    return fields({**NAMED, "source": source(), "claims": listed(entry, "claims", 1)}, ("source", "claims"))


def engine() -> Shape:
    """Return the schema of an engine's memory rules."""
    figures = {n: stated(quantity(unit)) for n, unit in engine_rules.UNITS.items()}
    figures["pool"] = one_of(engine_rules.POOLS, "what the share of a GPU's memory is of")
    figures["capacity"] = stated(one_of(engine_rules.CAPACITIES, "what the tokens that it logs are of"))
    step = dict.fromkeys(("max_num_seqs", "max_num_batched_tokens", "graph", "wide_graph"), number())
    names = {"anyOf": [listed(text()), fields({"value": listed(text()), "source": source()}, ("value", "source"))]}
    reserve, vision = engine_rules.RESERVE, engine_rules.VISION
    launch = {n: by_name(text()) if n in launching.TABLES else text() for n in launching.KNOWN}
    runner: dict[str, Shape] = {
        **figures,
        "models": listed(text(), "parts of the model types it serves"),
        "serves": one_of(SERVES, "which other models it serves"),
        "lacks": listed(one_of(engine_rules.LACKS), "what its profiling run leaves out"),
        "source": source(),
    }
    rules = {
        "name": NAMED["name"], **ALIASES, **figures,
        "first_step": listed(text(), "GPUs whose first step is the largest"),
        **dict.fromkeys(engine_rules.LISTS, names),
        "steps": listed(fields({"memory": quantity("B"), **step}, engine_rules.SIZES), "largest steps by memory", 1),
        "reserve": fields({n: quantity(u) for n, u in reserve.items()}, reserve, "what is left free"),
        "vision": with_source(fields(dict.fromkeys(vision, number()), vision, "beside a vision tower")),
        "runtime": by_name(quantity("B"), "GPUs of a replica: bytes that the runtime takes"),
        "plain_runtime": by_name(quantity("B"), "the same of GPUs without NVLink SHARP"),
        "second_runner": fields(runner, ("source",), "another model runner: its models and figures"),
        "launch": fields({**launch, "source": source()}, (), "options that start its server"),
        "source": source(),
    }  # fmt: skip
    release = {**fields(rules), "type": ["object", "null"]}
    releases = by_name(release, "release: what changed with it")
    needed = ("title", "source", "pool", "releases")
    return fields({**rules, "releases": releases}, needed)


#: kind -> (its schema, what a file of it is, the shelf that holds the shipped ones)
KINDS: dict[str, tuple[Callable[[], Shape], str, str]] = {
    "model": (model, "A model: its config.json, under a name", "models"),
    "gpu": (gpu, "A GPU as sold: memory, bandwidth and rates", "gpus"),
    "prices": (prices, "Dated prices of GPUs", "prices"),
    "api": (api, "Dated prices of an API", "apis"),
    "ownership": (ownership, "What owning servers takes; what is left out is the default's", "ownership"),
    "workload": (workload, "A workload: lengths, arrivals and limits", "workloads"),
    "fleet": (fleet, "Loads to serve, and the GPUs that can be had", ""),
    "study": (study, "A question at every point of a grid or a sample", "studies"),
    "quality": (quality, "Scores of compressed models", "quality"),
    "claims": (claims, "Claims to be checked", "claims"),
    "engine": (engine, "An engine's memory rules by release", "engines"),
}


def schema(kind: str, asked: Iterable[str] = ()) -> Shape:
    """Return the schema of a kind of file; `asked` are the questions that a study may ask."""
    made, title, _ = KINDS[kind]
    return file_of(kind, title, study(asked) if kind == "study" else made())


# -- documents ------------------------------------------------------------------------------------

#: folder with the schema of every command's document, which the tests write together with golden files
DOCUMENTS = CODE / "schemas"


def documents() -> tuple[str, ...]:
    """Return the commands whose documents have a schema."""
    return tuple(sorted(path.stem for path in DOCUMENTS.glob("*.json")))


def document_schema(command: str) -> Shape:
    """Return the schema of a command's document."""
    schema: Shape = read_json((DOCUMENTS / f"{command}.json").read_text("utf-8"), f"{command}.json")
    return schema
