"""The program of every measured process: ``child.py MODULE.FUNCTION TASK`` calls a function in this folder.

The task is JSON, and so is the answer, on the last line of the output.
"""

import importlib
import json
import sys
from pathlib import Path

import trainer  # this checkout's protocol, whoever's `ours.py` comes next

import xpnet

sys.path.insert(0, str(Path(xpnet.__file__).parents[1] / "bench"))
import ours  # noqa: F401  the adapter that belongs to the xpnet that is measured

sys.path.pop(0)


def kernels() -> list[str]:
    """The kernels that each BLAS of this process has picked: ["openblas SkylakeX, 2 threads"]."""
    import threadpoolctl

    about = "{internal_api} {architecture}, {num_threads} threads"
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    found = [about.format(**{"architecture": "of its own"} | pool) for pool in pools]
    if torch := sys.modules.get("torch"):  # its BLAS is built in, where threadpoolctl does not see it
        found.append(f"torch {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    return found


if __name__ == "__main__":
    module, _, function = sys.argv[1].partition(".")
    try:
        answer = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    except trainer.LeftOut as reason:
        answer = {"left_out": str(reason)}
    print(json.dumps(answer | {"kernels": kernels()}))
