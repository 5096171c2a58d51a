"""Offset field of black ink from the grid, fitted to a page's marks: a Gaussian process with a wave of unknown length."""

import math

import numpy as np

from ecgjax.geometry import paper
from ecgjax.ink import printers
from ecgjax.ink.printers import Printer

# Before a page is seen: rms of shift and of either lean, of the wave and of the ripples, px; along y it is ACROSS of that; how far a ripple
# reaches along x and y, px
SHIFT_RMS_PX, LEAN_RMS_PX, WAVE_RMS_PX, RIPPLE_RMS_PX = 0.35, 0.2, 0.25, 0.12
REACH_PX = (220.0, 500.0)
ACROSS = 0.5
RMS_PX = math.sqrt(SHIFT_RMS_PX**2 + 2 / 3 * LEAN_RMS_PX**2 + WAVE_RMS_PX**2 + RIPPLE_RMS_PX**2)  # of all that, over the page
WAVES_PX = 1 / np.linspace(1 / 1250, 1 / 350, 28)  # lengths that are tried
EXACT = (0.5, 0.05)  # how probable a page without any error is before it is seen: of all pages, and of those with the competition's marks
FREEDOM, ROUNDS = 4.0, 3  # of Student's t, in which a mark errs


def _terms(at_px: np.ndarray) -> np.ndarray:
  """Returns (3, N): shift and leans of one rms at points (N, 2) of the page, px along x."""
  across, down = (2 * at_px / (paper.WIDTH_PX, paper.HEIGHT_PX) - 1).T
  return np.stack([np.full(len(at_px), SHIFT_RMS_PX), LEAN_RMS_PX * across, LEAN_RMS_PX * down])


def _likeness(a_px: np.ndarray, b_px: np.ndarray) -> np.ndarray:
  """Returns (W, N, M) the prior covariance of the field at points (N, 2) and (M, 2), px^2 along x, for each length of the wave."""
  apart = a_px[:, None] - b_px
  ripples = RIPPLE_RMS_PX**2 * np.exp(-0.5 * ((apart / REACH_PX) ** 2).sum(-1))
  waves = WAVE_RMS_PX**2 * np.cos(2 * math.pi * apart[..., 0] / WAVES_PX[:, None, None])
  return _terms(a_px).T @ _terms(b_px) + ripples + waves


def fit(
  at_px: np.ndarray, off: np.ndarray, std_px: np.ndarray, *, wanted_px: np.ndarray, printer: Printer | None = None
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
  """Fits the offset field of black to marks: a Gaussian process with a wave of unknown length, about the printer's mean if known.

  A mark may be an outlier (a trace crosses it, a letter is another), so errors are Student's t. Few marks do not determine the length of
  the wave, so all lengths are averaged by their evidence, together with a zero field, as on digital originals.

  Args:
    at_px: (N, 2) page x, y of the marks.
    off: (N, 2) offset of each to the right and downwards, px.
    std_px: (N, 2) its standard deviation.
    wanted_px: (M, 2) page x, y of the output points.
    printer: mean field of the printer and spread of its prints, if known.

  Returns:
    (M, 2) offset of black to the right and downwards, px, and (M, 2) its standard deviation; without any mark 0 and the prior standard
    deviation.
  """
  covariance, cross = _likeness(at_px, at_px), _likeness(wanted_px, at_px)
  before = (_terms(wanted_px) ** 2).sum(0) + WAVE_RMS_PX**2 + RIPPLE_RMS_PX**2
  covariance, cross = (np.concatenate([a, np.zeros_like(a[:1])]) for a in (covariance, cross))  # the last: no error
  possible, exact = np.append(np.ones(len(WAVES_PX)), 0.0)[:, None], EXACT[len(at_px) > 0]
  own, usual = (np.zeros((len(px), 2)) if printer is None else printers.at(printer, px) for px in (at_px, wanted_px))
  spread = np.array([1.0, ACROSS]) if printer is None else np.minimum(printer.rms_px / RMS_PX, [1.0, ACROSS])
  cost, means, squares = np.append(np.zeros(len(WAVES_PX)), -np.log(exact / (1 - exact) * len(WAVES_PX))), [], []
  for axis in (0, 1):
    values, std, along = off[:, axis] - possible * own[:, axis], std_px[:, axis], spread[axis]
    trust = np.ones(values.shape)
    for _ in range(ROUNDS):
      spreads = along**2 * covariance + np.eye(len(std)) * (std**2 / trust)[:, None]
      weights = np.linalg.solve(spreads, values[..., None])[..., 0]
      misfit = ((values - along**2 * (covariance @ weights[..., None])[..., 0]) / std) ** 2
      trust = (FREEDOM + 1) / (FREEDOM + misfit)
    inverse = np.linalg.inv(spreads)
    cost += 0.5 * (weights * values).sum(-1) - 0.5 * np.linalg.slogdet(inverse)[1]
    mean = along**2 * (cross @ weights[..., None])[..., 0] + possible * usual[:, axis]
    means.append(mean)
    squares.append(mean**2 + along**2 * possible * before - along**4 * ((cross @ inverse) * cross).sum(-1))
  evidence = np.exp(cost.min() - cost)
  mean, square = (np.einsum('w,awm->ma', evidence / evidence.sum(), np.stack(a)) for a in (means, squares))
  return mean, np.sqrt(np.maximum(square - mean**2, 0.0))
