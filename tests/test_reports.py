"""The text and the document of every report, as they are printed at three widths."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from document_schemas import BESIDE, keeps, write_anew
from printing import Report, cut, outline, printed, report
from reports import GOLDEN, LISTS, REPORTS, WIDE, WIDTHS

from kvplan.cli import commands
from kvplan.units import parse


@pytest.fixture(scope="module", params=list(REPORTS))
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(request.param, tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_text_is_as_it_was(shown: Report, golden: Callable[[str, str], None], width: int) -> None:
    golden(f"reports/{shown.name}.{width}", shown.texts[width].text)


def test_a_document_is_as_it_was(shown: Report, golden: Callable[[str, str], None]) -> None:
    found = shown.json
    assert found.code == shown.texts[100].code
    document = outline(found.json) if found.out else ""
    golden(f"json/{shown.name}", document + "".join(f"stderr: {line}\n" for line in found.err.splitlines()))


def test_charts_are_as_they_were(shown: Report, golden: Callable[[str, str], None]) -> None:
    if shown.charts:
        golden(f"charts/{shown.name}", shown.charts)
    else:
        assert not (GOLDEN / "charts" / f"{shown.name}.txt").exists()


@pytest.fixture(scope="module", autouse=True)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    """Collect documents by command; where all golden files are written anew, so are the schemas of documents."""
    documents: dict[str, list[Any]] = {}
    yield documents
    if request.config.getoption("--update-golden") and sum(map(len, documents.values())) >= ANSWERS:
        write_anew(documents, tmp_path_factory.mktemp("beside"))


#: documents that a whole run of this file sees at the least
ANSWERS = 0.8 * (len(REPORTS) + len(LISTS))


def test_a_document_keeps_to_its_schema(shown: Report, told: dict[str, list[Any]], request) -> None:
    if not shown.json.out:
        return
    told.setdefault(shown.json.json["command"], []).append(shown.json.json)
    assert request.config.getoption("--update-golden") or keeps(shown.json.json) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(shown: Report, width: int) -> None:
    assert [line for line in shown.texts[width].out.splitlines() if len(line) > width] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_heading_name_or_figure_is_cut(shown: Report, width: int) -> None:
    text = shown.texts[width].out
    assert "…" not in text
    assert cut(text, shown.texts[WIDE].out) == []


def test_costs_of_a_query_are_written_at_one_scale(shown: Report) -> None:
    """Small ones as those of a million in every sentence, table and chart, or in none of them."""
    text = shown.texts[WIDE].out + shown.charts
    of_million = re.findall(r"million queries|\$ / 1M", text)
    assert not (of_million and re.findall(r"\$[\d.,]+ a query|\$ / query|USD a query|cost of a query", text, re.I))


def test_every_command_has_a_report_and_no_golden_file_is_left_over() -> None:
    measured = {"list", "profile", *BESIDE}  # answers depend on machine or server
    assert {line.split()[0] for line in REPORTS.values()} | measured == set(commands())
    texts = {f"{name}.{width}.txt" for name in REPORTS for width in WIDTHS}
    assert {p.name for p in (GOLDEN / "reports").iterdir()} == texts
    assert {p.stem for p in (GOLDEN / "charts").iterdir()} <= set(REPORTS)
    assert {p.stem for p in (GOLDEN / "json").iterdir()} == {*REPORTS, *(f"list-{kind}" for kind in LISTS)}


# -- the cutter itself ----------------------------------------------------------------------------

WHOLE = """\
GPU       TTFT P99  models
h100-sxm  343.2 ms  llama3.1-70b, qwen3-32b
"""


@pytest.mark.parametrize(
    ("narrow", "found"),
    [
        (WHOLE, []),
        ("GPU       TTFT P99  models\nh100-sxm  343.2 ms  llama3.1-70b,\n                    qwen3-32b\n", []),
        ("GPU   TTFT P99\nh100  343.2 ms\n-sxm\n", []),
        ("GPU       TTFT P9\nh100-sxm  343.2 m\n", ["P9", "m"]),
        ("GPU       TTFT P99\nh100-sx   343.2 ms\n", ["h100-sx"]),
        ("GPU       TTFT P99\nh100-sxm  34.2 ms\n", ["34.2"]),
    ],
)
def test_what_is_cut_is_told_from_what_is_folded(narrow: str, found: list[str]) -> None:
    assert cut(narrow, WHOLE) == found


def test_an_outline_tells_what_moved() -> None:
    document = {"rows": [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}], "seconds": 3.2, "none": []}
    assert outline(document) == 'rows.a: 1, 2\nrows.b: "x", "y"\nnone: []\n'
    many = [{"a": n / 7} for n in range(100)]
    swapped = [*many[:50], many[51], many[50], *many[52:]]
    assert outline({"rows": many}) != outline({"rows": swapped})
    assert "100 of them" in outline({"rows": many})


# -- reports over the whole catalogue: a row for each entry, whatever their number ----------------


#: a width at which every row of a list is one line
BEYOND = 1000


@pytest.fixture(scope="module", params=list(LISTS))
def listed(request: pytest.FixtureRequest) -> tuple[str, dict[int, list[str]], list[dict[str, object]]]:
    """Return a kind, its lines by width, and what the document holds."""
    kind = request.param
    texts = {width: printed(["list", kind], width).out.splitlines() for width in (*WIDTHS, BEYOND)}
    return kind, texts, printed(["list", kind, "--json"]).json[kind]


def test_a_list_keeps_to_its_schema(listed, told: dict[str, list[Any]], request) -> None:
    kind, _, rows = listed
    document = {"schema": 1, "command": "list", "kind": kind, kind: rows}
    told.setdefault("list", []).append(document)
    assert request.config.getoption("--update-golden") or keeps(document) == []


def test_a_list_has_a_row_for_every_entry(listed) -> None:
    kind, texts, rows = listed
    assert texts[BEYOND][0].rstrip() == f"{len(rows)} {kind}" and len(texts[BEYOND]) == len(rows) + 4
    for line, row in zip(texts[BEYOND][4:], rows, strict=True):
        shown = line.split()
        for field, value in row.items():
            if isinstance(value, str):
                assert set(value.split()) <= set(shown), (field, line)
            elif value is None:
                assert "-" in shown
            elif isinstance(value, bool):
                assert ("yes" if value else "no") in shown
    if kind != "prices":  # whose headings say units
        assert texts[BEYOND][2].split() == " ".join(rows[0]).replace("_", " ").split()


#: what a column of a list is printed in, and how many digits of it
PRINTED = {
    "parameters": ("1", r"([\d,.]+) B\b", 1e9), "bandwidth": ("B/s", r"([\d.,]+ [GT]B/s)", 1.0),
    "bf16": ("FLOP/s", r"([\d.,]+ [TP]FLOP/s)", 1.0), "visible_memory": ("B", r"([\d.,]+ GiB)", 1.0),
    "usd_per_hour": ("1", r"\$([\d.]+)", 1.0), "input_tokens": ("1", r"  ([\d,]+) ", 1.0),
}  # fmt: skip


def test_the_figures_of_a_list_are_those_of_its_document(listed) -> None:
    kind, texts, rows = listed
    for line, row in zip(texts[BEYOND][4:], rows, strict=True):
        for field, (unit, pattern, factor) in PRINTED.items():
            if row.get(field) is None:
                continue
            found = [parse(text, unit, field) * factor for text in re.findall(pattern, line)]
            assert any(x == pytest.approx(row[field], rel=0.01, abs=0.006 * factor) for x in found), (field, line)
    assert kind not in ("models", "gpus", "prices") or set(PRINTED) & set(rows[0])


def test_a_list_s_prices_are_those_of_the_catalogue() -> None:
    from kvplan import catalog
    from kvplan.units import HOUR

    rows = printed(["list", "prices", "--json"]).json["prices"]
    listed = [(row["gpu"], row["provider"], row["term"], row["from"], row["usd_per_hour"]) for row in rows]
    known = [(p.gpu, p.provider, p.term, p.start, round(p.price * HOUR, 4)) for p in catalog.prices()]
    assert HOUR == 3600 and sorted(listed) == sorted(known)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_list_keeps_every_word_at_any_width(listed, width: int) -> None:
    _, texts, _ = listed
    assert max(len(line.rstrip()) for line in texts[width]) <= width
    whole, narrow = ("\n".join(texts[w]) for w in (BEYOND, width))
    assert cut(narrow, whole) == []
    shown = narrow.replace("\n", " ").split()
    assert set(whole.split()) - set(shown) <= {word for word in whole.split() if word not in shown and len(word) > 13}


def test_pinned_rows_of_a_list_are_as_they_were(listed, golden: Callable[[str, str], None]) -> None:
    kind, texts, rows = listed
    lines = [" ".join(line.split()) for line in texts[BEYOND]]
    kept = [lines[2], *(line for line in lines[4:] if line.split()[0] in LISTS[kind])]
    entries = [row for row in rows if next(iter(row.values())) in LISTS[kind]]
    golden(f"json/list-{kind}", "\n".join(kept) + "\n" + outline(entries))


@pytest.mark.parametrize("width", [20, 26, 31, 40])
def test_a_line_never_ends_between_a_number_and_its_unit(width: int) -> None:
    from kvplan.report.blocks import Page, Text
    from kvplan.report.formats import Report, Screen, render

    said = "prefill takes 59 % of 40.0 GiB in 2.1 s of 10 min at 3 models"
    text = render(Report(lambda: Page.of(Text(said)), dict), "text", Screen(width=width))
    assert text.replace("\n", " ") == said
    assert not [line for line in text.splitlines() if re.search(r"\d$", line) and not re.search(r"\b3$", line)]
