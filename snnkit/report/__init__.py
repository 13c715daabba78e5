"""Reports as self-contained HTML pages."""

from .energy import energy_page
from .search import tune_page

__all__ = ["energy_page", "tune_page"]
