"""Page finder: any picture to a lattice, with its confidence and the layout it shows.

The grid's spectrum gives its pitch and direction; the phase of the grid gives the positions of its lines, but not their numbers; the
landmarks give the line numbers and the quarter turn, and confirm that it is a page. Without confirmation the other initial guesses are
tried.
"""

from typing import NamedTuple

import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.geometry.homography import FINEST, TrackingLost, homography, is_plausible, projected
from ecgjax.locate import grid_alignment, initial_guesses, orientation, template_match, unwarp

READ = '3x4+II'  # the layout whose landmarks are looked for
SURE, POSSIBLE = 0.62, 0.5  # landmark scores: above the first a page is found, below the second it is not
PULSE_CLEAR = 0.5  # how clear a pulse's top must be to be measured
LACKING = 0.03  # share of the trace area that may lie outside the picture: a corner cut off holds no traces
SECOND_PAGE = 'another grid lies outside the page that was found: the picture may contain two pages'
EXACT_PX = 0.5  # a picture of the page's own size that lies so well is the digital original: no need to sample it anew


class Found(NamedTuple):
  """Position of the page.

  Attributes:
    lattice: (45, 57, 2) float32 image px of the page's nodes.
    confidence: (45, 57) 0..1; 1 / (1 + d^2), d the expected rms error of the node in page px (calibrated on sim:even).
    layout: key of `layouts.ROWS`.
    score: correlation of the layout's landmarks with the page's ink, at most 1.
    pulse_mv: median height of the calibration pulses against the grid, at the layout's gain; nan where fewer than two are visible.
    status: ok, review or fail.
    reason: for a status other than ok, or ''.
  """

  lattice: np.ndarray
  confidence: np.ndarray
  layout: str
  score: float
  pulse_mv: float
  status: str
  reason: str


def find_page(image: np.ndarray) -> Found:
  """Locates the page in a picture.

  Args:
    image: (H, W, 3) uint8, at any rotation.

  Returns:
    The position of the page; with status 'fail' the lattice is only the best guess, and must not be read along.

  Raises:
    ECGError: if `image` is not such an array.
  """
  if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
    raise ECGError(f'the picture is {getattr(image, "dtype", type(image))} {np.shape(image)}; it must be uint8 (H, W, 3)')
  if max(image.shape[:2]) < FINEST * paper.WIDTH_PX or min(image.shape[:2]) < FINEST * paper.HEIGHT_PX / 2:
    size = f'{image.shape[1]} x {image.shape[0]} px'
    return _failed(image, f'the picture is {size}; a page in it has too few to be read (need about {FINEST * paper.WIDTH_PX:.0f})')
  best, seen = None, initial_guesses.thumbnail(image)
  for start in initial_guesses.planes(image, seen):
    try:
      found = lock(image, start, seen=seen)
    except TrackingLost:
      continue
    best = found if best is None or found.score > best.score else best
    if best.score >= SURE and np.median(best.confidence) >= grid_alignment.BORNE_OUT:  # no other start can mend the rest
      break
  return best or _failed(image, 'no page was found: nothing in the picture bears a grid')


def within(image: np.ndarray, corners: np.ndarray) -> Found:
  """Locates the page from the corners that a user gave.

  Args:
    image: (H, W, 3) uint8.
    corners: (4, 2) image x, y of the page's upper left, upper right, lower right and lower left corner, right within some per cent.

  Returns:
    The position of the page.

  Raises:
    ECGError: if the corners do not show a page from the front.
  """
  if np.shape(corners) != (4, 2) or not np.isfinite(corners).all():
    given = np.asarray(corners).tolist()
    raise ECGError(f'the corners {given} are not four points x, y: give upper left, upper right, lower right, lower left')
  page = np.array([[0, 0], [paper.WIDTH_PX, 0], [paper.WIDTH_PX, paper.HEIGHT_PX], [0, paper.HEIGHT_PX]], float)
  plane = homography(page, np.asarray(corners, float))
  if not is_plausible(plane, image.shape):
    given = np.asarray(corners).tolist()
    raise ECGError(f'the corners {given} show no page from the front: give upper left, upper right, lower right, lower left')
  try:
    return lock(image, plane, seen=initial_guesses.thumbnail(image))
  except TrackingLost:
    return _failed(image, 'no page was found within the corners')


