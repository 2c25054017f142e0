"""Build step: keep what the shipped data files say beside them, so that start-up parses none of them."""

import sys
from pathlib import Path
from shutil import rmtree

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))

from kvplan.catalog.shelves import KEPT, keep


class Parsed(build_py):
    """Copies modules and data into an empty folder, so that none of an older state stays, then adds the parsed data."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for kind in KEPT:
            keep(Path(self.build_lib, "kvplan", *(("models",) if kind == "models" else ("profiles", kind))), kind)


setup(cmdclass={"build_py": Parsed})
