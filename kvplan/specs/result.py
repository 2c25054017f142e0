"""What every result of a question can do: be a document, a table of pandas, a fragment of a page in a notebook."""

from typing import Any, ClassVar


class Result:
    """A result that shows itself; a class of results names its question, as in `class Estimate(Result, of="estimate")`.

    Results stand in early rooms, what words them in late ones, and imports go one way. So a result hands itself to the
    front door (`kvplan._shown`), which finds the report of its question, in the words of its command.
    """

    #: name of `kvplan` that returns this result
    answers: ClassVar[str] = ""

    def __init_subclass__(cls, of: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.answers = of or cls.answers
        cls.__repr__ = Result.__repr__  # type: ignore[method-assign]  # dataclass keeps what the class itself has

    def __repr__(self) -> str:
        """Return the class and the first words of the report, on one line; the class alone where it has none."""
        try:
            return f"<{type(self).__name__}: {_shown(self, 'line')}>"
        except Exception:  # a debugger or a failed test asks too, and of results that were put together by hand
            return f"<{type(self).__name__}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the document that the command prints with `json`: schema 1, base units, unknown figures None.

        That of a recommendation lacks `question`, which is the command line's own.

        >>> found = kvplan.estimate("llama3.1-8b", "8k", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> [(row["technique"], row["kv_bytes_per_token"]) for row in found.to_dict()["rows"]]
        [('baseline', 131072.0), ('fp8', 65536.0)]
        """
        document: dict[str, Any] = _shown(self, "document")
        return document

    def to_pandas(self) -> Any:
        """Return the main rows of the document as a pandas DataFrame, names of nested figures joined with dots.

        They are the rows that format csv writes, without lists; those of a recommendation are its plans, the
        recommended one first (`recommended` is true), with what tells plans apart. Raises KvplanError where pandas is
        not installed.

        >>> found = kvplan.estimate("llama3.1-8b", "8k", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> found.to_pandas()[["technique", "kv_bytes_per_token", "reduction"]].values.tolist()
        [['baseline', 131072.0, 0.0], ['fp8', 65536.0, 0.5]]
        """
        return _shown(self, "frame")

    def _repr_html_(self) -> str:
        """Return the report as a fragment of a page, as notebooks show it."""
        fragment: str = _shown(self, "fragment")
        return fragment


def _shown(result: Result, form: str) -> Any:
    import kvplan

    return kvplan._shown(result, form)
