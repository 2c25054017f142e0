"""Schemas: of the files that people write, and of what commands answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from document_schemas import BESIDE, SCHEMAS, beside, inferred, joined, keeps
from jsonschema import Draft202012Validator

from kvplan import catalog
from kvplan.api.schema import asked, schema
from kvplan.api.sweeping.questions import askable, unavailable
from kvplan.catalog.schemas import KINDS, document_schema, documents
from kvplan.catalog.shelves import shelf
from kvplan.errors import KvplanError

ROOT = Path(__file__).parent.parent
#: kind -> what reads a file of it
READERS = {
    "model": catalog.model, "gpu": catalog.gpu, "prices": catalog.price_file, "api": catalog.api_file,
    "ownership": catalog.ownership, "workload": catalog.workload, "fleet": catalog.fleet,
    "study": lambda word: catalog.study(word, askable(), unavailable()), "quality": catalog.quality_file,
    "claims": catalog.claim_list, "engine": catalog.engine,
}  # fmt: skip


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(schema(kind).shape)


def files(kind: str) -> list[Path]:
    """Return the files of a kind that kvplan ships, and those that stand for a user's."""
    folder = KINDS[kind][2]
    own = {"fleet": "fleet.yaml", "study": "study.yaml", "prices": "prices.yaml", "quality": "scores.yaml"}
    mine = [ROOT / "tests" / "golden" / "files" / own[kind]] if kind in own else []
    return [*(sorted(shelf(folder).glob("*.yaml")) if folder else ()), *mine]


def plain(path: Path) -> Any:
    """Return a document as most readers read it: all is text."""
    return yaml.load(path.read_text("utf-8"), yaml.BaseLoader)


def typed(text: str) -> Any:
    """Return a document as editors read it: dates as text, numbers as numbers."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


def refused(kind: str, document: Any, folder: Path) -> bool:
    """Return whether the reader of a kind refuses a document."""
    path = folder / f"mine{len(list(folder.iterdir()))}.yaml"  # some readers remember a file by its name
    path.write_text(yaml.safe_dump(document), "utf-8")
    try:
        READERS[kind](str(path))
    except KvplanError:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_the_catalogue_keeps_to_its_schema(kind: str) -> None:
    check = validator(kind)
    check.check_schema(check.schema)
    assert files(kind)
    for path in files(kind):
        text = path.read_text("utf-8")
        for document in (typed(text), yaml.load(text, yaml.BaseLoader)):
            assert [f"{e.json_path}: {e.message}" for e in check.iter_errors(document)] == [], path.name


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_schema_requires_or_does_not_know_its_reader_refuses(kind: str, tmp_path: Path) -> None:
    path = files(kind)[-1]
    check, document = validator(kind), plain(path) if kind != "model" else typed(path.read_text("utf-8"))
    assert not refused(kind, document, tmp_path)
    for name in schema(kind).shape["required"]:
        less = {key: value for key, value in document.items() if key != name}
        assert not check.is_valid(less) and refused(kind, less, tmp_path), name
    more = {**document, "nonesuch": 1}
    assert check.is_valid(more) == (not refused(kind, more, tmp_path)), "a field of no name"


def wrong(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield a document with one field more at every place that holds fields of known names.

    Readers do not look for more in a source, or beside a figure's value and source; a schema, for editors, does.
    """
    if isinstance(document, dict):
        if place[-1:] not in (("gpus",), ("scores",), ("source",)) and {*document} != {"value", "source"}:
            yield place, {**document, "nonesuch": "1"}
        for key, below in document.items():
            yield from ((where, {**document, key: other}) for where, other in wrong(below, (*place, key)))
    elif isinstance(document, list):
        for n, below in enumerate(document[:2]):
            for where, other in wrong(below, (*place, n)):
                yield where, [*document[:n], other, *document[n + 1 :]]


@pytest.mark.parametrize("kind", ["workload", "fleet", "prices", "ownership", "claims", "quality"])
def test_a_field_of_no_name_is_refused_wherever_its_reader_refuses_it(kind: str, tmp_path: Path) -> None:
    check, tried = validator(kind), 0
    document = plain(files(kind)[-1])
    if kind == "claims":
        document["claims"] = document["claims"][:3]
    for place, changed in wrong(document):
        tried += 1
        assert check.is_valid(changed) == (not refused(kind, changed, tmp_path)), place
    assert tried > 1


