"""Beat times of rhythms: sinus, atrial fibrillation and flutter, with premature beats.

Seconds count from the record's start. One record's beats are arrays of a fixed length B, so that every record has one
shape; those after the record's end are simply not seen.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

SINUS, FIBRILLATION, FLUTTER = range(3)
_SHARES = (0.83, 0.12, 0.05)
_BEATS_PER_S = 4  # more than MAX_BPM needs, as premature beats and fibrillation come in bursts
MIN_BPM, MAX_BPM = 35.0, 180.0
_MIN_RR_S = 0.27  # refractory


class Rhythm(NamedTuple):
  """The beats of one record.

  Attributes:
    kind: () int32, SINUS, FIBRILLATION or FLUTTER.
    bpm: () the rate drawn, before variability and premature beats.
    times_s: (B,) increasing times of the R waves; the first lies before 0.
    ectopic: (B,) bool, beats that start in a ventricle.
    p_wave: (B,) share of the P wave that is seen, 0 or 1.
    qt: (B,) the beat's QT interval over 0.4 s.
    gain: (B,) factor of the beat's amplitude, close to 1.
    atrial_hz: () rate of the fibrillatory or flutter waves.
  """

  kind: jax.Array
  bpm: jax.Array
  times_s: jax.Array
  ectopic: jax.Array
  p_wave: jax.Array
  qt: jax.Array
  gain: jax.Array
  atrial_hz: jax.Array


def draw(key, *, seconds: float = 10.0, kind=None, premature: bool = True) -> Rhythm:
  """Draws the beats of a record.

  Args:
    key: PRNG key.
    seconds: length of the record.
    kind: SINUS, FIBRILLATION or FLUTTER; drawn where None.
    premature: whether premature beats may occur.

  Returns:
    The Rhythm, B = ceil(4 * seconds) + 4.
  """
  keys = jax.random.split(key, 8)
  beats = math.ceil(_BEATS_PER_S * seconds) + 4
  if kind is None:
    kind = jax.random.choice(keys[0], jnp.arange(3), p=jnp.array(_SHARES))
  bpm = _bpm(keys[1])
  # Flutter is conducted 2:1, 3:1 or 4:1, so its ventricular rate follows from the atrial one.
  atrial_hz = jnp.where(kind == FLUTTER, jax.random.uniform(keys[2], minval=4.2, maxval=5.6), 60 / bpm)
  ratio = jax.random.randint(keys[3], (), 2, 5)
  bpm = jnp.where(kind == FLUTTER, jnp.minimum(60 * atrial_hz / ratio, MAX_BPM), bpm)
  bpm = jnp.where(kind == FIBRILLATION, jnp.clip(1.15 * bpm, 45.0, 160.0), bpm)
  atrial_hz = jnp.where(kind == FIBRILLATION, jax.random.uniform(keys[2], minval=5.0, maxval=8.5), atrial_hz)
  rr_s = 60 / bpm * _variation(keys[4], kind, 60 / bpm, beats)
  ventricular, atrial = _premature(keys[5], beats, premature)
  rr_s = _shift(keys[6], rr_s, ventricular, atrial & (kind == SINUS))
  offsets, qt, gain = jax.random.split(keys[7], 3)
  start_s = -60 / bpm * jax.random.uniform(offsets, minval=1.0, maxval=2.0)
  return Rhythm(
    kind=jnp.asarray(kind, jnp.int32),
    bpm=bpm,
    times_s=start_s + jnp.cumsum(rr_s) - rr_s[0],
    ectopic=ventricular,
    p_wave=jnp.where((kind == SINUS) & ~ventricular, 1.0, 0.0),
    qt=_qt(qt, rr_s, 60 / bpm),
    gain=1 + 0.025 * jax.random.normal(gain, (beats,)),
    atrial_hz=atrial_hz,
  )


def _bpm(key):
  """Most people rest near 72; one in seven is anywhere between the limits."""
  which, usual, wide = jax.random.split(key, 3)
  resting = 72 * jnp.exp(0.21 * jax.random.normal(usual))
  anywhere = jax.random.uniform(wide, minval=MIN_BPM, maxval=MAX_BPM)
  return jnp.clip(jnp.where(jax.random.bernoulli(which, 0.15), anywhere, resting), MIN_BPM, MAX_BPM)


def _variation(key, kind, mean_s, beats):
  """Returns (B,) RR intervals over their mean: respiration and chance in sinus rhythm, log-normal in fibrillation."""
  depth, spread, breath, chance, irregular = jax.random.split(key, 5)
  # Slow hearts vary more: respiratory arrhythmia fades as the vagus lets go.
  vagal = jnp.clip(mean_s / 0.8, 0.3, 1.5)
  depth = 0.04 * vagal * jax.random.uniform(depth) ** 2
  spread = 0.015 * vagal * jax.random.uniform(spread)
  hz, phase = jnp.array([0.15, 0.0]) + jnp.array([0.2, 2 * jnp.pi]) * jax.random.uniform(breath, (2,))
  noise = jax.random.truncated_normal(chance, -2.5, 2.5, (beats,))
  sinus = 1 + depth * jnp.sin(2 * jnp.pi * hz * mean_s * jnp.arange(beats) + phase) + spread * noise
  sigma = jax.random.uniform(irregular, minval=0.15, maxval=0.28)
  choices = [sinus, jnp.exp(sigma * noise - sigma**2 / 2), jnp.ones(beats)]
  return jnp.select([kind == SINUS, kind == FIBRILLATION], choices[:2], choices[2])


def _premature(key, beats, allowed):
  """Returns two (B,) masks, of ventricular and of atrial premature beats, never two in a row."""
  keys = jax.random.split(key, 3)
  has = jax.random.uniform(keys[0], (2, 1)) < jnp.array([[0.12], [0.12]])
  often = 0.3 * jax.random.uniform(keys[1], (2, 1)) ** 1.5 + 0.03
  wanted = (jax.random.uniform(keys[2], (2, beats)) < often) & has & allowed
  either = wanted.any(axis=0)
  alone = either & ~jnp.roll(either, 1)
  return wanted[0] & alone, wanted[1] & ~wanted[0] & alone


def _shift(key, rr_s, ventricular, atrial):
  """Brings premature beats forward. After a ventricular one the pause makes up for it, as the sinus node runs on."""
  early = jax.random.uniform(key, (2,), minval=jnp.array([0.55, 0.6]), maxval=jnp.array([0.78, 0.85]))
  factor = jnp.where(ventricular, early[0], jnp.where(atrial, early[1], 1.0))
  after_v, after_a = jnp.roll(ventricular, 1), jnp.roll(atrial, 1)
  factor = factor * jnp.where(after_v, 2 - early[0], jnp.where(after_a, 1.05, 1.0))
  return jnp.maximum(rr_s * factor, _MIN_RR_S)


def _qt(key, rr_s, mean_s):
  """Fridericia's cube root; QTc about 400 ms, one in twelve prolonged. Repolarisation follows the rate with a lag."""
  usual, long, which = jax.random.split(key, 3)
  qtc = 1 + 0.06 * jax.random.truncated_normal(usual, -2.0, 2.5)
  qtc = jnp.where(jax.random.bernoulli(which, 0.08), jax.random.uniform(long, minval=1.15, maxval=1.4), qtc)
  return qtc * jnp.cbrt(jnp.clip(0.7 * mean_s + 0.3 * rr_s, 0.33, 1.4))
