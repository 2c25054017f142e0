"""What this machine has, asked without measuring anything: NVIDIA GPUs, their driver, and installed packages."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

#: what to install where NVML's binding is missing
BINDING = "pip install 'kvplan[profile]'"


@dataclass(frozen=True)
class Present:
    """The GPUs that NVML sees, or why it sees none."""

    names: tuple[str, ...] = ()  #: as the driver calls them
    driver: str = ""  #: its release
    reason: str = ""  #: why there is none, '' where there is


def installed(package: str) -> str | None:
    """Return the release of an installed package, None where it is missing. Nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def required(package: str) -> list[str]:
    """Return what an installed package requires, a line each as its metadata has them; [] where it is missing."""
    try:
        return requires(package) or []
    except PackageNotFoundError:
        return []


def gpus(library: Any = None) -> Present:
    """Return the GPUs of this machine; `library` stands for pynvml in tests."""
    if library is None:
        try:
            import pynvml as library  # type: ignore[import-untyped,import-not-found,unused-ignore,no-redef]
        except ImportError:
            return Present(reason=f"without NVML no GPU can be seen; {BINDING}")
    if not hasattr(library, "_nvmlGetFunctionPointer"):
        return Present(reason="another package than nvidia-ml-py answers to pynvml; remove it")
    try:
        library.nvmlInit()
        handles = [library.nvmlDeviceGetHandleByIndex(n) for n in range(library.nvmlDeviceGetCount())]
        names = tuple(text(library.nvmlDeviceGetName(handle)) for handle in handles)
        driver = text(library.nvmlSystemGetDriverVersion())
    except library.NVMLError as error:
        return Present(reason=f"NVML says {str(error) or type(error).__name__!r}")
    except (AttributeError, OSError, ValueError) as error:  # a library that does not fit its driver
        return Present(reason=f"NVML cannot be used ({type(error).__name__})")
    return Present(names, driver, "" if names else "the driver sees no GPU")


def text(answer: str | bytes) -> str:
    """Return what NVML says as text; old bindings answer in bytes."""
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
