"""Water and salt in the root zone: every litre and every grain is accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims import root_zone
from firmware_sims.root_zone import SLAB, SOIL_BED, RootMedium, RootZone

media = st.sampled_from([SLAB, SOIL_BED])
steps = st.lists(
    st.tuples(
        st.floats(0, 0.6),  # irrigation, L/m²
        st.floats(0, 6),  # its EC
        st.floats(4, 8),  # its pH
        st.floats(0, 0.05),  # demand, L/m²
        st.floats(5, 35),
    ),
    min_size=1,
    max_size=60,
)


def _run(medium: RootMedium, zone: RootZone, row, dt_s: float = 60.0) -> RootZone:
    irrigation, ec, ph, demand, around_c = row
    return root_zone.step(
        medium,
        zone,
        dt_s,
        irrigation_l_m2=irrigation,
        irrigation_ec=ec,
        irrigation_ph=ph,
        demand_l_m2=demand,
        around_c=around_c,
    )


@given(media, steps)
def test_water_and_salt_balance_over_any_irrigation(medium: RootMedium, rows):
    start = zone = root_zone.filled(medium, 3.0, 6.0, 18.0)
    for row in rows:
        zone = _run(medium, zone, row)
        assert zone.water_l_m2 >= medium.wilting * medium.volume_l_m2 - 1e-9
        assert zone.salt >= 0 and zone.drain_ec >= 0
        assert zone.drained_l_m2 >= 0 and zone.taken_l_m2 >= 0
    water = zone.irrigated_l_m2 - zone.drained_l_m2 - zone.taken_l_m2
    assert zone.water_l_m2 - start.water_l_m2 == pytest.approx(water, abs=1e-9)
    salt = zone.salt_in - zone.salt_drained - zone.salt_taken
    assert zone.salt - start.salt == pytest.approx(salt, abs=1e-9)
    assert zone.irrigated_l_m2 == pytest.approx(sum(row[0] for row in rows))


def test_a_slab_drains_what_it_cannot_hold_and_no_less():
    zone = root_zone.filled(SLAB, 3.0, 5.8, 20.0)
    for _ in range(10):
        zone = _run(SLAB, zone, (0.5, 3.0, 5.8, 0.0, 20.0))
    for _ in range(240):
        zone = _run(SLAB, zone, (0.0, 3.0, 5.8, 0.0, 20.0))
    assert root_zone.water_content(SLAB, zone) == pytest.approx(SLAB.capacity, abs=0.001)
    assert zone.drained_l_m2 == pytest.approx(5.0 - 0.03 * SLAB.volume_l_m2, abs=0.02)


def test_a_crop_that_drinks_fresher_than_it_is_fed_leaves_salt_behind():
    zone = root_zone.filled(SLAB, 2.5, 5.8, 20.0)
    for _ in range(3 * 24 * 60):
        zone = _run(SLAB, zone, (0.0022, 2.8, 5.8, 0.0018, 20.0))  # a fifth drains
    assert zone.ec > 3.2
    assert zone.drain_ec > 2.8
    assert zone.ph > 5.8  # nitrate uptake


def test_without_water_the_crop_is_stressed_and_then_gets_nothing():
    zone = root_zone.filled(SLAB, 3.0, 5.8, 20.0)
    stress = [root_zone.water_stress(SLAB, zone)]
    for _ in range(5 * 24):
        zone = _run(SLAB, zone, (0.0, 0.0, 5.8, 0.1, 25.0), dt_s=3600.0)
        stress.append(root_zone.water_stress(SLAB, zone))
    assert stress[0] == 0.0 and stress[-1] == 1.0
    assert stress == sorted(stress)
    assert zone.taken_l_m2 < 5 * 24 * 0.1


def test_a_probe_sees_less_salt_in_drier_substrate_of_the_same_pore_water():
    wet = root_zone.filled(SLAB, 3.0, 5.8, 20.0)
    dry = RootZone(wet.water_l_m2 / 2, wet.salt / 2, 5.8, 20.0, 3.0, 5.8)
    assert dry.ec == pytest.approx(wet.ec)
    assert root_zone.bulk_ec(SLAB, dry) < 0.6 * root_zone.bulk_ec(SLAB, wet)
    assert root_zone.bulk_ec(SLAB, wet) < wet.ec


def test_hilhorst_turned_round_gives_the_pore_water_back():
    zone = root_zone.filled(SOIL_BED, 2.2, 7.0, 20.0)
    theta = root_zone.water_content(SOIL_BED, zone)
    permittivity = 3.03 + 9.3 * theta + 146 * theta**2 - 76.7 * theta**3
    again = 80.3 * root_zone.bulk_ec(SOIL_BED, zone) / (permittivity - 4.1)
    assert again == pytest.approx(2.2, rel=1e-6)


def test_a_slab_follows_the_air_within_hours():
    zone = root_zone.filled(SLAB, 3.0, 5.8, 15.0)
    for _ in range(4 * 60):
        zone = _run(SLAB, zone, (0.0, 3.0, 5.8, 0.0, 25.0))
    assert 20 < zone.temperature_c < 24
