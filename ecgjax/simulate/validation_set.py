"""The fixed simulated validation set: every variant of `variants.VARIANTS` x RECORDS recordings, generated from a seed."""

import functools
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.damage import degrade
from ecgjax.drawing import misregistration, render
from ecgjax.ecg import packs, synthesis
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.simulate import variants

NAME, EVEN = 'sim:val', 'sim:even'  # the second as if scanners were even and printers exact
RATE_HZ = packs.RATE_HZ
RECORDS, SEED = 40, 1
PAGE = layouts.make()
NOWHERE = jax.tree.map(np.float32, misregistration.none())  # numbers of one type: one program, with a field and without


class Case(NamedTuple):
  """One page of the set: what a file would show, and what is true of it.

  Attributes:
    variant: its kind.
    number: of the recording, 0 to RECORDS - 1.
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) true image px of the page's nodes.
    leads: lead -> (n,) mV as printed, RATE_HZ.
    page_px: (H, W, 2) page x, y that each px shows; the page's own frame where it is None.
    apart: how far black stands off the grid.
    mv: (12, T) the whole record.
  """

  variant: str
  number: int
  image: np.ndarray
  lattice: np.ndarray
  leads: dict[str, np.ndarray]
  mv: np.ndarray
  page_px: np.ndarray | None = None
  apart: misregistration.Misregistration = misregistration.none()


def recordings(source: str, *, count: int) -> list[jax.Array]:
  """Chooses recordings.

  Args:
    source: pack or WFDB folder; simulated ones where it is empty.
    count: at most so many, the first of a seeded order: fewer are a part of more.

  Returns:
    (12, 10 * RATE_HZ) mV each.
  """
  if not source:
    return [simulator(RATE_HZ)(jax.random.fold_in(jax.random.key(SEED), i)) for i in range(count)]
  pack, _ = packs.load(source)
  chosen = np.random.default_rng(SEED).permutation(len(pack))[:count]
  return [jnp.asarray(packs.pack_to_mv(pack[i])) for i in chosen]


@functools.cache
def simulator(rate_hz: int) -> Callable[[jax.Array], jax.Array]:
  """Returns the compiled key -> (12, 10 * rate_hz) mV, hardly optimised: compiling takes 100 times as long as running."""
  quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
  return jax.jit(functools.partial(synthesis.simulate, rate_hz=rate_hz), compiler_options=quick)


def case(mv: jax.Array, name: str, number: int, *, even: bool = False) -> Case:
  """Draws one page of the set.

  Args:
    mv: (12, T) record, `number` of `recordings`.
    name: of the variant.
    number: of the page; with the name and SEED it fixes all that befalls it.
    even: as if the scanner were even and the printer exact.

  Returns:
    The page with its truth.
  """
  kind, key = kind_of(name, even=even), case_key(name, number)
  image, lattice, page_px = take(key, mv, kind, rate_hz=RATE_HZ)
  apart = jax.tree.map(np.asarray, apart_of(key, kind))
  page_px = None if page_px is None else np.asarray(page_px)
  return Case(name, number, np.asarray(image), np.asarray(lattice), printed_leads(np.asarray(mv)), np.asarray(mv), page_px, apart)


def ink_off_px(case: Case, lattice: np.ndarray, at_px: np.ndarray) -> np.ndarray:
  """Tells where ink belongs that a lattice puts to points of the page: feeds, black off the colours, and the lattice's own error.

  Args:
    case: the page with its truth.
    lattice: (45, 57, 2) image px of the nodes, true or found.
    at_px: (N, 2) page x, y.

  Returns:
    (N, 2) how far right and below of there it belongs, page px.
  """
  from scipy import ndimage

  x_px, y_px = np.asarray(lattices.image_px(lattice, at_px)).T - 0.5
  if case.page_px is None:
    page_px = np.stack([x_px, y_px], axis=-1) + 0.5
  else:
    page_px = np.stack([ndimage.map_coordinates(case.page_px[..., i], [y_px, x_px], order=1, mode='nearest') for i in (0, 1)], axis=-1)
  return page_px - np.stack(misregistration.off_px(case.apart, page_px[:, 0], page_px[:, 1]), axis=-1) - at_px


