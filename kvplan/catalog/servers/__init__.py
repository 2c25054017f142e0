"""Engines, how their servers are started, and what was measured of servers."""
