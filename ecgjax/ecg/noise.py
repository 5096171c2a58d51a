"""Noise at electrodes: muscle, mains, wandering baseline, steps.

Noise is made at the nine electrodes RA, LA, LL, V1..V6 and reaches the leads as a patient's does: through their
differences, so a bad arm electrode shows in every lead and Einthoven's triangle stays closed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ELECTRODES = 9
_WAVES = 6  # sinusoids of the baseline's drift

# Leads I, II, V1..V6 from the electrodes; V1..V6 are against Wilson's terminal, the mean of RA, LA and LL.
_LEADS = np.zeros((8, ELECTRODES), np.float32)
_LEADS[0, :2] = -1, 1
_LEADS[1, [0, 2]] = -1, 1
_LEADS[2:, :3] = -1 / 3
_LEADS[2:, 3:] = np.eye(6)


class Levels(NamedTuple):
  """How noisy a record is; (9,) arrays are one number per electrode.

  Attributes:
    muscle_mv: (9,) root mean square at rest.
    muscle_hz: () where the recorder cuts it off.
    burst_s: (2,) centre and width of a stretch with more of it.
    burst: () factor by which it grows there.
    hum_mv: (9,) amplitude of the mains.
    hum_hz: () 50 or 60, within 0.1.
    wander_mv: (7, 9) amplitudes of the baseline's sinusoids, the first is respiration.
    wander_hz: (7,) their frequencies.
    wander_phase: (7, 9) their phases.
    step_mv: (9,) height of an electrode's jump; mostly 0.
    step_s: (2,) its time, and the time constant with which the amplifier recovers.
  """

  muscle_mv: jax.Array
  muscle_hz: jax.Array
  burst_s: jax.Array
  burst: jax.Array
  hum_mv: jax.Array
  hum_hz: jax.Array
  wander_mv: jax.Array
  wander_hz: jax.Array
  wander_phase: jax.Array
  step_mv: jax.Array
  step_s: jax.Array


def draw(key, *, seconds: float = 10.0) -> Levels:
  """Draws how noisy a record is.

  Args:
    key: PRNG key.
    seconds: length of the record.

  Returns:
    The Levels. Medians follow real recordings; the tails are longer.
  """
  k = jax.random.split(key, 19)
  each = jnp.exp(0.5 * jax.random.normal(k[0], (3, ELECTRODES)))
  muscle = jnp.clip(0.003 * jnp.exp(0.85 * jax.random.normal(k[1])), 0.0005, 0.06)
  hum = jnp.where(jax.random.bernoulli(k[2], 0.25), 0.012 * jnp.exp(0.8 * jax.random.normal(k[3])), 0.0)
  breath = 0.02 * jnp.exp(0.8 * jax.random.normal(k[4]))
  hz = 0.03 * 20 ** jax.random.uniform(k[5], (_WAVES,))
  size = 0.006 * jnp.exp(0.8 * jax.random.normal(k[6]))
  drift = size * jax.random.normal(k[7], (_WAVES, ELECTRODES)) * (0.3 / hz[:, None])
  wander = jnp.concatenate([jnp.clip(breath, 0, 0.15) * each[1:2], jnp.clip(drift, -0.3, 0.3)])
  electrode = jax.random.randint(k[8], (), 0, ELECTRODES)
  height = jnp.where(jax.random.bernoulli(k[9], 0.04), jax.random.uniform(k[10], minval=-1.2, maxval=1.2), 0.0)
  return Levels(
    muscle_mv=muscle * each[0],
    muscle_hz=jax.random.uniform(k[11], minval=35.0, maxval=150.0),
    burst_s=jax.random.uniform(k[12], (2,), minval=jnp.array([0.0, 0.3]), maxval=jnp.array([seconds, 2.5])),
    burst=jnp.where(jax.random.bernoulli(k[13], 0.2), 4.0, 0.0),
    hum_mv=jnp.clip(hum * each[2], 0, 0.15),
    hum_hz=jax.random.choice(k[14], jnp.array([50.0, 60.0])) + jax.random.uniform(k[16], minval=-0.1, maxval=0.1),
    wander_mv=wander,
    wander_hz=jnp.concatenate([jax.random.uniform(k[15], (1,), minval=0.15, maxval=0.4), hz]),
    wander_phase=jax.random.uniform(k[17], (1 + _WAVES, ELECTRODES), maxval=2 * jnp.pi),
    step_mv=height * (jnp.arange(ELECTRODES) == electrode),
    step_s=jax.random.uniform(k[18], (2,), minval=jnp.array([0.0, 0.2]), maxval=jnp.array([seconds, 2.0])),
  )


def at_leads(key, levels: Levels, t_s) -> jax.Array:
  """Returns the noise that the leads see.

  Args:
    key: PRNG key, of the muscle noise.
    levels: how noisy the record is.
    t_s: (T,) evenly spaced times.

  Returns:
    (8, T) mV, leads I, II, V1..V6.
  """
  return leads(muscle(key, levels, t_s) + hum(levels, t_s) + wander(levels, t_s) + step(levels, t_s))


def leads(electrodes) -> jax.Array:
  """Returns (8, T) leads I, II, V1..V6 from the potentials (9, T) of RA, LA, LL, V1..V6, same unit."""
  return jnp.matmul(_LEADS, electrodes, precision='highest')


def muscle(key, levels: Levels, t_s) -> jax.Array:
  """Returns (9, T) mV of Gaussian noise from 15 Hz up to the recorder's cut-off."""
  samples, rate_hz = len(t_s), 1 / (t_s[1] - t_s[0])
  hz = jnp.arange(samples // 2 + 1) * rate_hz / samples
  shape = jax.nn.sigmoid((hz - 15) / 4) / jnp.sqrt(1 + (hz / levels.muscle_hz) ** 6)
  shape = shape / jnp.sqrt(jnp.mean(shape**2))
  white = jax.random.normal(key, (ELECTRODES, samples))
  noise = jnp.fft.irfft(jnp.fft.rfft(white) * shape, samples)
  burst = 1 + levels.burst * jnp.exp(-(((t_s - levels.burst_s[0]) / levels.burst_s[1]) ** 2))
  return levels.muscle_mv[:, None] * noise * burst


def hum(levels: Levels, t_s) -> jax.Array:
  """Returns (9, T) mV of mains hum with a little of its third harmonic, in phase at all electrodes."""
  angle = 2 * jnp.pi * levels.hum_hz * t_s
  return levels.hum_mv[:, None] * (jnp.sin(angle) + 0.1 * jnp.sin(3 * angle + 1))


def wander(levels: Levels, t_s) -> jax.Array:
  """Returns (9, T) mV of respiration and drift, a sum of slow sinusoids."""
  angle = 2 * jnp.pi * levels.wander_hz[:, None, None] * t_s + levels.wander_phase[..., None]
  return jnp.sum(levels.wander_mv[..., None] * jnp.sin(angle), axis=0)


def step(levels: Levels, t_s) -> jax.Array:
  """Returns (9, T) mV of one electrode's jump, from which the amplifier recovers exponentially."""
  after_s = t_s - levels.step_s[0]
  return levels.step_mv[:, None] * jnp.where(after_s >= 0, jnp.exp(-jnp.maximum(after_s, 0) / levels.step_s[1]), 0.0)
