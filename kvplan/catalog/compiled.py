"""Where compiled code is kept between runs."""

import os
from pathlib import Path

#: the variable by which a user tells numba where to keep its code
NUMBA = "NUMBA_CACHE_DIR"


def compiled_folder(digest: str) -> str:
    """Return the user's folder for code compiled from sources with this digest, '' where numba was told another."""
    if NUMBA in os.environ:
        return ""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return str(Path(base) / "kvplan" / "compiled" / digest)