def along(image: np.ndarray, lattice: np.ndarray) -> Found:
  """Judges a lattice that is given, by the picture's grid and printed marks along it.

  Args:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image px of the page's nodes.

  Returns:
    The lattice with the confidence of its nodes and the height of the pulses; 'review' with the reason where the picture contradicts it.

  Raises:
    ECGError: if the lattice shows no page from the front.
  """
  nodes = lattices.page_lattice().astype(np.float64)
  plane = homography(nodes.reshape(-1, 2), np.asarray(lattice, np.float64).reshape(-1, 2))
  if not is_plausible(plane, image.shape):
    raise ECGError('the lattice shows no page from the front: give the image x, y of the nodes, from the upper left one')
  displacement_px = projected(np.linalg.inv(plane), np.asarray(lattice, np.float64)) - nodes
  view = grid_alignment.flattener(image, plane)(plane, displacement_px)
  judgement = grid_alignment.judge(view, template_match.template_spectra(READ))
  status, reason = _verdict(initial_guesses.thumbnail(image), judgement, np.asarray(lattice))
  return Found(
    lattice, judgement.confidence, READ, float(judgement.score), _pulse_mv(view), 'ok' if status == 'ok' else 'review', reason
  )


def _failed(image: np.ndarray, reason: str) -> Found:
  filled = projected(initial_guesses.whole(image.shape), lattices.page_lattice()).astype(np.float32)
  return Found(filled, np.zeros(filled.shape[:2]), READ, 0.0, np.nan, 'fail', reason)


def lock(image: np.ndarray, plane: np.ndarray, *, seen: initial_guesses.Thumbnail) -> Found:
  """Refines an approximate pose of the page to a lattice.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px, right in scale and direction within some per cent, up to quarter turns and a shift.
    seen: the reduced picture.

  Returns:
    The position of the page.

  Raises:
    homography.TrackingLost: if the pose does not converge.
  """
  templates, rough = template_match.template_spectra(READ), grid_alignment.flattener(image, plane, coarse=True)
  plane, displacement_px, score = orientation.orient(rough, plane, templates, enough=SURE)
  if score < POSSIBLE:
    lattice = unwarp.lattice(plane, displacement_px)
    return Found(lattice, np.zeros(lattice.shape[:2]), READ, score, np.nan, 'fail', _no_page(score))
  plane, displacement_px, view, judgement = grid_alignment.align(image, rough, plane, displacement_px, templates)
  lattice = unwarp.lattice(plane, displacement_px)
  if image.shape[:2] == (paper.HEIGHT_PX, paper.WIDTH_PX) and np.sqrt(((lattice - lattices.page_lattice()) ** 2).mean()) < EXACT_PX:
    lattice = lattices.page_lattice()
  verdict = _verdict(seen, judgement, lattice)
  return Found(lattice, judgement.confidence, READ, float(judgement.score), _pulse_mv(view), *verdict)


def _pulse_mv(view: unwarp.FlatView) -> float:
  heights_mv, clear = template_match.pulses_mv(view.ink, layout=layouts.make(READ))
  return float(np.median(heights_mv[clear > PULSE_CLEAR])) if (clear > PULSE_CLEAR).sum() > 1 else float('nan')


def _no_page(score: float) -> str:
  return f'no page of layout {READ} was found: pulses, separators and lead names are not where they belong (score {score:.2f})'


def _verdict(seen: initial_guesses.Thumbnail, judgement: grid_alignment.Judgement, lattice: np.ndarray) -> tuple[str, str]:
  steps = [np.diff(lattice, axis=axis) for axis in (0, 1)]
  turns = steps[1][:-1, :, 0] * steps[0][:, :-1, 1] - steps[1][:-1, :, 1] * steps[0][:, :-1, 0]
  traces = lattice[lattices.trace_area()]
  lacking = 1 - ((traces > -1) & (traces < np.array(seen.shape[1::-1]) + 1)).all(-1).mean()
  if judgement.score < POSSIBLE:
    return 'fail', _no_page(float(judgement.score))
  if (turns <= 0).any() or np.abs(judgement.shift_px).max() > paper.MINOR_PX:
    torn = 'the page was found, but its lattice is folded or its grid does not fit its print'
    return 'review', SECOND_PAGE if initial_guesses.another_grid(seen, lattice) else torn
  if lacking > LACKING:
    return 'review', f"{100 * lacking:.0f} % of the page's traces lie outside the picture"
  if np.median(judgement.confidence) < grid_alignment.BORNE_OUT:
    return 'review', 'grid barely visible: the page was located from its printed marks alone, so time and amplitude may be off by 1 %'
  if (lost := grid_alignment.doubtful_share(judgement.confidence)) > grid_alignment.TORN:
    return 'review', f'the page was found, but {100 * lost:.0f} % of it bears no grid that fits: there it may lie whole squares off'
  if judgement.score < SURE:
    return 'review', f'the page was found, but its landmarks are hard to see (score {judgement.score:.2f})'
  if initial_guesses.another_grid(seen, lattice):
    return 'review', SECOND_PAGE
  return 'ok', ''
