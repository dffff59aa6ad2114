"""How large an image must be for a metric to be defined on it: known of each metric before anything is computed."""

from dataclasses import dataclass

from spasemsr.errors import UserError


@dataclass(frozen=True)
class Smallest:
    """The image must hold so many whole squares of `side` pixels, counted from its upper left corner."""

    side: int = 1
    squares: int = 1

    def require(self, what: str, height: int, width: int) -> None:
        """Raise UserError for an image, `what`, that is smaller."""
        if (height // self.side) * (width // self.side) < self.squares:
            squares = "a square" if self.squares == 1 else f"{self.squares} squares"
            raise UserError(
                f"{what} of {width}x{height} is too small: it must hold {squares} of {self.side} px.",
                "Score larger images, or leave the metric out.",
            )


ANY = Smallest()
