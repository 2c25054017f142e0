"""Reading a study: the question, what is fixed, what varies. A refusal says the line, the key, the right spelling."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvplan.catalog.fields import known_fields, read_source
from kvplan.catalog.files import Document, called, read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import shipped
from kvplan.catalog.studies.quantities import WHOLE, read_value, whole
from kvplan.catalog.studies.yaml_lines import Route, lines_of
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.sweep import METHODS, Askable, Axis, Choice, HeatMap, Sampling, Stretch, Study

FIELDS = ("name", "title", "source", "ask", "fixed", "cases", "vary", "sample", "minimize", "heat")
RANGE = ("from", "to", "steps", "scale")
SCALES = ("linear", "log")
#: steps of a range, values of an axis, and points of a study at most
MOST_STEPS, MOST_POINTS = 100_000, 10_000_000
#: bits of a seed
SEEDS = 2**31
#: parameters under the names that one value of them has
NAMES = {"gpu": "gpus", "technique": "techniques", "queries": "queries_per_day", "gpus": "gpu",
         "techniques": "technique"}  # fmt: skip


def study(word: str, askable: Mapping[str, Askable], reasons: Mapping[str, str]) -> Study:
    """Return a study by its YAML file or the name of a shipped one; raise SpecError, UnknownName.

    `askable` are the questions with what each may be asked, `reasons` why others cannot be asked.
    """
    path = as_path(word)
    if path is not None and path.is_dir():
        raise SpecError(f"{word}: is a folder; a study is a YAML file, as in ./study.yaml")
    name = path.stem if path else resolve("studies", word, "study")
    location = called(path) if path else f"{name}.yaml"
    text = read_text(path, location) if path else shipped("studies", name)
    raw = read_yaml(text, location, typed=False)
    return _Reading(location, lines_of(text), askable, reasons).study(raw, name)


@dataclass(frozen=True)
class _Reading:
    """One file as it is read: its name, and on which line everything stands."""

    location: str  #: name of the file
    lines: Mapping[Route, int]  #: route of a value -> its line
    askable: Mapping[str, Askable]  #: question -> what it may be asked
    reasons: Mapping[str, str]  #: question that cannot be asked -> why

    def at(self, *route: str | int) -> str:
        """Return where something stands: 'study.yaml: line 7: vary: context'."""
        words = [str(key) for key in route if isinstance(key, str)]
        return ": ".join([self.location, f"line {self.line(*route)}", *words])

    def line(self, *route: str | int) -> int:
        """Return the line of a value, that of what holds it where it has none."""
        while route not in self.lines:
            route = route[:-1]
        return self.lines[route]

    def known(self, raw: Mapping[str, Any], fields: Any, *route: str | int, kind: str = "") -> None:
        """Refuse a field that is not known, on its line."""
        if wrong := next((key for key in raw if key not in fields), None):
            known_fields({wrong: None, **raw}, fields, self.at(*route, wrong).removesuffix(f": {wrong}"), kind)

    def study(self, raw: Document, name: str) -> Study:
        """Return the study of a document."""
        self.known(raw, FIELDS, kind="study")
        if "source" in raw:
            read_source(raw["source"], self.location)
        ask = self.question(raw.get("ask"))
        what = self.askable[ask]
        sample = self.sample(raw["sample"]) if "sample" in raw else None
        fixed = self.choices(self.fields(raw, "fixed"), what, "fixed")
        axes = tuple(
            self.axis(self.parameter(key, what, "vary"), entry, sample is not None, "vary", key)
            for key, entry in self.fields(raw, "vary").items()
        )
        study = Study(
            file=self.location,
            name=raw["name"] if isinstance(raw.get("name"), str) else name,
            title=raw["title"] if isinstance(raw.get("title"), str) else "",
            ask=ask,
            fixed=fixed,
            cases=self.cases(raw["cases"], what) if "cases" in raw else (),
            axes=axes,
            sample=sample,
            minimize=self.figures(raw["minimize"], what) if "minimize" in raw else (),
            heat=None,
        )
        self.check(study, what)
        return study if "heat" not in raw else replace(study, heat=self.heat(raw["heat"], study, what))

    def question(self, raw: object) -> str:
        """Return the question that is asked."""
        known = ", ".join(self.askable)
        if not isinstance(raw, str):
            raise SpecError(f"{self.at('ask')}: say what every point asks, as in ask: estimate; known: {known}")
        if raw in self.reasons:
            raise SpecError(f"{self.at('ask')}: {self.reasons[raw]}; known: {known}")
        if raw not in self.askable:
            raise UnknownName("question", raw, self.askable, f"known: {known}", self.at("ask"))
        return raw

    def fields(self, raw: Document, key: str) -> Document:
        """Return the fields under a key, none where it is not there."""
        given = raw.get(key, {})
        if not isinstance(given, dict):
            raise SpecError(f"{self.at(key)}: expected parameters, as in {key}: {{model: llama3.1-70b}}")
        return given

    def parameter(self, key: str, what: Askable, *route: str | int) -> str:
        """Return the parameter that a key names."""
        plain = key.replace("-", "_")
        for name in (plain, NAMES.get(plain, plain)):
            if name in what.parameters:
                return name
        known = f"known: {', '.join(sorted(what.parameters))}"
        raise UnknownName("parameter", key, what.parameters, known, self.at(*route, key).removesuffix(f": {key}"))

    def value(self, name: str, raw: object, *route: str | int) -> Choice:
        """Return one value of a parameter."""
        return Choice(value=read_value(name, raw, self.at(*route)), line=self.line(*route))

    def choices(self, raw: Document, what: Askable, *route: str | int) -> dict[str, Choice]:
        """Return the parameters of a mapping with one value each."""
        chosen: dict[str, Choice] = {}
        for key, entry in raw.items():
            name = self.parameter(key, what, *route)
            if name in chosen:
                raise SpecError(f"{self.at(*route, key)}: {name} stands twice; write it once")
            chosen[name] = self.value(name, entry, *route, key)
        return chosen

    def cases(self, raw: object, what: Askable) -> tuple[dict[str, Choice], ...]:
        """Return parameters that differ together: all cases have the same."""
        example = "cases: [{model: llama3.1-8b, tp: 1}, {model: llama3.1-70b, tp: 4}]"
        if not isinstance(raw, list) or not raw or not all(isinstance(entry, dict) and entry for entry in raw):
            raise SpecError(f"{self.at('cases')}: expected a list, as in {example}")
        cases = tuple(self.choices(entry, what, "cases", n) for n, entry in enumerate(raw))
        for n, case in enumerate(cases):
            if missing := next((name for name in cases[0] if name not in case), None):
                raise SpecError(f"{self.at('cases', n)}: missing {missing}, which the first case has")
            if more := next((name for name in case if name not in cases[0]), None):
                raise SpecError(f"{self.at('cases', n)}: {more} stands not in the first case; write it in all or none")
        return cases

    def axis(self, name: str, raw: object, sampled: bool, *route: str | int) -> Axis:
        """Return a parameter with its values, or with a span where points are drawn."""
        if isinstance(raw, dict):
            span, steps = self.span(name, raw, sampled, *route)
            line, values = self.line(*route), []
            if steps is not None:
                values = list(dict.fromkeys(span.at(n / (steps - 1)) for n in range(steps)))
            choices = tuple(Choice(value=value, line=line) for value in values)
            return Axis(name=name, choices=choices, span=None if steps else span)
        entries = raw if isinstance(raw, list) else [raw]
        if not entries:
            raise SpecError(f"{self.at(*route)}: expected values, as in [1, 2, 4]")
        each = [self.value(name, entry, *route, n) for n, entry in enumerate(entries)]
        for n, choice in enumerate(each):
            if any(choice.value == other.value for other in each[:n]):
                raise SpecError(f"{self.at(*route, n)}: {shown(entries[n])} stands twice; write it once")
        return Axis(name=name, choices=tuple(each), span=None)

    def span(self, name: str, raw: Document, sampled: bool, *route: str | int) -> tuple[Stretch, int | None]:
        """Return a range, and its steps, None where points are drawn from all of it."""
        self.known(raw, RANGE, *route)
        for end in ("from", "to"):
            if end not in raw:
                raise SpecError(f"{self.at(*route)}: missing {end}, as in {{from: 1, to: 100, steps: 10, scale: log}}")
        ends = [self.value(name, raw[end], *route, end).value for end in ("from", "to")]
        low, high = (one if isinstance(one, (int, float)) else None for one in ends)
        if low is None or high is None or not low < high:
            raise SpecError(f"{self.at(*route)}: expected numbers, the smaller one first, as in {{from: 1, to: 100}}")
        scale = raw.get("scale", SCALES[0])
        if scale not in SCALES:
            raise UnknownName("scale", str(scale), SCALES, f"write {' or '.join(SCALES)}", self.at(*route, "scale"))
        if scale == "log" and low <= 0:
            raise SpecError(f"{self.at(*route)}: a logarithmic scale begins above zero; write scale: linear")
        span = Stretch(low=low, high=high, log=scale == "log", whole=name in WHOLE)
        if sampled:
            if "steps" in raw:
                raise SpecError(
                    f"{self.at(*route, 'steps')}: a sample takes its points from the whole range; leave out"
                )
            return span, None
        if "steps" not in raw:
            raise SpecError(f"{self.at(*route)}: missing steps, as in steps: 10 (only a sample needs none)")
        return span, self.counted(raw["steps"], 2, MOST_STEPS, *route, "steps")

    def counted(self, raw: object, least: int, most: int, *route: str | int) -> int:
        """Return a whole number within bounds."""
        value = whole(raw, self.at(*route))
        if not least <= value <= most:
            raise SpecError(f"{self.at(*route)}: expected from {least:,} to {most:,}, got {shown(raw)}")
        return value

    def sample(self, raw: object) -> Sampling:
        """Return how points are drawn."""
        if not isinstance(raw, dict):
            raise SpecError(f"{self.at('sample')}: expected fields, as in {{method: sobol, points: 1024, seed: 1}}")
        self.known(raw, ("method", "points", "seed"), "sample")
        method = raw.get("method", METHODS[-1])
        if method not in METHODS:
            place = self.at("sample", "method")
            raise UnknownName("method", str(method), METHODS, f"write {' or '.join(METHODS)}", place)
        if "points" not in raw:
            raise SpecError(f"{self.at('sample')}: missing points, as in points: 1024")
        return Sampling(
            method=method,
            points=self.counted(raw["points"], 1, MOST_POINTS, "sample", "points"),
            seed=self.counted(raw.get("seed", "1"), 0, SEEDS, "sample", "seed"),
        )

    def figures(self, raw: object, what: Askable) -> tuple[str, ...]:
        """Return names of figures."""
        entries = raw if isinstance(raw, list) else [raw]
        return tuple(self.figure(entry, what, "minimize", n) for n, entry in enumerate(entries))

    def figure(self, raw: object, what: Askable, *route: str | int) -> str:
        """Return the name of a figure."""
        if not isinstance(raw, str) or raw not in what.figures:
            known = f"known: {', '.join(sorted(what.figures))}"
            raise UnknownName("figure", str(raw), what.figures, known, self.at(*route))
        return raw

    def heat(self, raw: object, study: Study, what: Askable) -> HeatMap:
        """Return what the heat map shows."""
        example = "{x: context, y: technique, figure: usd_per_query}"
        if not isinstance(raw, dict):
            raise SpecError(f"{self.at('heat')}: expected fields, as in {example}")
        self.known(raw, ("x", "y", "figure"), "heat")
        for key in ("x", "y", "figure"):
            if not isinstance(raw.get(key), str):
                raise SpecError(f"{self.at('heat')}: missing {key}, as in {example}")
        x, y = (self.parameter(raw[key], what, "heat", key) for key in ("x", "y"))
        for key, name in (("x", x), ("y", y)):
            if name not in study.varied:
                known = f"it varies {', '.join(study.varied)}"
                raise UnknownName("varied parameter", raw[key], study.varied, known, self.at("heat", key))
        return HeatMap(x=x, y=y, figure=self.figure(raw["figure"], what, "heat", "figure"))

    def check(self, study: Study, what: Askable) -> None:
        """Refuse a study that asks nothing, asks too much, or of which a parameter is missing or stands twice."""
        from kvplan.planning.design import count

        places = [*study.fixed, *(study.cases[0] if study.cases else ()), *(axis.name for axis in study.axes)]
        if twice := next((name for n, name in enumerate(places) if name in places[:n]), None):
            where = next(key for key in ("vary", "cases", "fixed") if (key,) in self.lines)
            raise SpecError(f"{self.at(where)}: {twice} stands in two of fixed, cases and vary; write it in one")
        if not study.varied:
            raise SpecError(f"{self.at('vary')}: nothing varies; write what does, as in vary: {{context: [8k, 32k]}}")
        for group in what.needed:
            if not any(name in places for name in group):
                raise SpecError(f"{self.at('fixed')}: missing {' or '.join(group)}, as in fixed: {{{_example(group)}}}")
        if (points := count(study)) > MOST_POINTS:
            raise SpecError(f"{self.at('vary')}: {points:,} points are more than {MOST_POINTS:,}; take a sample")


def _example(group: tuple[str, ...]) -> str:
    usual = {"model": "llama3.1-70b", "gpu": "h200", "context": "32k", "workload": "chat", "isl": "4k", "osl": "512"}
    return f"{group[0]}: {usual.get(group[0], '1')}"
