"""Claims on axes: what is measured in one unit shares one."""

from __future__ import annotations

import math

from test_study_page import claim

from assay.report.forest import forests
from assay.report.record import EstimateModel


def test_units_have_axes_of_their_own_and_share_them():
    claims = [claim("points", 0.2, 0.1, 0.02), claim("fraction", 0.3, 0.05, 0.05),
              claim("points", -0.1, 0.05, 0.02)]  # fmt: skip
    points, shares = forests(claims)
    assert (points.unit, shares.unit) == ("points", "fraction")
    assert [row.claim for row in points.rows] == [claims[0], claims[2]]
    first, second = points.rows
    assert second.low < second.value < second.high < points.none < first.margins[0] < first.low
    assert first.margins == second.margins
    assert shares.none is None, "nothing is special about a share of 0"
    share = shares.rows[0]
    assert math.isclose(share.value, 100 * 0.3 / (1.1 * 0.35), abs_tol=0.01)
    assert "+20" in [tick.text for tick in points.ticks]
    assert shares.ticks[0].text == "0 %"


def test_factors_lie_on_a_logarithmic_axis_the_smaller_to_the_left():
    shrinks, grows = claim("factor", 2.0, 0.1, 0.2), claim("factor", -0.4, 0.1, 0.2)
    (plot,) = forests([shrinks, grows])
    one, other = plot.rows
    assert one.low < one.value < one.high < one.margins[0] < plot.none < other.low
    assert {"×0.2", "×1"} <= {tick.text for tick in plot.ticks}
    (plot,) = forests([claim("decades", 7.0, 0.3, 1.0)])
    assert plot.rows[0].high < plot.rows[0].margins[0] < plot.none
    assert "10⁻⁴" in [tick.text for tick in plot.ticks]


def test_an_interval_without_an_end_reaches_the_edge_and_is_not_round_there():
    one = claim("points", 0.2, 0.1, 0.02)
    nowhere = EstimateModel(value=0.1, low=None, high=None, n=1, of="seeds")
    (plot,) = forests([one, one.model_copy(update={"estimate": nowhere})])
    row = plot.rows[1]
    assert (row.open_low, row.open_high) == (True, True)
    assert row.low <= plot.none
    assert row.high == 100


def test_equivalence_has_two_margins_and_nothing_measured_has_no_dot():
    (plot,) = forests([claim("points", 0.0, 0.01, 0.02, asks="equivalent")])
    assert len(plot.rows[0].margins) == 2
    nothing = claim("points", 0.0, 0.01, 0.02).model_copy(update={"estimate": None})
    (plot,) = forests([nothing])
    assert plot.rows[0].value is None
    (plot,) = forests([nothing.model_copy(update={"delta": None})])
    assert plot.ticks == ()
