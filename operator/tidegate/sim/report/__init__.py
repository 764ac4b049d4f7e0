"""
The backtest report: one self-contained HTML file.

Question: what happened, what did it cost, and how do the policies compare?
Enters:   results of `compare`.
Leaves:   HTML. The template is `page.html`; it draws with SVG and loads nothing.
May import: sim, domain, units, `report.currency`.
"""

from tidegate.sim.report.page import html

__all__ = ["html"]
