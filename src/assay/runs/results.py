"""What a plan has come to so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assay.errors import AssayError
from assay.runs.entry import Failure, Result
from assay.runs.trial import Trial


class Results(Mapping[Trial | str, Result]):
    """Finished trials by trial or by address, in the order of the plan; knows what failed.

    Attributes:
        trials: every trial that was planned, by address, finished or not.
        failures: why trials have no result, by address.
    """

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.failures: dict[str, Failure] = {}
        self._results: dict[str, Result] = {}

    def __getitem__(self, trial: Trial | str) -> Result:
        """Return a trial's result; `KeyError` where it failed, or was not run (see `need`)."""
        return self._results[address_of(trial)]

    def __contains__(self, trial: object) -> bool:
        return isinstance(trial, Trial | str) and address_of(trial) in self._results

    def __iter__(self) -> Iterator[str]:
        return (address for address in self.trials if address in self._results)

    def __len__(self) -> int:
        return len(self._results)

    def failure(self, trial: Trial | str) -> Failure | None:
        """Return why a trial failed, or None."""
        return self.failures.get(address_of(trial))

    def need(self, trial: Trial) -> Result:
        """Return a trial's result, for a caller that cannot do without it.

        Raises:
            AssayError: it failed, or was never run; says why.
        """
        result = self.get(trial)
        if result is not None:
            return result
        failure = self.failure(trial)
        why = failure.message if failure else "it has not been run"
        raise AssayError(f"trial {trial.label or trial.short} has no result: {why}")

    def keep(self, result: Result) -> None:
        """Add a finished trial."""
        self._results[result.address] = result


def address_of(trial: Trial | str) -> str:
    """Return the address of a trial, or the address itself."""
    return trial.address if isinstance(trial, Trial) else trial
