"""A simulator of 12-lead signals: rhythm, waves and noise of a random patient, in mV, in the order of leads.LEADS."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.ecg import noise as noises
from ecgjax.ecg import rhythm as rhythms
from ecgjax.ecg import waveforms as beats
from ecgjax.ecg.leads import twelve

MAX_MV = 8.0


class Atria(NamedTuple):
  """Fibrillatory or flutter waves: C sinusoids whose phase wanders; silent in sinus rhythm.

  Attributes:
    mv: (C, 8) amplitude in leads I, II, V1..V6.
    hz: (C,) mean frequency.
    phase: (2, C) phases of the wave and of its wandering.
    wander: (C,) by how many radians the phase wanders.
  """

  mv: jax.Array
  hz: jax.Array
  phase: jax.Array
  wander: jax.Array


class Patient(NamedTuple):
  """All that is drawn for a record; `waveform` adds no chance.

  Attributes:
    rhythm: when the heart beats.
    waves: the shape of a beat.
    atria: fibrillatory or flutter waves.
    noise: how noisy the record is.
    breath_hz: () respiration, which turns the heart,
    breath_gain: (8,) and so changes each lead by this share.
  """

  rhythm: rhythms.Rhythm
  waves: beats.Waves
  atria: Atria
  noise: noises.Levels
  breath_hz: jax.Array
  breath_gain: jax.Array


def simulate(key, *, rate_hz: float = 500, seconds: float = 10.0) -> jax.Array:
  """Draws a patient and a record, with noise.

  Args:
    key: PRNG key.
    rate_hz: samples a second.
    seconds: length of the record.

  Returns:
    (12, T) float32 mV in the order of leads.LEADS, T = round(rate_hz * seconds), within +-MAX_MV. Einthoven's
    relations hold exactly, noise included.
  """
  at_patient, at_noise = jax.random.split(key)
  patient = draw(at_patient, seconds=seconds)
  t_s = times(rate_hz=rate_hz, seconds=seconds)
  eight = waveform(patient, t_s) + noises.at_leads(at_noise, patient.noise, t_s)
  # A record that would leave the range is made smaller as a whole, which keeps the leads' relations.
  return twelve(eight * jnp.minimum(1.0, MAX_MV / jnp.abs(twelve(eight)).max()))


def times(*, rate_hz: float = 500, seconds: float = 10.0) -> jax.Array:
  """Returns (T,) times of the samples in s, the first at 0."""
  return jnp.arange(round(rate_hz * seconds)) / rate_hz


def draw(key, *, seconds: float = 10.0, rhythm=None, conduction=None, premature: bool = True) -> Patient:
  """Draws a patient.

  Args:
    key: PRNG key.
    seconds: length of the record.
    rhythm: rhythm.SINUS, FIBRILLATION or FLUTTER; drawn where None.
    conduction: waveforms.NORMAL, LBBB, RBBB or PACED; drawn where None.
    premature: whether premature beats may occur.

  Returns:
    The Patient.
  """
  k = jax.random.split(key, 6)
  pulse = rhythms.draw(k[0], seconds=seconds, kind=rhythm, premature=premature)
  return Patient(
    rhythm=pulse,
    waves=beats.draw(k[1], conduction=conduction),
    atria=_atria(k[2], pulse),
    noise=noises.draw(k[3], seconds=seconds),
    breath_hz=jax.random.uniform(k[4], minval=0.15, maxval=0.35),
    breath_gain=0.04 * jax.random.truncated_normal(k[5], -2.5, 2.5, (8,)),
  )


def waveform(patient: Patient, t_s) -> jax.Array:
  """Returns the patient's signal without noise.

  Args:
    patient: as from draw.
    t_s: (T,) times in s, within the seconds that the patient was drawn for.

  Returns:
    (8, T) mV, leads I, II, V1..V6.
  """
  # A sample feels the beats around it only: T and U of the last two, P and Q of the next.
  last = jnp.searchsorted(patient.rhythm.times_s, t_s, side='right', method='compare_all') - 1
  ventricles = sum(_beat(patient, t_s, last + offset) for offset in (-1, 0, 1))
  breath = 1 + patient.breath_gain[:, None] * jnp.sin(2 * jnp.pi * patient.breath_hz * t_s)
  return breath * (ventricles + _atrial(patient.atria, t_s))


def _beat(patient, t_s, beat):
  """Returns (8, T) mV of one beat for every sample; `beat` (T,) may run over either end, where there is none."""
  rhythm, waves = patient.rhythm, patient.waves
  inside = (beat >= 0) & (beat < len(rhythm.times_s))
  beat = jnp.clip(beat, 0, len(rhythm.times_s) - 1)
  after_s = (t_s - rhythm.times_s[beat])[:, None]
  z = jnp.where(beats.IS_T, after_s / rhythm.qt[beat][:, None], after_s) - waves.centre_s
  z = z / jnp.where(z < 0, *waves.width_s)
  share = jnp.where(rhythm.ectopic[:, None] == beats.IS_ECTOPIC, rhythm.gain[:, None], 0.0)
  share = share * jnp.where(beats.IS_P, rhythm.p_wave[:, None], 1.0)
  height = jnp.where(inside[:, None], share[beat], 0.0) * jnp.exp(-(z**2) / 2)
  return jnp.matmul(waves.mv.T, height.T, precision='highest')


def _atria(key, rhythm) -> Atria:
  """Draws flutter as a sawtooth, harmonics in step, and fibrillation as three restless waves."""
  k = jax.random.split(key, 4)
  order = jnp.arange(1.0, 4.0)
  flutter = rhythm.kind == rhythms.FLUTTER
  start = 2 * jnp.pi * jax.random.uniform(k[0], (2, 3))
  saw = jnp.stack([order * start[0, 0], start[1]])
  # Flutter waves are seen best in II, III, aVF and V1; fibrillatory ones in V1.
  shape = jnp.array([0.2, jnp.where(flutter, -1.0, 0.5), 0.8, 0.5, 0.2, 0.1, 0.1, 0.1])
  size = jnp.where(flutter, 0.13, 0.055) * jnp.exp(0.5 * jax.random.normal(k[1]))
  each = jnp.where(flutter, jnp.ones((3, 8)), jax.random.normal(k[2], (3, 8)))
  return Atria(
    mv=jnp.where(rhythm.kind == rhythms.SINUS, 0.0, size) * shape * each / order[:, None],
    hz=jnp.where(flutter, order, jnp.array([1.0, 0.83, 1.37])) * rhythm.atrial_hz,
    phase=jnp.where(flutter, saw, start),
    wander=jnp.where(flutter, 0.0, jax.random.uniform(k[3], (3,), minval=1.0, maxval=4.0)),
  )


def _atrial(atria: Atria, t_s):
  """Returns (8, T) mV of fibrillatory or flutter waves."""
  turns = 2 * jnp.pi * atria.hz[:, None] * t_s
  restless = atria.wander[:, None] * jnp.sin(0.13 * turns + atria.phase[1][:, None])
  return jnp.matmul(atria.mv.T, jnp.sin(turns + atria.phase[0][:, None] + restless), precision='highest')
