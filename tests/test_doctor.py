"""`kvplan doctor`: what is missing is named with what to type; GPUs by a stand-in for the driver's library."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from kvplan.api import doctor as api
from kvplan.cli import group
from kvplan.measuring.device import present
from kvplan.report.doctor import page


class NVMLError(Exception):
    pass


def library(*names: str, fails: Exception | None = None) -> SimpleNamespace:
    def init() -> None:
        if fails:
            raise fails

    return SimpleNamespace(
        NVMLError=NVMLError, _nvmlGetFunctionPointer=None, nvmlInit=init, nvmlDeviceGetCount=lambda: len(names),
        nvmlDeviceGetHandleByIndex=lambda n: names[n], nvmlDeviceGetName=lambda name: name.encode(),
        nvmlSystemGetDriverVersion=lambda: "595.12",
    )  # fmt: skip


def test_gpus_are_named_counted_and_known() -> None:
    seen = present.gpus(library("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "NVIDIA Nonesuch"))
    assert seen == present.Present(("NVIDIA H100 80GB HBM3",) * 2 + ("NVIDIA Nonesuch",), "595.12")
    driver, known, unknown = api.devices(seen)
    assert driver.state == "595.12"
    assert known.name == "2x NVIDIA H100 80GB HBM3" and known.well and "known as h100-sxm" in known.state
    assert unknown.name == "1x NVIDIA Nonesuch" and not unknown.well and "kvplan profile" in unknown.advice


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (library(), "the driver sees no GPU"),
        (library(fails=NVMLError("Driver Not Loaded")), "NVML says 'Driver Not Loaded'"),
        (library(fails=OSError("no")), "NVML cannot be used (OSError)"),
        (SimpleNamespace(), "another package than nvidia-ml-py answers to pynvml; remove it"),
    ],
)
def test_why_there_is_no_gpu(found: object, reason: str) -> None:
    assert present.gpus(found).reason == reason
    (one,) = api.devices(present.gpus(found))
    assert one.state == f"none: {reason}"


def test_what_is_not_installed_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "installed", lambda name: None if name in ("triton", "gpuhunt") else "99.0")
    found = {f.name: f for f in api.extras()}
    assert found["profile"].advice.endswith("pip install 'kvplan[profile]'") and not found["profile"].well
    assert found["profile"].state.startswith("triton not installed; ") and "nvidia-ml-py" in found["profile"].state
    assert found["prices"].state == "not installed" and found["svg"].well and found["svg"].advice == ""


def test_a_package_that_another_extra_brought_does_not_hide_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "installed", lambda name: {"pyarrow": "26.0.1", "transformers": "4.57.1"}.get(name))
    found = {f.name: f for f in api.extras()}
    assert found["ray"].state == "ray not installed; pyarrow 26.0.1" and not found["ray"].well
    assert found["ray"].advice == "to run kvplan sweep on a Ray cluster: pip install 'kvplan[ray]'"
    assert found["sweep"].state == "pyarrow 26.0.1" and found["sweep"].well and not found["sweep"].advice
    assert found["hf"].state == "torch, safetensors not installed; transformers 4.57.1 is older than 5.20"


def test_a_release_older_than_the_extra_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "installed", lambda name: "2.9.1" if name == "ray" else "17.0.0")
    (ray,) = (f for f in api.extras() if f.name == "ray")
    assert ray.state == "ray 2.9.1 is older than 2.60; pyarrow 17.0.0" and "kvplan[ray]" in ray.advice
    assert [api.older(a, b) for a, b in (("2.60", "2.60.0"), ("2.60.0", "2.60"), ("2.13.0+cpu", "2.6"), ("5", ""))] == [
        False, False, False, False,
    ]  # fmt: skip


def test_what_is_found_is_what_is_installed() -> None:
    """Every line of this very machine against the metadata of its packages."""
    from importlib.metadata import PackageNotFoundError, version

    for f in api.extras():
        for name in api.EXTRAS[f.name][0]:
            try:
                assert f"{name} {version(name)}" in f.state
            except PackageNotFoundError:
                assert "not installed" in f.state and f"kvplan[{f.name}]" in f.advice


def test_every_extra_is_one_of_the_projects_own() -> None:
    import tomllib
    from pathlib import Path

    shipped = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text("utf-8"))["project"]
    extras = shipped["optional-dependencies"]
    assert set(api.EXTRAS) == set(extras) - {"dev", "docs"}  # those two are for who works on kvplan
    for extra, (packages, _) in api.EXTRAS.items():
        lines = [*extras[extra], *(extras["hf"] if "kvplan[hf]" in extras[extra] else [])]
        assert [p for p in packages if not any(line.startswith(p) for line in lines)] == []


def test_old_prices_are_counted_on_the_day() -> None:
    (early,) = (f for f in api.data("2026-11-24") if f.name == "prices")
    (late,) = (f for f in api.data("2028-01-01") if f.name == "prices")
    assert not late.well and late.advice
    count = int(late.state.split()[0])
    assert f"; {count} are older" in late.state and f"; {count} are older" not in early.state


@pytest.mark.parametrize(
    ("lacking", "answer"),
    [
        ((), "Ready to plan. Nothing is missing."),
        (("extras",), "Ready to plan. 1 optional extra is not installed."),
        (("extras",) * 3, "Ready to plan. 3 optional extras are not installed."),
        (("data", "extras", "extras"), "Ready to plan. 2 optional extras are not installed. 1 other thing could be "),
    ],
)
def test_a_healthy_machine_is_called_so(lacking: tuple[str, ...], answer: str) -> None:
    well = api.Finding(topic="kvplan", name="kvplan", state="1.0", well=True)
    found = (well, *(api.Finding(topic=topic, name="x", state="none", well=False) for topic in lacking))
    assert page(api.Doctor(findings=found, day="2026-11-24")).blocks[0].text.startswith(answer)


def test_shelves_are_counted_in_words() -> None:
    (shelves,) = (f for f in api.data("2026-11-24") if f.name == "shelves")
    assert "profiles of a GPU's measured kernels, 1 profile of measured servers" in shelves.state


def test_the_command_answers_anywhere() -> None:
    done = CliRunner().invoke(group, ["doctor", "--on", "2026-11-24"])
    assert done.exit_code == 0 and "kvplan" in done.stdout and "What you can do" in done.stdout
