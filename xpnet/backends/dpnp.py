"""dpnp, on Intel GPUs and, through an OpenCL driver, on CPUs. Like CuPy, it never becomes NumPy unasked."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from xpnet.backends.base import Array, Backend, State


class DpnpBackend(Backend):
    """dpnp, on a CPU or an Intel GPU."""

    name = "dpnp"
    library = "dpnp"
    kinds = ("cpu", "xpu")
    install = "pip install dpnp intel-opencl-rt"
    steps_at_once = 1
    """With many operations under way and another library's threads in the process, dpnp 0.20 can wait for
    ever: most likely for Python's lock, which it holds itself."""
    hints: ClassVar = {"cpu": "pip install intel-opencl-rt", "xpu": "install Intel's Level Zero driver"}

    def __init__(self, kind: str, index: int = 0, **options: Any) -> None:
        super().__init__(kind, index, **options)
        self.sycl_device = self._found()[self.device]

    @classmethod
    def imported(cls) -> ModuleType:
        """Import dpnp, after naming the OpenCL driver of the intel-opencl-rt wheel, if that is installed.

        The wheel's driver is not where drivers are looked for. A choice of the user's comes first.
        """
        driver = Path(sys.prefix) / "lib" / "libintelocl.so"
        if driver.exists():
            os.environ.setdefault("OCL_ICD_FILENAMES", str(driver))
        return super().imported()

    @classmethod
    def _found(cls) -> dict[str, Any]:
        """SYCL's devices by our names. OpenCL lists the GPUs of Level Zero again, so those are left out."""
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

    def supports(self, dtype: str) -> bool:
        """Some Intel GPUs have no float64."""
        return dtype != "float64" or bool(self.sycl_device.has_aspect_fp64)

    @classmethod
    def device_of(cls, array: Array) -> str:
        """From the array."""
        names = (name for name, device in cls._found().items() if device == array.sycl_device)
        return next(names, str(array.sycl_device.name))

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        return self.module.asarray(x, device=self.sycl_device, copy=True)

    @classmethod
    def exported(cls, array: Array) -> np.ndarray:
        """As NumPy's, because dpnp shares with nobody."""
        return np.asarray(cls.imported().asnumpy(array))

    def synchronize(self, state: State) -> None:
        """Wait for the queues of the arrays."""
        for array in state.values():
            array.sycl_queue.wait()
