"""The same network on two libraries, compared number by number.

``formats`` what a reduced precision rounds to
``gates``   how far apart two libraries may be, and how that is measured
``trials``  what each library is made to compute
``run``     all of it, for one library, against NumPy in float64
"""

from xpnet.parity.gates import GATES, Row
from xpnet.parity.run import Reference, Report, compare

__all__ = ["GATES", "Reference", "Report", "Row", "compare"]
