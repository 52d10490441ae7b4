"""Data sets: what they are, where they come from, and files read with suspicion. NumPy only."""

from vgx.data.dataset import Dataset, Split
from vgx.data.sources import DATASETS, Source

__all__ = ["DATASETS", "Dataset", "Source", "Split"]
