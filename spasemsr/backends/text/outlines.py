"""Where text is: from a map of probabilities to rectangles, one for each line of text, at any angle.

Differentiable binarization (Liao et al. 2020) teaches a network the cores of lines, shrunk by their area over their
perimeter. What is over a threshold and hangs together is such a core; its smallest rectangle is grown again.
"""

import cv2
import numpy as np
import numpy.typing as npt

THRESHOLD, SURE = 0.3, 0.5  # of a pixel, and of the mean over a line
UNCLIP = 1.6  # a core grows by this times area over perimeter
THINNEST = 3.0  # pixels of the core's shorter side; a line is two thicker
MOST = 64  # lines of a picture, the largest ones

Corners = npt.NDArray[np.float32]  # (4, 2) x y: top left, top right, bottom right, bottom left of a line as it is read


def outlines(chances: npt.NDArray[np.float32]) -> list[Corners]:
    """(H, W) probabilities -> corners in pixels of each line, from the top down and from left to right."""
    cores = cv2.dilate((chances > THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(cores, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(contours, key=lambda contour: (-cv2.contourArea(contour), contour.reshape(-1).tolist()))
    lines: list[Corners] = []
    for contour in largest:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        if len(lines) == MOST or min(width, height) < THINNEST or _mean(chances, contour) < SURE:
            continue
        grown = 2 * UNCLIP * width * height / (2 * (width + height))
        if min(width, height) + grown < THINNEST + 2:
            continue
        lines.append(_in_order(cv2.boxPoints((centre, (width + grown, height + grown), angle))))
    return sorted(lines, key=lambda corners: (corners[:, 1].min(), corners[:, 0].min()))


def _mean(chances: npt.NDArray[np.float32], contour: npt.NDArray[np.int32]) -> float:
    """Mean probability within a contour."""
    x, y, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [contour - (x, y)], 1)
    return float(chances[y : y + height, x : x + width][inside > 0].mean())


def _in_order(points: npt.NDArray[np.float32]) -> Corners:
    """The corners of a rectangle, from the top left one on, clockwise."""
    by_x = points[np.argsort(points[:, 0], kind="stable")]
    left, right = (side[np.argsort(side[:, 1], kind="stable")] for side in (by_x[:2], by_x[2:]))
    return np.stack([left[0], right[0], right[1], left[1]]).astype(np.float32)
