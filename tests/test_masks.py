"""What px of a page are taken for: strips put together to a page, compared, and kept as a picture."""

import io

import known
import numpy as np
from PIL import Image

from ecgjax.extract import pixel_classes
from ecgjax.geometry import lattices, paper
from ecgjax.networks import unet

PAGE, FRAME = known.PAGE, known.FRAME
RNG = np.random.default_rng(0)


def test_every_px_has_the_class_of_its_place_in_the_nearest_row_and_what_no_strip_shows_is_unread():
  heights, seconds = FRAME.millivolts(np.arange(FRAME.height_px) + 0.5), FRAME.times_s()
  # bands of 0.5 mV and of 0.2 s, by turns, another pattern in every row
  classes = (np.floor(heights / 0.5)[:, None] + np.floor(seconds / 0.2) + np.arange(4)[:, None, None]).astype(int) % 4
  mask = pixel_classes.page_mask(10 * np.eye(4, dtype=np.float32)[classes], layout=PAGE, frame=FRAME)
  assert mask.shape == (paper.HEIGHT_PX, paper.WIDTH_PX) and mask.dtype == np.uint8
  wrong = 0
  for y, x in zip(RNG.integers(0, 1700, 2000), RNG.integers(0, 2200, 2000), strict=True):
    row = int(np.argmin([abs(zero - y - 0.5) for zero in PAGE.zeros_px]))
    mv, second = (PAGE.zeros_px[row] - y - 0.5) / PAGE.px_per_mv, (x + 0.5 - paper.START_X_PX) / PAGE.px_per_s
    if abs(mv) > 4.06 or not seconds[2] < second < seconds[-3]:
      at_an_end = min(abs(second - seconds[2]), abs(second - seconds[-3])) < 0.01
      assert mask[y, x] == pixel_classes.UNREAD or abs(abs(mv) - 4.06) < 0.02 or at_an_end
    elif min(mv % 0.5, -mv % 0.5) > 0.013 and min(second % 0.2, -second % 0.2) > 0.006:
      wrong += mask[y, x] != (np.floor(mv / 0.5) + np.floor(second / 0.2) + row) % 4
  assert wrong == 0


def test_a_drawn_page_cut_to_strips_and_put_together_again_is_itself(page):
  dark = np.asarray(page).min(-1) < 100
  inks = np.stack([np.zeros_like(dark), np.zeros_like(dark), dark], -1).astype(np.float32)
  strips = np.asarray(lattices.cut(inks, lattices.page_lattice(), layout=PAGE, frame=FRAME))[..., 2]
  classes = np.stack([0.5 - strips, np.full_like(strips, -9), np.full_like(strips, -9), strips - 0.5], -1) * 20
  both, either = pixel_classes.overlaps(pixel_classes.page_mask(classes, layout=PAGE, frame=FRAME), pixel_classes.true(inks)).T
  assert both[3] / either[3] > 0.85 and both[0] / either[0] > 0.99 and either[1] == either[2] == 0


def test_overlaps_are_those_of_a_loop_over_px_and_what_was_not_read_does_not_count():
  found, right = RNG.integers(0, 4, (20, 30)).astype(np.uint8), RNG.integers(0, 4, (20, 30)).astype(np.uint8)
  found[:5] = pixel_classes.UNREAD
  pairs = [(int(a), int(b)) for a, b in zip(found.ravel(), right.ravel(), strict=True) if a != pixel_classes.UNREAD]
  judge = [(sum(a == b == n for a, b in pairs), sum(n in pair for pair in pairs)) for n in range(len(unet.CLASSES))]
  np.testing.assert_array_equal(pixel_classes.overlaps(found, right), judge)


def test_the_picture_holds_the_numbers_and_shows_the_colours():
  mask = RNG.choice(list(pixel_classes.COLOURS), (40, 60)).astype(np.uint8)
  picture = Image.open(io.BytesIO(pixel_classes.png(mask)))
  np.testing.assert_array_equal(np.asarray(picture), mask)
  shown = np.asarray(picture.convert('RGB'))
  assert all((shown[mask == number] == colour).all() for number, colour in pixel_classes.COLOURS.items())
  assert set(range(len(unet.CLASSES))) < set(pixel_classes.COLOURS)
