"""What converting a model to a technique adds to a plan: training or healing, spread over the months it serves."""

from typing import Any

import numpy as np

from kvplan.kv import spelling
from kvplan.money.conversion import conversion
from kvplan.planning.demand import Demand
from kvplan.planning.searching.grid import SearchGrid
from kvplan.planning.searching.offloading import kept_by
from kvplan.planning.site import Site
from kvplan.specs.line import Line

Array = Any


def conversion_of(demand: Demand, technique: str, site: Site) -> Line | None:
    """Return what converting the model takes as a line of a bill, None where nothing is to be converted or no price."""
    tokens = spelling.heals(technique)
    if site.cost is None or not tokens:
        return None
    return conversion(demand.model.active_parameters, tokens, site.gpu.rate(16), site.cost)


def besides(demand: Demand, technique: str, gpus: float, site: Site) -> tuple[Line, ...]:
    """Return what a plan pays beside its GPUs: a conversion, and memory that keeps prefixes. [USD/s]"""
    lines = (conversion_of(demand, technique, site), kept_by(technique, gpus, site))
    return tuple(line for line in lines if line is not None)


def converting(demand: Demand, grid: SearchGrid, site: Site) -> Array:
    """Return what the conversion of each configuration's model adds to a query, as a column. [USD]"""
    techniques = [shape.technique for shape in grid.configurations]
    lines = {technique: conversion_of(demand, technique, site) for technique in set(techniques)}
    usd = {technique: line.amount / demand.mean if line else 0.0 for technique, line in lines.items()}
    return np.array([usd[technique] for technique in techniques])[:, None]
