"""The runner: who is attacked, who leaves, what counts, and what is refused."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.attacks import FGSM, PGD, Attack, Genetic, Iterate, Noise, Square, attacks
from assay.attacks.base import Search
from assay.attacks.runner import run
from assay.core.classifier import Classifier
from assay.core.fast import Copies
from assay.core.random import Stream
from assay.core.threats import NormBall
from assay.errors import AssayError

N = 24


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 12, 12))


@pytest.fixture(scope="module")
def clf(x: Tensor) -> Classifier:
    """Untrained; its logits are centred on the images, so that its predictions vary."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 5)
    )
    clf = Classifier(model, mean=[0.5] * 3, std=[0.1] * 3)
    with torch.no_grad():
        model[4].bias -= clf.query(x).mean(0)
    return clf


@pytest.fixture(scope="module")
def y(clf: Classifier, x: Tensor) -> Tensor:
    """Right for all images but the first four."""
    labels = clf.predict(x)
    labels[:4] = (labels[:4] + 1) % 5
    return labels


class Shift(Attack):
    """Adds `by` to every pixel at every step, and believes to have won at step `claim`."""

    name: Literal["shift"] = "shift"
    """The method's name in configs."""
    by: float = 0.01
    """How far a step goes."""
    steps: int = 3
    """How many."""
    spent: int = 1
    """What it says a step costs."""

    @property
    def threat(self) -> NormBall:
        return NormBall(eps=0.02)

    def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Search:
        del y, rest
        for _step in range(self.steps):
            x = x + self.by
            keep = yield Iterate(x, model.query(x.clamp(0, 1)), spent=self.spent)
            x = x if keep is None else x[keep]