def original(key: jax.Array, mv: jax.Array) -> np.ndarray:
  """Returns (1700, 2200, 3) uint8, the digital original of the page of a `case_key`, in the competition's look."""
  at_page = jax.random.split(key, 3)[1]  # the header comes from it
  return np.asarray(draw(RATE_HZ)(at_page, mv, variants.draw_look(key, 0)) * 255 + 0.5).astype(np.uint8)


def inks(key: jax.Array, mv: jax.Array, variant: variants.Variant) -> np.ndarray:
  """Returns (1700, 2200, 3), the coverage of grid, text and traces on the page that `take` prints (see `render.Page`)."""
  at_style, at_page, _ = jax.random.split(key, 3)
  return np.asarray(_inks()(at_page, mv, variants.draw_look(at_style, variant.look), apart_of(key, variant)))


def kind_of(name: str, *, even: bool = False) -> variants.Variant:
  """Returns a variant by its name, `even` as in `case`."""
  return variants.even(variants.get(name)) if even else variants.get(name)


def case_key(name: str, number: int) -> jax.Array:
  """Returns the key of all that befalls page `number` of a variant."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), zlib.crc32(name.encode())), number)


def apart_of(key: jax.Array, variant: variants.Variant) -> misregistration.Misregistration:
  """Returns how far black stands off the grid in the print of a `case_key`."""
  return misregistration.draw(jax.random.fold_in(key, 3), strength=variant.apart)


def take(
  key: jax.Array, mv: jax.Array, variant: variants.Variant, *, rate_hz: float
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Prints a record and pictures it.

  Args:
    key: of style, header and damage.
    mv: (12, T) mV.
    variant: what kind of picture.
    rate_hz: of `mv`.

  Returns:
    (H, W, 3) uint8, its (45, 57, 2) lattice, and (H, W, 2) page x, y that each px shows, None where that is its own.
  """
  at_style, at_page, at_photo = jax.random.split(key, 3)
  style = variants.draw_look(at_style, variant.look)
  image = draw(rate_hz)(at_page, mv, style, apart_of(key, variant))
  return pictured(at_photo, image, variant, paper_rgb=style.paper_rgb)


def pictured(
  key: jax.Array, image: jax.Array, variant: variants.Variant, *, paper_rgb: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Pictures a drawn page (1700, 2200, 3) in 0..1 on paper of a colour (3,); returns what `take` does."""
  if variant.damage == degrade.Damage() and variant.frame_px == (paper.HEIGHT_PX, paper.WIDTH_PX):  # nothing happens to it
    return jnp.round(255 * image).astype(jnp.uint8), jnp.asarray(lattices.page_lattice()), None
  damage = jax.tree.map(jnp.float32, variant.damage)  # numbers of one type: one program for all variants of a size
  return _picture(variant.frame_px, variant.shrink)(key, image, damage, paper_rgb)


def printed_leads(mv: np.ndarray) -> dict[str, np.ndarray]:
  """Returns lead -> (n,) mV: the part of each lead that is printed and scored."""
  leads = {}
  for lead, row in zip(LEADS, mv, strict=True):
    segment = PAGE.scored(lead)
    first = round(segment.start_s * RATE_HZ)
    leads[lead] = np.asarray(row[first : first + segment.count(RATE_HZ)], np.float64)
  return leads


@functools.cache
def draw(rate_hz: float) -> Callable:
  """Returns the compiled (key of the header, (12, T) mV, style, field of `misregistration`) -> (1700, 2200, 3) page in 0..1."""
  page = jax.jit(lambda key, mv, style, apart: render.page(key, mv, layout=PAGE, style=style, rate_hz=rate_hz, apart=apart).image)
  return lambda key, mv, style, apart=NOWHERE: page(key, mv, style, apart)


@functools.cache
def _inks() -> Callable:
  return jax.jit(lambda key, mv, style, apart: render.page(key, mv, layout=PAGE, style=style, rate_hz=RATE_HZ, apart=apart).inks)


@functools.cache
def _picture(frame_px: tuple[int, int], shrink: float):
  def picture(key, image, damage, paper_rgb):
    photo = degrade.photo(key, image, damage, paper_rgb=paper_rgb, frame_px=frame_px, shrink=shrink)
    return jnp.round(255 * photo.image).astype(jnp.uint8), photo.lattice, photo.page_px

  return jax.jit(picture)
