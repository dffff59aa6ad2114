"""Which results show another picture than their hr, told by thumbnails."""

import numpy as np

from spasemsr.evaluation.lookalike import strangers


def test_of_more_results_than_are_compared_at_once_each_is_held_to_its_own_hr():
    drawn = np.random.default_rng(0).normal(size=(701, 256)).astype(np.float32)
    drawn -= drawn.mean(axis=1, keepdims=True)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    hr = {f"{number:04d}": thumbnail for number, thumbnail in enumerate(drawn[:700])}
    exchanged = {"0001": hr["0650"], "0650": hr["0001"], "0651": drawn[700]}
    assert strangers(hr, hr) == {}
    assert strangers({**hr, **exchanged}, hr) == {"0001": "0650", "0650": "0001", "0651": ""}