#: unit -> what readers take, and what they refuse
WRITTEN = {
    "s": (("5s", "50ms", "1.5 min", "2h", "1,000 s"), ("3 parsecs", "5", "s", "5 s s")),
    "B": (("80 GB", "79.2 GiB", "0 B"), ("80", "80 GB/s", "80 gallons")),
    "B/s": (("3.35 TB/s",), ("3.35 TB", "3.35")),
    "W": (("700 W", "1.2kW"), ("700",)),
    "USD": (("270,000 USD",), ("270000",)),
    "USD/token": (("0.4 USD/Mtok",), ("0.4", "0.4 USD")),
    "USD/J": (("0.08 USD/kWh",), ("0.08 USD/h",)),
    "queries": (("30k", "1.2M", "40,000", "40"), ("30x", "k", "3 parsecs")),
    "1": (("40,000", "1e-3", ".5"), ("3 parsecs", "many", "1 2")),
}


@pytest.mark.parametrize("unit", WRITTEN)
def test_the_patterns_of_quantities_are_what_readers_take(unit: str) -> None:
    from kvplan.catalog.fields import ANY, number
    from kvplan.catalog.shapes import quantity

    check = Draft202012Validator(quantity(unit))
    for text in WRITTEN[unit][0]:
        assert number(text, "here", ANY, unit) >= 0 and check.is_valid(text), text
    for text in WRITTEN[unit][1]:
        assert not check.is_valid(text), text
        with pytest.raises(KvplanError):
            number(text, "here", ANY, unit)
    assert check.is_valid(5) == (unit in ("1", "queries"))


@pytest.mark.parametrize(
    ("text", "well"),
    [("2.49 USD/h", True), ("$2.49/h", True), ("2.49/h", True), ("USD 2.49/h", True), ("2.49", False),
     ("3 parsecs", False), ("2.49 USD", False), ("2.49 USD/kWh", False), ("2.49/hour", True), ("€2/h at 1.245", True),
     ("2.00 EUR/h at 1.245", True), ("2.49 USD/h at", False)],
)  # fmt: skip
def test_the_pattern_of_a_rent_is_what_readers_take(text: str, well: bool) -> None:
    from kvplan.catalog.costs.rents import rent
    from kvplan.catalog.shapes import quantity

    assert Draft202012Validator(quantity("USD/s")).is_valid(text) is well
    if well:
        assert rent(text, "here") == pytest.approx(2.49 / 3600)
    else:
        with pytest.raises(KvplanError):
            rent(text, "here")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("slo", "ttft"), "3 parsecs", "'3 parsecs' does not match"),
        (("between_questions",), "3 parsecs", "'3 parsecs' does not match"),
        (("arrivals", "queries_per_day"), "30x", "'30x' does not match"),
        (("task",), "qa-sinlge", "'qa-sinlge' is not one of ['qa-single',"),
        (("input", "low"), None, "'low' is a required property"),
        (("slo", "ttft"), "800 ms", ""),
        (("arrivals", "queries_per_day"), "30k", ""),
    ],
)
def test_a_mistake_in_a_workload_is_named(place: tuple[str, ...], value: str | None, said: str) -> None:
    document = plain(ROOT / "profiles" / "workloads" / "doc-qa.yaml")
    *above, last = place
    holder = document
    for name in above:
        holder = holder[name]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    found = [error.message for error in validator("workload").iter_errors(document)]
    assert len(found) == bool(said) and all(message.startswith(said) for message in found)


def test_the_words_of_a_schema_are_those_of_its_reader() -> None:
    said = schema("study").shape["properties"]
    assert said["ask"]["enum"] == [*asked()] and len(asked()) > 3
    assert "on-demand" in said["title"]["description"] or "reports" in said["title"]["description"]
    terms = schema("prices").shape["properties"]["prices"]["items"]["properties"]["term"]["pattern"]
    for kind, word in (("reserved-3y", True), ("sometimes", False)):
        assert Draft202012Validator({"pattern": terms}).is_valid(kind) is word


# -- answers --------------------------------------------------------------------------------------


def test_a_document_that_gains_a_name_or_changes_a_type_leaves_its_schema(run) -> None:
    document = run("memory", "-m", "llama3.1-8b", "-c", "8k", "--json").json
    assert keeps(document) == []
    assert len(keeps({**document, "nonesuch": 1})) == 1
    assert len(keeps({**document, "model": "llama"})) == 1
    assert len(keeps({key: value for key, value in document.items() if key != "kv"})) == 1
    check = Draft202012Validator(document_schema("memory"))
    assert check.is_valid({**document, "new": 1}), "a published schema lets later releases say more"


def test_a_call_names_only_what_was_given(run, tmp_path: Path) -> None:
    """Neither a day nor GPUs must be named, as a command line need not; whatever it names is known."""
    for words in ("-w chat", "-w chat -g h100 -t fp8", "--isl 500 --osl 100 --rate 1/s -g h100 --confidence 0.8"):
        found = run("recommend", "-m", "llama3.1-8b", *words.split(), "--save", str(tmp_path / "plan.json"), "--json")
        assert found.code == 0 and "on" not in found.json["question"]["values"]
        for document in (found.json, json.loads((tmp_path / "plan.json").read_text("utf-8"))):
            assert Draft202012Validator(document_schema("recommend")).is_valid(document)
    call = document_schema("recommend")["properties"]["question"]["properties"]["values"]
    assert call["required"] == [] and inferred({"values": {"model": "m"}})["properties"]["values"]["required"] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", BESIDE)
