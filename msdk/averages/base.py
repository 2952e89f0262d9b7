"""What an average of weights is: how much of it each update keeps, known without looking back, so that runs resume."""

import abc


class Average(abc.ABC):
    """An average e of weights w: e <- d e + (1 - d) w after every step. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def decay(self, update: int, batch: int) -> float:
        """The decay d of an update, in [0, 1].

        Args:
            update: Its number, 1 after the first step.
            batch: Images of a step.
        """
