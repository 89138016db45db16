"""The suite. Read before any library, so that what they take from the environment can be set here."""

import os

# Tests run side by side, one on each core, and so do the processes that they start: libraries that each took
# every core would wait for one another.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(variable, "1")

# A test that asks for more threads leaves them behind; by default those of OpenMP would wait by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# scikit-learn takes arrays of other libraries only if SciPy does, which reads this when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