def test_an_answer_without_a_golden_file_keeps_to_its_schema(command: str, tmp_path: Path) -> None:
    document = beside(command, tmp_path)
    assert document["command"] == command and keeps(document) == []


def test_every_command_has_a_schema() -> None:
    from kvplan.cli import commands

    assert set(documents()) == set(commands()), "run pytest tests/test_reports.py --update-golden"


def test_a_shape_is_what_values_have_in_common() -> None:
    one, two = inferred({"a": 1, "b": "x", "c": [1]}), inferred({"a": None, "c": [], "d": {"h100-sxm": 1}})
    both = joined(one, two)
    assert both["required"] == ["a", "c"] and both["properties"]["a"] == {"type": ["null", "number"]}
    assert both["properties"]["c"]["items"] == {"type": ["null", "number"]}
    assert both["properties"]["d"]["additionalProperties"] == {"type": ["null", "number"]}
    assert joined(inferred({"x": 1}), inferred({"x-y": "z"}))["additionalProperties"]["type"] == [
        "null", "number", "string",
    ]  # fmt: skip


# -- the command ----------------------------------------------------------------------------------


def test_a_schema_is_printed_as_it_is(run) -> None:
    assert json.loads(run("schema", "workload").out) == schema("workload").shape
    assert json.loads(run("schema", "--answer", "estimate").out) == document_schema("estimate")
    assert run("schema", "studies").out == run("schema", "study").out
    assert "no kind of file named 'wrokload'; did you mean 'workload'?" in run("schema", "wrokload").err
    assert "KIND, --answer: ask for one schema" in run("schema", "gpu", "--answer", "estimate").err


def test_a_schema_as_a_table_has_a_row_for_every_field(run) -> None:
    table = run("schema", "fleet", "--format", "md").out
    for name in ("gpus", "workloads", r"workloads\[\].max\_quality\_drop", r"gpus.\*.count"):
        assert f"| {name} |" in table
    assert {f"{path.stem}" for path in SCHEMAS.glob("*.json")} == set(documents())


# -- the data dictionary --------------------------------------------------------------------------

FILES_PAGE = """# Fields of files

Every kind of YAML file that you write, made from its [schema](schemas.md). A dot nests, `[]` is an element of a list,
`*` any name. Quantities carry their unit; a figure may be written as `{value: ..., source: ...}`.
"""
DOCUMENTS_PAGE = """# Fields of documents

What every command prints with `--json`, made from its [schema](schemas.md). A dot nests, `[]` is an element of a list,
`*` any name; unknown figures are null.
"""


def dictionary(head: str, found: list[Any]) -> str:
    """Return a page with a table for every schema."""
    from kvplan.report.formats.md import marked
    from kvplan.report.schema import page

    parts = [f"## {one.kind}\n\n{marked(page(one)).replace('**', '')}\n" for one in found]
    return "\n".join([head, *parts])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data-files", lambda: dictionary(FILES_PAGE, [schema(kind) for kind in KINDS])),
        ("data-documents", lambda: dictionary(DOCUMENTS_PAGE, [schema(answer=name) for name in documents()])),
    ],
)
def test_the_data_dictionary_is_that_of_the_schemas(request: pytest.FixtureRequest, name: str, text: Any) -> None:
    path = ROOT / "docs" / f"{name}.md"
    if request.config.getoption("--update-golden"):
        path.write_text(text(), "utf-8")
    assert path.read_text("utf-8") == text(), "run pytest tests/test_schema.py --update-golden"


#: commands whose documents scripts rely on: every figure of theirs is explained
RELIED_ON = ("estimate", "memory", "recommend", "load", "simulate", "techniques")


@pytest.mark.parametrize("command", RELIED_ON)
def test_figures_that_scripts_rely_on_are_explained(command: str) -> None:
    from kvplan.report.schema import rows

    silent = {
        field.rpartition(".")[2].removesuffix("[]")
        for field, kind, said in rows(document_schema(command))
        if kind.startswith("number") and not said and "*" not in field
    }
    assert not silent


def test_a_page_of_a_schema_is_written_beside_it(run, tmp_path: Path) -> None:
    page = tmp_path / "schema.html"
    assert run("schema", "workload", "--html", page).out == run("schema", "workload").out
    assert "queries_per_day" in page.read_text("utf-8")
