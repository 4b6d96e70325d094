"""Where the kernels' text lies: inside the package in a wheel, beside it in a checkout."""

from pathlib import Path

from gpuann.errors import BackendError, message

_PLACES = (Path(__file__).parents[1] / "kernels", Path(__file__).parents[2] / "kernels")


def kernel_dir() -> Path:
    """The folder of the kernels."""
    for place in _PLACES:
        if (place / "README.md").is_file():
            return place
    looked = " and ".join(str(place) for place in _PLACES)
    raise BackendError(
        message("gpuann", "kernels/", "be installed", f"none in {looked}", "install gpuann again")
    )
