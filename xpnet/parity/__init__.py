"""Parity: compares a library with NumPy in float64, number by number.

``formats``  how a reduced precision rounds the factors of a matrix product
``gates``    the errors that are allowed, and how an error is measured
``trials``   the computations that every library does
``run``      runs all trials on one library and compares the results with the reference
"""

from xpnet.parity.gates import GATES, Row
from xpnet.parity.run import Reference, Report, compare

__all__ = ["GATES", "Reference", "Report", "Row", "compare"]
