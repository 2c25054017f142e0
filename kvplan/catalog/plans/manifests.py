"""Manifests and options files as YAML text; an options file inside a manifest stands there as a block of text."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kvplan.planning.exporting.values import Inline


class _Manifest(yaml.SafeDumper):
    """Dumps without anchors, lists indented under their key."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: what stands twice is written twice."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists as people do."""
        super().increase_indent(flow, False)


def _inline(dumper: _Manifest, data: Inline) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", manifest_text([data.document]), style="|")


_Manifest.add_representer(Inline, _inline)


def manifest_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return documents as YAML, a line of dashes between them."""
    return "---\n".join(
        yaml.dump(dict(d), Dumper=_Manifest, sort_keys=False, allow_unicode=True, width=1000) for d in documents
    )


def plain(value: Any) -> Any:
    """Return a manifest as JSON has it: options files inside it as text."""
    if isinstance(value, Inline):
        return manifest_text([value.document])
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
