"""
The backtest as one HTML file that needs nothing else.

Question: what happened, what did it cost, and how do the policies compare? Enters: results of `compare`. Leaves: HTML.
May import: sim, domain, units. The page is `page.html`; it draws with the browser's own SVG and loads nothing.
"""

from tidegate.sim.report.page import html

__all__ = ["html"]
