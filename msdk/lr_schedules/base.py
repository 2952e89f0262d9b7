"""What a schedule of the learning rate is: a factor for each step, known without looking back, so that runs resume."""

import abc


class LRSchedule(abc.ABC):
    """A factor on `training.lr`, beside that of `training.warmup`. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def factor(self, iteration: int, iterations: int) -> float:
        """The factor of a step.

        Args:
            iteration: Steps done before this one, from 0.
            iterations: Steps of the whole training.
        """
