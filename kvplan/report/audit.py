"""An audit as tables: claim, verdict, arithmetic in one line, source."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from kvplan.planning.audit import FAILS, HOLDS, OPEN, SOMETIMES, Verdict, beyond
from kvplan.report.tables import brief, grid, notes
from kvplan.specs.claims import Claims
from kvplan.specs.source import Source

STYLES = {HOLDS: "green", SOMETIMES: "yellow", FAILS: "red", OPEN: "dim"}
#: how a verdict is counted: one claim, several
COUNTED = {
    HOLDS: ("holds", "hold"),
    SOMETIMES: ("holds under a condition", "hold under a condition"),
    FAILS: ("does not hold", "do not hold"),
    OPEN: ("cannot be checked", "cannot be checked"),
}
LEGEND = (
    "Every verdict is computed by kvplan from the sources below. Those who claim figures round them: an answer within "
    "2 percentage points, 10 % of an amount, 5 % of a ratio of latencies or 0.5 points of a score agrees, unless "
    "the file says otherwise. Times and costs carry a range; where only the range agrees, a claim holds within our "
    "error. holds if: for these cases, not for all. docs/audit.md says what each check computes."
)


def report(claims: Claims, verdicts: Sequence[Verdict]) -> list[RenderableType]:
    """Return the report of `kvplan audit`."""
    order = {ref: n for n, ref in enumerate(dict.fromkeys(brief(s) for v in verdicts for s in cited(v)), 1)}
    parts: list[RenderableType] = [
        Text(counted(verdicts), style="bold"),
        Text(f"{claims.title}: {claims.source.ref}"),
        Text(LEGEND, style="dim"),
        Text(),
    ]
    for about in dict.fromkeys(v.claim.about for v in verdicts):
        table = grid(("claim", "wrap"), ("verdict", "wrap"), ("arithmetic", "wrap"), ("source", "left"), title=about)
        table.columns[0].ratio, table.columns[1].ratio, table.columns[2].ratio = 25, 26, 40
        table.expand = True
        table.leading, table.padding = 1, (0, 2, 0, 0)
        for v in (v for v in verdicts if v.claim.about == about):
            numbers = sorted({order[brief(s)] for s in cited(v)})
            refs = "\n".join([f"[{n}]" for n in numbers[:MOST]] + ["..."] * (len(numbers) > MOST))
            table.add_row(Text(v.claim.claim), Text(v.said, style=STYLES[v.verdict]), Text(v.arithmetic), Text(refs))
        parts += [table, Text()]
    short = (f"{text}: beyond that it stands for its shape" for text in beyond(v.claim for v in verdicts).values())
    parts += notes(short, "Models checked beyond their own context")
    return [*parts, *notes((f"[{n}] {ref}" for ref, n in order.items()), "Sources")]


#: sources that a row lists; --json has all
MOST = 3


def cited(v: Verdict) -> tuple[Source, ...]:
    return v.sources or (v.claim.source,)


def counted(verdicts: Sequence[Verdict]) -> str:
    """Return how many claims hold, and how many do not."""
    said = []
    for word, (one, several) in COUNTED.items():
        number = sum(v.verdict == word for v in verdicts)
        if number:
            said.append(f"{number} {one if number == 1 else several}")
    whole = f"{len(verdicts)} claim{'s' * (len(verdicts) != 1)}"
    return f"{whole}: {', '.join(said)}"
