"""A small report with everything in it: two photographs, three methods, hostile text, a metric that is undefined."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import skimage
from PIL import Image

from spasemsr.data.patches import make_key
from spasemsr.evaluation.intervals import summarize
from spasemsr.evaluation.maps import MapScores
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.pareto import SweepPoint
from spasemsr.evaluation.scores import ScoreTable, score_image
from spasemsr.report.data import Example, MapPicture, MethodRow, ReportData

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> & \"quoted\""
SIDE = 192


def photograph(name: str, y: int = 0, x: int = 0, side: int = SIDE) -> np.ndarray:
    image = np.array(Image.open(PHOTOGRAPHS / name).convert("RGB"))
    return np.ascontiguousarray(image[y : y + side, x : x + side])


def pictures(hr: np.ndarray) -> dict[str, np.ndarray]:
    """The five pictures of one image, by plain filters."""
    size = hr.shape[1::-1]
    lr = cv2.resize(hr, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    bicubic = cv2.resize(lr, size, interpolation=cv2.INTER_CUBIC)
    smooth = cv2.bilateralFilter(bicubic, 5, 30, 5)
    sharp = cv2.addWeighted(smooth, 1.5, cv2.GaussianBlur(smooth, (0, 0), 2), -0.5, 0)
    return {"lr": lr, "spasemsr": sharp, "bicubic": bicubic, "restored": smooth, "hr": hr}


def sample_report(folder: Path) -> ReportData:
    """Write pictures under `folder`/images and return the report of them."""
    metrics = build_metrics(["psnr", "ssim", "niqe"])
    rows, examples = [], []
    for name, (y, x) in (("astronaut.png", (0, 128)), ("astronaut.png", (192, 128)), ("coffee.png", (100, 100))):
        hr = photograph(name, y, x)
        key = make_key(hashlib.sha256(name.encode()).hexdigest(), y, x)
        made = pictures(hr)
        if name == "coffee.png":
            made["bicubic"] = np.full_like(hr, 90)  # NIQE has no value on it
        made["spread"] = cv2.convertScaleAbs(cv2.absdiff(made["spasemsr"], hr), alpha=4)
        paths = {what: folder / "images" / f"{key}.{what}.png" for what in made}
        for what, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made[what]).save(path)
        methods = ("spasemsr", "bicubic", "restored")
        rows += [score_image("val", key, method, made[method], hr, metrics) for method in methods]
        rows.append(score_image("val", key, "hr", hr, hr, metrics[2:]))
        found = {"tags": ["sky", HOSTILE], "boxes": [[0.1, 0.2, 0.6, 0.9], [0, 0, 1, 0.5]], "scores": [0.9, 0.5]}
        nothing = {"tags": [], "boxes": [], "scores": []}
        examples.append(
            Example(
                split="val",
                key=key,
                name=name.split(".")[0],
                lr=paths["lr"],
                outputs={method: paths[method] for method in methods},
                hr=paths["hr"],
                caption=HOSTILE,
                objects={**(found if name == "astronaut.png" else nothing), "source": "restored"},
                degradation={"preset": "seesr", "blur": {"sigma": 1.25}},
                maps={"spasemsr.deviation": MapPicture(paths["spread"], "Spread, SpaSemSR", "mean 1.50 grey levels")},
            )
        )
    tables = [ScoreTable("val", ("psnr", "ssim", "niqe"), ("spasemsr", "bicubic", "restored", "hr"), tuple(rows))]
    losses = [{"step": str(5 * i), "noise": f"{1 / i:.6e}", "lr": "1e-3"} for i in range(1, 41)]
    dials = enumerate(((27.1, 9.4), (26.8, 8.1), (26.2, 7.0), (25.1, 7.3)))
    sweep = [SweepPoint("spasemsr", "dial", f"{i / 3:.2g}", {"psnr": x, "niqe": y}, 3) for i, (x, y) in dials]
    sweep += [SweepPoint("spasemsr", "consistency", str(i), {"psnr": 26 + i, "niqe": 8.0 + i}, 3) for i in (0, 1)]
    return ReportData(
        title="A report",
        tables=tables,
        metrics=metrics,
        summary=summarize(tables, metrics, seed=1),
        methods=[
            MethodRow("spasemsr", "SpaSemSR", False),
            MethodRow("bicubic", "Bicubic"),
            MethodRow("restored", "DRM"),
        ],
        examples=examples,
        losses={"spasemsr": losses},
        validation={"spasemsr": [{"step": 10, "total": 0.5}, {"step": 20, "total": 0.25}]},
        facts={"lambda": "0.5"},
        provenance={"params": {"seed": 7, "methods": ["spasemsr"]}},
        ingest={"rejects": {"too_small": 2}},
        sweep=sweep,
        maps={"spasemsr": [MapScores(example.key, 1.5, 2.25, 0.5) for example in examples]},
    )