class Flips(nn.Module):
    """Says class 1 where the mean is above 0.5, else class 0."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1) * 10


class TestWhoIsAttacked:
    def test_images_that_are_wrong_already_are_left_alone(
        self, clf: Classifier, x: Tensor, y: Tensor
    ) -> None:
        result = PGD(steps=4)(clf, x, y)
        assert result.correct.tolist() == [False] * 4 + [True] * 20
        assert not result.success[:4].any()
        assert torch.equal(result.adversarial[:4], x[:4])
        assert result.queries[:4].tolist() == [1] * 4
        assert (result.success_rate.n, result.robust_accuracy.n) == (20, N)

    def test_unless_that_is_wanted(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        result = PGD(steps=4)(clf, x, y, attack_wrong=True)
        assert float(result.distance[:4].min()) > 0
        assert result.success_rate.n == 20

    def test_rates_count_what_they_say(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        result = PGD(eps=2 / 255, steps=4)(clf, x, y)
        fooled = int(result.success.sum())
        assert 0 < fooled < 20
        assert result.success_rate.value == pytest.approx(fooled / 20)
        assert result.robust_accuracy.value == pytest.approx((20 - fooled) / N)

    def test_without_labels_the_models_own_are_taken(self, clf: Classifier, x: Tensor) -> None:
        result = FGSM()(clf, x)
        assert torch.equal(result.labels, clf.predict(x))
        assert bool(result.correct.all())


class TestStopping:
    def test_fooled_stops_as_soon_as_the_original_is_fooled(
        self, clf: Classifier, x: Tensor, y: Tensor
    ) -> None:
        attack = PGD(eps=8 / 255, steps=12, random_start=False)
        fooled, never = (attack(clf, x, y, stop=stop) for stop in ("fooled", "never"))
        assert bool((fooled.success | ~never.success).all())
        assert never.steps[4:].tolist() == [12] * 20
        left = fooled.steps[fooled.success]
        assert int(left.max()) < 12
        # the candidate one step before had not fooled it: it left at the first chance
        for row in fooled.success.nonzero()[:, 0].tolist():
            steps = int(fooled.steps[row])
            path = self.path(attack, clf, x[row : row + 1], y[row : row + 1])
            said = [int(clf.predict(point)) for point in path]
            assert said[steps] != int(y[row])
            assert all(label == int(y[row]) for label in said[:steps])

    @staticmethod
    def path(attack: PGD, clf: Classifier, x: Tensor, y: Tensor) -> list[Tensor]:
        draws = Stream(0).rows([0])
        loss = attack.objective(False)
        with clf.borrowed():
            search = attack.search(
                clf, x, y, threat=attack.threat, loss=loss, targeted=False, rng=draws
            )
            return [iterate.adversarial.clone() for iterate in search]

    def test_restarts_meet_survivors_only(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        once = PGD(eps=2 / 255, steps=4)(clf, x, y, stop="fooled")
        thrice = PGD(eps=2 / 255, steps=4, restarts=3)(clf, x, y, stop="fooled")
        assert bool(once.success.any())
        assert torch.equal(once.queries[once.success], thrice.queries[once.success])
        assert torch.equal(once.adversarial[once.success], thrice.adversarial[once.success])
        standing = once.correct & ~thrice.success
        assert bool(standing.any())
        assert thrice.queries[standing].tolist() == [1 + 3 * 5] * int(standing.sum())

    def test_never_keeps_the_most_damaging_restart(
        self, clf: Classifier, x: Tensor, y: Tensor
    ) -> None:
        one, many = (PGD(eps=2 / 255, steps=2, restarts=r) for r in (1, 5))
        loss = one.objective(False)
        single, best = one(clf, x, y), many(clf, x, y)
        assert bool((best.success | ~single.success).all())
        same = single.correct & (single.success == best.success)
        rise = loss(clf.query(best.adversarial), y) - loss(clf.query(single.adversarial), y)
        assert float(rise[same].min()) >= -1e-6
        assert int((rise[same] > 1e-6).sum()) >= 10

    def test_a_budget_of_queries_is_kept(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        attack = PGD(eps=2 / 255, steps=10, restarts=2)
        for stop in ("fooled", "never"):
            for budget in (1, 2, 3, 7, 13):
                result = attack(clf, x, y, stop=stop, query_budget=budget)
                assert int(result.queries.max()) <= budget
                assert not (result.cut & result.success).any()
                assert bool(result.cut.any())
        assert not attack(clf, x, y, query_budget=1000).cut.any()

    def test_a_time_limit_ends_it(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        result = PGD(eps=1 / 255, steps=10_000)(clf, x, y, time_limit=0.3, batch_size=8)
        assert result.seconds < 5
        assert result.cut.sum() == (result.correct & ~result.success).sum()
        assert bool(result.cut.any())


class TestWhatIsRefused:
    def test_a_result_outside_the_threat_is_no_success(self) -> None:
        dim = torch.full((3, 1, 4, 4), 0.49)  # one step of 0.02 is enough to flip the answer
        clf = Classifier(Flips())
        honest = Shift(by=0.02, steps=1)(clf, dim, stop="fooled")
        assert honest.success.tolist() == [True] * 3
        for stop in ("fooled", "never"):
            cheat = Shift(by=0.0201, steps=1)(clf, dim, stop=stop)
            assert cheat.success.tolist() == [False] * 3
            assert torch.equal(cheat.adversarial, dim)
            assert cheat.refused >= 3
            assert cheat.to_dict()["refused"] == cheat.refused

    @pytest.mark.parametrize("stop", ["fooled", "never"])
    @pytest.mark.parametrize(
        ("x", "everywhere", "once", "is_inside"),
        [
            (0.49, 0.51 + 0.5e-6, 0.51, True),  # eps is 0.02, and the tolerance 1e-6
            (0.49, 0.51 + 2e-6, 0.51, False),
            (0.49, 0.509, 0.52, False),
            (0.999, 1.0 + 0.5e-6, 1.0, True),
            (0.999, 1.0 + 2e-6, 1.0, False),
            (0.001, 0.0, -2e-6, False),
            (0.49, 0.5, torch.nan, False),
            (0.49, torch.inf, 0.5, False),
        ],
    )
    def test_an_attack_that_cheats_is_refused_whatever_it_says(
        self, stop: Any, x: float, everywhere: float, once: float, is_inside: bool
    ) -> None:
        class Cheat(Shift):
            """Goes where it likes, and says that the model is sure to be fooled there."""

            def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Search:
                del model, y, rest
                moved = torch.full_like(x, everywhere)
                moved[:, 0, 0, 0] = once
                yield Iterate(moved, torch.tensor([[0.0, 9.0]]).expand(len(x), 2), spent=0)

        class Always(nn.Module):
            """Says class 1 of whatever is not the clean image."""

            def forward(self, seen: Tensor) -> Tensor:
                same = (seen - x).flatten(1).abs().amax(1) < 1e-7
                return torch.stack([same.float(), 1 - same.float()], 1) * 10

        clean = torch.full((3, 1, 4, 4), x)
        result = Cheat()(Classifier(Always()), clean, torch.zeros(3).long(), stop=stop)
        assert result.success.tolist() == [is_inside] * 3
        assert (result.refused == 0) == is_inside
        if not is_inside:
            assert torch.equal(result.adversarial, clean)
            assert result.adversarial_prediction.tolist() == [0] * 3
            assert result.queries.tolist() == [1] * 3, "it was not even queried"

    def test_an_attack_that_hides_what_it_spent_is_found_out(self) -> None:
        with pytest.raises(AssayError, match=r"says that a step cost 0 evaluations.*evaluated 3"):
            Shift(spent=0)(Classifier(Flips()), torch.full((3, 1, 4, 4), 0.4))

    def test_what_is_known_is_not_made_or_queried_again(
        self, clf: Classifier, x: Tensor, y: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from assay.core import fast

        alone = PGD(steps=3)(clf, x, y, stop="fooled")
        copies, clean = fast.Copies(clf, x), clf.predict(x)
        copies.of("float32")
        monkeypatch.setattr(fast, "fast_copy", None)
        before = clf.queries
        for limit in (None, 60.0):
            again = PGD(steps=3)(
                clf, x, y, stop="fooled", copies=copies, clean=clean, time_limit=limit
            )
            assert torch.equal(again.adversarial, alone.adversarial)
            assert torch.equal(again.queries, alone.queries), "the clean query counts all the same"
        confirmed = alone.evaluations["forward"] - len(x)
        assert clf.queries - before == 2 * confirmed + len(x), "asked anew for the time limit alone"
        liar = PGD(steps=3)(clf, x, y, copies=copies, clean=(y + 1) % 5)
        assert not liar.correct.any(), "what was handed down is what counts"

    def test_what_is_handed_down_is_of_this_model_and_these_images(
        self, clf: Classifier, x: Tensor, y: Tensor
    ) -> None:
        """A copy of another model would screen in its place, and its failures be called robust."""
        with pytest.raises(AssayError, match="copies= are those of another classifier"):
            PGD(steps=3)(clf, x, y, copies=Copies(Classifier(clf.model), x))
        with pytest.raises(AssayError, match=r"clean must be whole numbers of shape \(\d+,\)"):
            PGD(steps=3)(clf, x, y, clean=y[:3])

    def test_what_the_original_does_not_confirm_goes_on(
        self, clf: Classifier, x: Tensor, y: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fast copy that sees success everywhere changes nothing but the number of queries."""
        from assay.core import fast

        truth = PGD(steps=6)(clf, x, y, stop="fooled")
        build = fast.fast_copy

        def deluded(*args: Any) -> Any:
            copy, report = build(*args)

            class Eager:
                @property
                def queries(self) -> int:
                    return int(copy.queries)

                def logits(self, e: Any) -> Tensor:
                    values = copy.logits(e)
                    return values + 100 * torch.nn.functional.one_hot(values.argmin(1), 5)

            return Eager(), report

        monkeypatch.setattr(fast, "fast_copy", deluded)
        # margin between the two largest is untouched by the false winner in a targeted loss
        loss = PGD(steps=6, loss="margin")
        screened = loss(clf, x, y, stop="fooled")
        assert torch.equal(
            clf.predict(screened.adversarial) != y, screened.success | ~truth.correct
        )
        standing = screened.correct & ~screened.success
        assert (screened.queries[standing] == 1 + 2 * 6 + 1).all()

    def test_nan_is_a_failure_and_never_a_success(self) -> None:
        class Sometimes(nn.Module):
            """NaN for images that are nearly black at their first pixel."""

            def forward(self, x: Tensor) -> Tensor:
                mean = x.flatten(1).mean(1)
                out = torch.stack([mean - 0.2, 0.2 - mean], 1)
                return out.masked_fill((x[:, 0, 0, 0] < 0.1)[:, None], torch.nan)

        images = torch.full((6, 3, 4, 4), 0.5)
        clf = Classifier(Sometimes())
        clf.query(images)  # the first answers are checked; later ones may still be NaN
        images[1, 0, 0, 0] = 0.0  # NaN before the attack
        images[2, 0, 0, 0] = 0.12  # NaN once attacked
        for stop in ("fooled", "never"):
            result = FGSM(eps=8 / 255)(clf, images, torch.zeros(6, dtype=torch.long), stop=stop)
            assert result.clean_prediction.tolist() == [0, -1, 0, 0, 0, 0]
            assert result.correct.tolist() == [True, False, True, True, True, True]
            assert not result.success.any()
            assert result.adversarial_prediction[2] == -1
            assert result.adversarial_prediction[3] == 0

    @pytest.mark.parametrize("stop", ["fooled", "never"])
    def test_an_overflow_is_a_failure_and_never_a_success(self, stop: Any) -> None:
        x = torch.full((6, 1, 4, 4), 0.6)

        class Overflows(nn.Module):
            """Infinite for whatever is not the clean image, of class 1."""

            def forward(self, seen: Tensor) -> Tensor:
                same = (seen - 0.6).flatten(1).abs().amax(1) < 1e-6
                out = torch.tensor([0.0, 2.0]) + 0 * seen.sum()
                return out.expand(len(seen), 2).masked_fill(~same[:, None], torch.inf)

        for attack in (Noise(), PGD(), Square(queries=5), Genetic(steps=3)):
            result = attack(Classifier(Overflows()), x, torch.ones(6).long(), stop=stop)
            assert bool(result.correct.all())
            assert not bool(result.success.any())

    @pytest.mark.parametrize("name", ["square", "genetic"])
    def test_a_search_is_not_drawn_to_where_the_model_overflows(self, name: str) -> None:
        class Overflows(nn.Module):
            """Its other class is infinite where the first pixel has been raised."""

            def forward(self, x: Tensor) -> Tensor:
                mean = x.flatten(1).mean(1)
                other = mean.masked_fill(x[:, 0, 0, 0] > 0.5, torch.inf)
                return torch.stack([mean + 9, other], 1)

        x = torch.full((20, 1, 2, 2), 0.5)
        result = attacks()[name]()(Classifier(Overflows()), x)
        assert not bool(result.success.any())
        assert result.adversarial_prediction.tolist() == [0] * 20


