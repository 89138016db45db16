"""dpnp, on Intel GPUs and, through an OpenCL driver, on CPUs. Like CuPy it never becomes NumPy unasked."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xpnet.backends.base import Array, Backend, State, Step


class DpnpBackend(Backend):
    """dpnp, on a CPU or an Intel GPU."""

    name = "dpnp"
    library = "dpnp"
    namespace = "dpnp"
    kinds = ("cpu", "xpu")
    install = "pip install 'xpnet[dpnp]'"

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self.sycl_device = self._found()[self.device]

    @classmethod
    def imported(cls) -> ModuleType:
        """Import dpnp, after showing it the OpenCL driver of the intel-opencl-rt wheel, if that is installed.

        The wheel's driver is not where drivers are looked for; a choice of the user's comes first.
        """
        driver = Path(sys.prefix) / "lib" / "libintelocl.so"
        if driver.exists():
            os.environ.setdefault("OCL_ICD_FILENAMES", str(driver))
        return super().imported()

    @classmethod
    def _found(cls) -> dict[str, Any]:
        """SYCL's devices by our names, Level Zero's GPUs only, because OpenCL lists the same ones again."""
        import dpctl

        cls.imported()
        cpus = dpctl.get_devices(device_type="cpu")
        gpus = dpctl.get_devices(backend="level_zero", device_type="gpu")
        found = {f"xpu:{i}": gpu for i, gpu in enumerate(gpus)}
        return {"cpu": cpus[0]} | found if cpus else found

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, if it has an OpenCL driver, and the Intel GPUs."""
        return list(cls._found())

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Both kinds need a driver."""
        if kind == "cpu":
            return "pip install intel-opencl-rt"
        return "install Intel's Level Zero driver, or use the cpu"

    def supports(self, dtype: str) -> bool:
        """Some Intel GPUs have no float64."""
        return dtype != "float64" or bool(self.sycl_device.has_aspect_fp64)

    def device_of(self, array: Array) -> str:
        """From the array."""
        names = (name for name, device in self._found().items() if device == array.sycl_device)
        return next(names, str(array.sycl_device.name))

    def asarray(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        return self.module.asarray(np.asarray(x, order="C"), device=self.sycl_device, copy=True)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host."""
        host: np.ndarray = self.module.asnumpy(array)
        return host

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """The plain loop, waiting after every step.

        With many operations under way and another library's threads in the process, dpnp 0.20 can wait for
        ever: most likely for Python's lock, which it holds itself.
        """
        for i in range(batches.shape[0]):
            state = step(state, batches[i, :], data)
            self.synchronize(state)
        return state

    def synchronize(self, state: State) -> None:
        """Wait for the queues of the arrays."""
        for array in state.values():
            array.sycl_queue.wait()
