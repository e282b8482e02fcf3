"""Finished search trials of one study, as the protocol meets them."""

from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.space import Point
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.protocol.proposal import TrialRecord

TARGET = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)


def record(
    number: int, outcome: Outcome, steps: int, curve: list[tuple[int, float]], point: Point | None = None
) -> TrialRecord:
    return TrialRecord(
        trial_id=f"b0000008-search-{number:04d}",
        batch_size=8,
        stage=Stage.SEARCH,
        number=number,
        round=0,
        repeats=None,
        seed=1,
        outcome=outcome,
        message=None,
        max_steps=1000,
        steps=steps,
        examples=8 * steps,
        steps_to_target=steps if outcome is Outcome.REACHED else None,
        steps_to_target_low=curve[-2][0] if outcome is Outcome.REACHED and len(curve) > 1 else None,
        best_value=None,
        train_seconds=0.0,
        evaluate_seconds=0.0,
        started_at=0.0,
        ended_at=0.0,
        point={"lr": 0.1} if point is None else point,
        curve=curve,
    )


def drawn(number: int, point: Point, steps: int | None, curve: list[tuple[int, float]]) -> TrialRecord:
    """One that reached after so many steps, or has a curve and did not, or diverged."""
    outcome = Outcome.REACHED if steps else Outcome.EXHAUSTED if curve else Outcome.DIVERGED
    return record(number, outcome, steps or 100, curve, point)