class TestMistakes:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"eps": 8}, "eps = 8 is outside.*8/255"),
            ({"eps": -0.1}, "cannot be negative"),
            ({"norm": "l0"}, "'linf', 'l2' or 'l1'"),
            ({"step_size": 0}, "positive length"),
            ({"restarts": 2, "random_start": False}, "restarts need random_start"),
            ({"epss": 0.1}, "did you mean 'eps'"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(AssayError, match=message):
            PGD.parse(settings)

    def test_labels_that_do_not_fit(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        with pytest.raises(
            AssayError, match=r"labels go from 0 to 12, but the model has 5 outputs"
        ):
            FGSM()(clf, x, torch.arange(N) % 13)
        with pytest.raises(AssayError, match=r"shape \(24,\)"):
            FGSM()(clf, x, y[:3])
        with pytest.raises(AssayError, match="whole numbers"):
            FGSM()(clf, x, y.float())

    def test_targets_that_are_the_label(self, clf: Classifier, x: Tensor, y: Tensor) -> None:
        with pytest.raises(AssayError, match="target of image 0 is its own label"):
            FGSM()(clf, x, y, targets=y)
        with pytest.raises(AssayError, match="targets go from 9 to 9"):
            FGSM()(clf, x, y, targets=9)

    @pytest.mark.parametrize("one", [np.int64(3), torch.tensor(3), np.array(3)])
    def test_one_target_of_any_integer_type(self, clf: Classifier, x: Tensor, one: Any) -> None:
        few = x[clf.predict(x) != 3]
        found, same = (FGSM()(clf, few, targets=target) for target in (one, 3))
        assert torch.equal(found.adversarial, same.adversarial)

    def test_an_image_without_an_answer_has_no_label_to_be_a_target(self, x: Tensor) -> None:
        class Silent(Flips):
            def forward(self, x: Tensor) -> Tensor:
                silent = (x[:, 0, 0, 0] > 0.99)[:, None]
                return super().forward(x).masked_fill(silent, torch.nan)

        bright = (x * 0.4 + 0.55).clamp(0, 0.98)
        bright[2, 0, 0, 0] = 1.0
        result = FGSM(eps=0.3)(Classifier(Silent()), bright, targets=0)
        assert result.clean_prediction.tolist() == [1, 1, -1, *[1] * (N - 3)]
        assert int(result.success.sum()) == N - 1

    def test_images_that_need_a_gradient(self, clf: Classifier, x: Tensor) -> None:
        held = x.clone().requires_grad_()
        for attack in (FGSM(), Genetic(steps=2)):
            result = attack(clf, held)
            assert torch.equal(result.adversarial, attack(clf, x).adversarial)
            result.plot()

    def test_a_black_box_has_no_gradient(self, x: Tensor) -> None:
        class Labels:
            classes = ("a", "b")
            access = "labels"
            queries = 0

            def query(self, x: Tensor) -> Tensor:
                return torch.zeros(len(x), dtype=torch.long)

        with pytest.raises(AssayError, match=r"the gradient.*labels only: use hopskipjump, noise$"):
            FGSM()(Labels(), x)

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"query_budget": 0}, "query_budget is at least 1"),
            ({"query_budget": -3}, "not -3"),
            ({"time_limit": -0.1}, "time_limit is a number of seconds"),
            ({"time_limit": float("nan")}, "not nan"),
            ({"time_limit": float("inf")}, "not inf"),
            ({"batch_size": 0}, "batch_size is at least 1, or None, not 0"),
        ],
    )
    def test_limits(self, clf: Classifier, x: Tensor, limits: Any, message: str) -> None:
        with pytest.raises(AssayError, match=message):
            FGSM()(clf, x, **limits)

    @pytest.mark.parametrize("shape", [(1, 12, 12), (3, 2, 2)])
    def test_images_that_the_model_does_not_take(self, clf: Classifier, shape: Any) -> None:
        said = re.escape(f"the model fails on these images, {shape} each, 4 at a time: RuntimeErr")
        for attack in (PGD(), Noise()):
            with pytest.raises(AssayError, match=said):
                attack(Classifier(clf.model), torch.rand(4, *shape))

    def test_what_the_model_raises_in_the_search_is_told_with_its_cause(
        self, clf: Classifier, x: Tensor
    ) -> None:
        class Tires(nn.Module):
            left = 4

            def forward(self, seen: Tensor) -> Tensor:
                self.left -= 1
                if self.left < 0:
                    raise ZeroDivisionError("no\nmore")
                found: Tensor = clf.model(seen)
                return found

            def __deepcopy__(self, _: Any) -> None:
                raise TypeError("no copy")

        said = rf"fails on these images, .*, {len(x)} at a time .*: ZeroDivisionError: no more$"
        with pytest.raises(AssayError, match=said) as caught:
            PGD(steps=9, eps=1e-4)(Classifier(Tires()), x)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_a_mistake_in_an_attack_is_no_mistake_of_the_model(
        self, clf: Classifier, x: Tensor
    ) -> None:
        class Wrong(PGD):
            def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Any:
                yield from PGD(steps=1).search(model, x, y, **rest)
                raise ZeroDivisionError("ours")

        with pytest.raises(ZeroDivisionError, match="ours"):
            Wrong()(clf, x)

    @pytest.mark.parametrize(
        ("norm", "far"), [("linf", 1.0), ("l2", 192**0.5), ("l1", 192.0), ("l0", 64)]
    )
    def test_a_radius_that_is_no_limit(self, norm: Any, far: float) -> None:
        x = torch.rand(2, 3, 8, 8)
        clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
        Noise(norm=norm, eps=far)(clf, x)
        words = {"linf": "outside", "l0": "65 pixels may be changed"}.get(norm, "is no limit")
        with pytest.raises(AssayError, match=words):
            Noise.parse({"norm": norm, "eps": far + 1})(clf, x)

    @pytest.mark.parametrize("name", [n for n, a in attacks().items() if a.needs == "gradient"])
    def test_outputs_without_a_gradient(self, clf: Classifier, x: Tensor, name: str) -> None:
        class Apart(nn.Module):
            def forward(self, seen: Tensor) -> Tensor:
                with torch.no_grad():
                    found: Tensor = clf.model(seen)
                return found

        with pytest.raises(AssayError, match="no gradient with respect to its images"):
            attacks()[name]()(Classifier(Apart()), x)

    def test_a_seed_that_is_no_whole_number(self, clf: Classifier, x: Tensor) -> None:
        with pytest.raises(AssayError, match=r"a seed is a whole number, not 1\.5"):
            PGD()(clf, x, seed=1.5)

    @pytest.mark.parametrize("name", ["one-pixel", "few-pixel", "noise"])
    def test_more_pixels_than_there_are(self, clf: Classifier, x: Tensor, name: str) -> None:
        norm = {"norm": "l0", "eps": 144}
        kind = attacks()[name]
        small = {"population": 4} if name == "one-pixel" else {}
        kind.parse({**norm, **small, "steps": 1} if name != "noise" else norm)(clf, x[:2])
        with pytest.raises(AssayError, match=r"eps = 145 pixels .* these images have 144 each"):
            kind.parse({**norm, "eps": 145})(clf, x[:2])

    def test_no_time_is_no_attack(self, clf: Classifier, x: Tensor) -> None:
        result = FGSM()(clf, x, time_limit=0.0)
        assert bool(result.cut.all())
        assert result.queries.tolist() == [1] * N

    def test_nothing_to_attack(self, clf: Classifier) -> None:
        with pytest.raises(AssayError, match="no images"):
            FGSM()(clf, torch.zeros(0, 3, 4, 4))
        with pytest.raises(AssayError, match="'fooled' or 'never'"):
            FGSM()(clf, torch.zeros(1, 3, 12, 12), stop="always")


