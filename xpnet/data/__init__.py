"""Rows and labels: the embedded MNIST, a user's own files, and the order in which rows are seen.

Everything here is NumPy, on the host.
"""

from xpnet.data.dataset import Dataset, load_data

__all__ = ["Dataset", "load_data"]
