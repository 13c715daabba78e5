"""Calibration: the constants behind synthetic measurements are found again, and doubt is stated."""

import numpy as np
import pytest

from snnkit.energy import Measurement, calibrate, load_profile, measure, place, price
from snnkit.errors import DataError, ParameterError
from tests.helpers.energy_networks import chain

TRUE = {"synop_dense": 12.0, "soma_access": 30.0, "soma_update": 40.0}


@pytest.fixture(scope="module")
def networks():
    """Eight networks that differ in what they do most, placed on a chip."""
    chip = load_profile("loihi1_sanafe").chip
    settings = [
        {"rate": 0.02, "sizes": (20, 64, 5)},
        {"rate": 0.5, "sizes": (60, 16)},
        {"rate": 0.2, "sizes": (20, 16, 5)},
        {"rate": 0.4, "sizes": (40, 40, 40)},
        {"rate": 0.0, "sizes": (5, 128)},
        {"rate": 0.1, "sizes": (120, 30)},
        {"rate": 0.3, "sizes": (10, 90, 10)},
        {"rate": 0.01, "sizes": (30, 30, 30, 30)},
    ]
    found = []
    for i, s in enumerate(settings):
        graph, batch = chain(seed=i, **s)
        found.append(measure(graph, batch, mapping=place(graph, chip, "neurons_only")))
    return found


def rows(networks, noise=0.0, seed=0):
    board = load_profile("loihi1_sanafe").with_constants(**TRUE)
    rng = np.random.default_rng(seed)
    return [
        Measurement(
            counts, price(counts, board).total_pj * float(np.exp(noise * rng.normal())), name=f"net {i}"
        )
        for i, counts in enumerate(networks)
    ]


def test_the_constants_of_the_board_are_found(networks):
    fit = calibrate(rows(networks), "loihi1_sanafe", constants=list(TRUE), noise=0.01, prior=2.0)
    for name, value in TRUE.items():
        assert fit.profile.constants[name].value == pytest.approx(value, rel=0.02)
        assert fit.profile.constants[name].at("low") < value < fit.profile.constants[name].at("high")
        assert fit.informed[name] > 0.99
    assert np.abs(fit.error).max() < 0.005
    assert np.abs(fit.left_out).max() < 0.05


def test_one_wild_row_does_little_harm(networks):
    given = rows(networks, 0.01)
    given[3] = Measurement(given[3].counts, given[3].energy_pj * 5, name="a probe fell off")
    fit = calibrate(given, constants=list(TRUE), noise=0.02, prior=2.0)
    for name, value in TRUE.items():
        assert fit.profile.constants[name].value == pytest.approx(value, rel=0.2)
    assert np.argmax(np.abs(fit.error)) == 3
    assert fit.error[3] == pytest.approx(1 / 5 - 1, abs=0.1)


def test_what_the_rows_cannot_tell_stays_at_its_start_and_says_so(networks):
    fit = calibrate(rows(networks[:5], 0.02), noise=0.05)
    assert "hop_ew" not in fit.factors
    factor, low, high = fit.factors["message_out"]
    assert low < factor < high
    assert fit.informed["synop_dense"] > fit.informed["soma_spike"]
    assert high / low > 2, "messages are a small part of the energy; the rows can't tell their price"


def test_times_are_fitted_too(networks):
    board = load_profile("loihi1_sanafe").with_constants(barrier_1=5000.0)
    given = []
    for counts in networks:
        p = price(counts, board)
        given.append(Measurement(counts, p.total_pj, float(p.latency_us.mean())))
    fit = calibrate(given, constants=["barrier_1", "synop_dense"], noise=0.01, prior=3.0)
    assert fit.profile.constants["barrier_1"].value == pytest.approx(5000, rel=0.02)
    assert fit.profile.constants["synop_dense"].value == pytest.approx(35.5, rel=0.02)


def test_the_fitted_profile_is_a_profile_file(networks, tmp_path):
    fit = calibrate(rows(networks), constants=list(TRUE), name="my-board")
    fit.save(tmp_path / "board.toml")
    again = load_profile(tmp_path / "board.toml")
    assert again == fit.profile
    assert again.constants["synop_dense"].quality == "fitted"
    assert "8 measurements" in again.constants["synop_dense"].source
    assert price(networks[0], again).total_pj == pytest.approx(rows(networks)[0].energy_pj, rel=0.02)


def test_what_calibration_refuses(networks):
    given = rows(networks)
    with pytest.raises(DataError, match="at least 5 measured rows, got 4"):
        calibrate(given[:4])
    with pytest.raises(DataError, match=r"row 2 \(bad\): -1.0 is no positive"):
        calibrate([*given[:2], Measurement(given[2].counts, -1.0, name="bad"), *given[3:]])
    with pytest.raises(ParameterError, match="has no constant 'synop'"):
        calibrate(given, constants=["synop"])
    with pytest.raises(ParameterError, match="none of the constants hop_ew"):
        calibrate(given, constants=["hop_ew"])
    with pytest.raises(ParameterError, match="gives no latency"):
        calibrate([Measurement(m.counts, m.energy_pj, 1.0) for m in given], "cmos45")
