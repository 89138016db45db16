"""The page that shows what a run learned: one HTML file that needs neither a network nor a server."""

from xpnet.page.report import report

__all__ = ["report"]
