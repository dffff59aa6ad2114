"""Damaged files through every reader, for longer than a test may take: python benchmarks/fuzz.py --rounds 20

A round is 2,000 mutants of small files of every format, through ingest's decoder, score's reader, and for `upscale`
reading and writing again in all four formats. Whatever is not a result or a reason is printed with the seed and number
that make it again, and the exit status is 1.
"""

import argparse
import logging
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from spasemsr.errors import RejectedSample, UserError
from spasemsr.images import stored, writing
from spasemsr.images.flat import decode
from spasemsr.images.picture import parse_picture
from spasemsr.images.stored import read_scored
from tests.worlds.odd_pictures import mutants

COUNT, LIMIT = 2000, 100_000


def written_again(data: bytes) -> None:
    picture = parse_picture(data, LIMIT)
    for form in writing.SUFFIXES:
        writing.trial(picture, form)


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seed", type=int, default=1, help="of the first round")
    chosen = asked.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    stored.MAX_PIXELS = LIMIT
    outcomes: Counter[str] = Counter()
    defects, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(chosen.seed, chosen.seed + chosen.rounds):
            for number, (suffix, data) in enumerate(mutants(COUNT, seed)):
                path = Path(folder) / f"mutant{suffix}"
                path.write_bytes(data)
                readers = {"ingest": lambda d: decode(d, LIMIT), "score": lambda _, p=path: read_scored(p)}
                for name, read in {**readers, "upscale": written_again}.items():
                    try:
                        read(data)
                        outcomes[f"{name}: read"] += 1
                    except RejectedSample as rejected:
                        outcomes[f"{name}: {rejected.reason}"] += 1
                    except UserError:
                        outcomes[f"{name}: refused by name"] += 1
                    except Exception:
                        defects += 1
                        print(f"{name}, seed {seed}, mutant {number} ({suffix}):\n{traceback.format_exc()}")
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>8}  {outcome}")
    print(f"{COUNT * chosen.rounds} mutants, {defects} tracebacks, {time.monotonic() - start:.0f} s")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
