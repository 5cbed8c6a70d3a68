"""The parts of the page."""

from stages.reporting.curves import loss_curve


def test_the_same_losses_give_the_same_curve() -> None:
    history = [
        {"step": step, "epoch": step / 2, "learning_rate": 0.1, "loss": 2.0 / step, "mask": 1.0}
        for step in range(1, 4)
    ]
    curve = loss_curve("training", history)
    assert curve == loss_curve("training", history)
    assert curve.startswith("<svg") and "mask" in curve
