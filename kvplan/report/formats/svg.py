"""One SVG picture of all charts of an answer, for slides; drawn by vl-convert from the specifications of the page."""

from textwrap import wrap
from typing import Any

from kvplan.errors import KvplanError
from kvplan.report.blocks import Bars, Chart, Json
from kvplan.report.formats import Report, Screen
from kvplan.report.vega import CONFIG, SCHEMA, drawn, safe, short

#: width of the picture [px]
WIDTH = 720
#: letters of a line of a title
LINE = 100
NEEDS = "format svg needs vl-convert: pip install 'kvplan[svg]'"
NO_CHART = "this answer has no charts: ask for format html, md or csv"


def render(report: Report, screen: Screen) -> str:
    """Return the charts below each other; raise KvplanError where there is none, or nothing to draw with."""
    specs = [titled(block) for block in report.page().blocks if isinstance(block, Chart | Bars)]
    if not specs:
        raise KvplanError(NO_CHART)
    try:
        import vl_convert
    except ImportError:
        raise KvplanError(NEEDS) from None
    picture: Any = {"$schema": SCHEMA, "config": {**CONFIG, "background": "white"}, "vconcat": specs, "spacing": 30}
    # else they would share the legend of the first, which may have none
    picture["resolve"] = {"scale": {"color": "independent", "shape": "independent"}}
    for share in ("autosize", "padding"):
        picture["config"].pop(share, None)
    return str(vl_convert.vegalite_to_svg(safe(picture), allowed_base_urls=[])).rstrip("\n")


def titled(block: Chart | Bars) -> Json:
    """Return a chart as a part of the picture: with its title, and of a fixed width."""
    spec = {name: value for name, value in drawn(block).items() if name not in ("$schema", "config", "description")}
    return {**spec, "title": {"text": wrap(short(block.title, 4 * LINE), LINE), "anchor": "start"}, "width": WIDTH}
