"""RunTrainer: Lightning's Trainer with stricter types for some of its options."""

from datetime import timedelta
from typing import Any

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt
from lightning.pytorch import Trainer


class RunTrainer(Trainer):
    """Trainer whose options tell 1 batch from 1.0, all of them, and are not negative.

    Lightning annotates limits as ``Union[int, float]``. ``typing`` caches a union in the order in
    which any module has used it first, and a parser tries its types in that order: after an import
    of Optuna, a limit of 1 would become 1.0. The unions here are not cached.

    Args:
        limit_train_batches: Training batches per epoch: a number, or a share as a float.
        limit_val_batches: Batches per validation: a number, or a share as a float.
        limit_test_batches: Batches per test: a number, or a share as a float.
        limit_predict_batches: Batches per prediction: a number, or a share as a float.
        overfit_batches: Train and validate on only these batches: a number, or a share as a float.
        val_check_interval: Batches between two validations, a share of an epoch as a float, or a
            time as DD:HH:MM:SS. Null: once an epoch.
        check_val_every_n_epoch: Epochs between two validations. Null: count batches across epochs.
        log_every_n_steps: Steps between two rows of the log; 0 logs only epochs. Null: 50.
        accumulate_grad_batches: Batches per step of the optimizer.
        gradient_clip_val: Clip gradients at this norm or value.
        kwargs: Further arguments of Trainer.
    """

    def __init__(
        self,
        *,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: int | float | str | timedelta | dict[str, int] | None = None,
        check_val_every_n_epoch: PositiveInt | None = 1,
        log_every_n_steps: NonNegativeInt | None = None,
        accumulate_grad_batches: PositiveInt = 1,
        gradient_clip_val: NonNegativeFloat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            check_val_every_n_epoch=check_val_every_n_epoch,
            log_every_n_steps=log_every_n_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            **kwargs,
        )
