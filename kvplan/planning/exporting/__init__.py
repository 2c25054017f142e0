"""What a plan is handed over as: one file a form of a server in `servers/`, one a tool that measures in `clients/`.

A form's file has `export(served) -> Exported`, a tool's `export(measured) -> Exported`; each is called like its file.
"""

from importlib import import_module
from pkgutil import iter_modules

from kvplan.errors import UnknownName
from kvplan.planning.exporting.values import Exported as Exported
from kvplan.planning.exporting.values import LoadPlan as LoadPlan
from kvplan.planning.exporting.values import ServerPlan as ServerPlan

#: how a server is started where nobody says
COMMAND = "command"


def forms() -> list[str]:
    """Return the forms in which a server can be exported."""
    return called("servers")


def tools() -> list[str]:
    """Return the tools for which a load can be exported."""
    return called("clients")


def called(folder: str) -> list[str]:
    """Return the names of the files of a folder."""
    return sorted(m.name for m in iter_modules(import_module(f"{__name__}.{folder}").__path__))


def server(form: str, served: ServerPlan) -> Exported:
    """Return a server in a form; raise UnknownName, and KvplanError for a form that cannot hold it."""
    if form not in forms():
        raise UnknownName("form", form, forms())
    exported: Exported = import_module(f"{__name__}.servers.{form}").export(served)
    return exported


def client(tool: str, measured: LoadPlan) -> Exported:
    """Return the command of a tool that measures what a plan promises; raise UnknownName."""
    if tool not in tools():
        raise UnknownName("tool", tool, tools())
    exported: Exported = import_module(f"{__name__}.clients.{tool}").export(measured)
    return exported
