"""Rows and labels: the embedded MNIST, the readers of a user's own files, and the order of the rows.

Everything here is NumPy, on the host.
"""

from xpnet.data.dataset import Dataset, load_data, load_test
from xpnet.data.form import Form

__all__ = ["Dataset", "Form", "load_data", "load_test"]