def test_an_attack_on_labels_alone_runs_too() -> None:
    """The runner asks of an oracle what the attack needs, and no more."""

    class Blind(Shift):
        needs = "labels"

    class LabelsOnly:
        access = "labels"
        classes = ("dark", "bright")

        def __init__(self) -> None:
            self.queries = 0

        def query(self, x: Tensor) -> Tensor:
            self.queries += len(x)
            return (x.flatten(1).mean(1) > 0.5).long()

    oracle = LabelsOnly()
    x = torch.tensor([0.485, 0.495, 0.3]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    result = run(Blind(by=0.01, steps=2), oracle, x, stop="fooled")
    assert result.success.tolist() == [True, True, False]
    assert result.steps.tolist() == [1, 0, 1]
    assert int(result.queries.sum()) == oracle.queries
    assert result.fast is None


def test_the_starts_do_not_depend_on_the_batch(clf: Classifier, x: Tensor) -> None:
    """With a step of no consequence the results are the starts, and they are equal bit by bit."""
    attack = PGD(steps=1, step_size=1e-30, norm="linf")
    small, large = (attack(clf, x, seed=5, batch_size=size) for size in (7, 64))
    assert torch.equal(small.adversarial, large.adversarial)
    other = attack(clf, x, seed=6)
    assert not torch.equal(small.adversarial, other.adversarial)
    assert not torch.allclose(small.adversarial[0] - x[0], small.adversarial[1] - x[1])


def test_bfloat16_screens_and_float32_decides(clf: Classifier, x: Tensor, y: Tensor) -> None:
    for stop in ("fooled", "never"):
        result = PGD(eps=4 / 255, steps=6)(clf, x, y, stop=stop, precision="bfloat16")
        assert result.fast is not None
        assert result.fast.precision == "bfloat16"
        assert bool(result.success.any())
        assert torch.equal(clf.predict(result.adversarial) != y, result.success | ~result.correct)


class Viewing(nn.Module):
    """Flattens by `view`, which channels_last tensors do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(400, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(len(x), -1))


@pytest.mark.parametrize("stop", ["fooled", "never"])
def test_a_model_that_cannot_work_in_channels_last_is_attacked_as_it_is(
    x: Tensor, stop: Any
) -> None:
    torch.manual_seed(0)
    result = PGD(steps=3)(Classifier(Viewing()), x, stop=stop)
    assert result.fast is not None
    assert not result.fast.used
    assert "view" in result.fast.why
    assert bool(result.success.any())


@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    eps=st.floats(0, 1),
    steps=st.integers(1, 4),
    scale=st.floats(0.01, 3),
    stop=st.sampled_from(["fooled", "never"]),
    seed=st.integers(0, 2**31),
    loss=st.sampled_from(["cross_entropy", "margin"]),
)
def test_whatever_the_settings_the_books_balance(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    norm: str,
    eps: float,
    steps: int,
    scale: float,
    stop: Any,
    seed: int,
    loss: Any,
) -> None:
    size = min(max(scale * eps, 1e-3), 1.0)
    attack = PGD(norm=norm, eps=eps, steps=steps, step_size=size, loss=loss)
    result = attack(clf, x[:8], y[:8], seed=seed, stop=stop)
    assert bool(attack.threat.contains(x[:8], result.adversarial).all())
    assert result.refused == 0
    wrong = clf.predict(result.adversarial) != y[:8]
    assert torch.equal(result.success, wrong & result.correct)
    assert (
        int(result.queries.sum()) == sum(result.evaluations.values()) - result.evaluations["check"]
    )
    assert int(result.steps.max()) <= steps
