"""`kvplan export` as text to run or to apply, and as fields."""

from collections.abc import Iterator
from shlex import join

from kvplan.catalog.plans.manifests import manifest_text, plain
from kvplan.planning.exporting import Exported
from kvplan.report.blocks import Code, Json, Page, notes, schema, sentence
from kvplan.report.launch import folded

#: ends an options file in a script
END = "EOF"


def text(e: Exported) -> str:
    """Return the manifests, or a script: options files, the command of each node, and what comes next as a comment."""
    return manifest_text(e.documents) if e.documents else "\n".join(script(e)) + "\n"


def script(e: Exported) -> Iterator[str]:
    """Yield the lines of a script."""
    for name, document in e.files.items():
        yield f"cat > {name} <<'{END}'"
        yield manifest_text([document]) + END
    for n, argv in enumerate(e.commands):
        if len(e.commands) > 1:
            yield f"# on node {n}"
        yield from folded(argv)
    for argv in e.then:
        yield f"# then: {join(argv)}"


def said(e: Exported) -> list[str]:
    """Return what the target cannot be told, and what the reader should know, in sentences."""
    return [sentence(line) for line in (*e.missing, *e.notes)]


def page(e: Exported) -> Page:
    """Return the report: what is run or applied, and what is said of it."""
    heading = f"{e.target} {e.release}".strip()
    lines = tuple(text(e).removesuffix("\n").split("\n"))
    code = Code(heading, lines, language="yaml" if e.documents else "sh")
    return Page.of(code, notes("What to know", said(e)))


def document(e: Exported) -> Json:
    """Return the same as fields; `complete` says whether the target was told all of the plan."""
    return schema(
        "export",
        target=e.target,
        release=e.release or None,
        form=e.form,
        commands=[list(argv) for argv in e.commands],
        documents=[plain(d) for d in e.documents],
        files={name: dict(d) for name, d in e.files.items()},
        then=[list(argv) for argv in e.then],
        missing=list(e.missing),
        notes=list(e.notes),
        complete=not e.missing,
    )
