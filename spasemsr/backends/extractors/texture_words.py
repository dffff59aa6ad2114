"""What classes of texture are called: "smooth surface", "strong upright texture", "perhaps marked texture"."""

STRENGTHS = ("faint", "marked", "strong")  # of the levels above the lowest, which is smooth
DIRECTIONS = ("upright", "rising", "level", "falling")  # which way edges run
SMOOTH = "smooth surface"
DOUBT = "perhaps "  # before what is guessed, where a network has learned how often guesses are right
_DIRECTED_NAMES = [f"{strength} {way} texture" for strength in STRENGTHS for way in DIRECTIONS]
SURE = frozenset([SMOOTH, *(f"{strength} texture" for strength in STRENGTHS), *_DIRECTED_NAMES])
TEXTURES = SURE | {DOUBT + name for name in SURE}  # every name


def sure(name: str) -> str:
    """The name of an area without a "perhaps"."""
    return name.removeprefix(DOUBT)


def opposite(name: str) -> str:
    """The words furthest from those of an area: smooth for what is marked or strong, strong and across for the rest.

    They are sure, as a person's are, also where the area's own are a guess.
    """
    strength, _, rest = sure(name).partition(" ")
    if strength in STRENGTHS[1:]:
        return SMOOTH
    direction = rest.partition(" ")[0]
    if direction not in DIRECTIONS:
        return f"{STRENGTHS[-1]} texture"
    across = DIRECTIONS[(DIRECTIONS.index(direction) + 2) % len(DIRECTIONS)]
    return f"{STRENGTHS[-1]} {across} texture"
