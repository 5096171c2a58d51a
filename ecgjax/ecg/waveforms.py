"""Waves of a beat: P, QRS, ST, T and U of healthy and diseased hearts, projected on the leads.

Each wave is a two-sided Gaussian in the time since the R wave, a heart dipole pointing somewhere in the body's frame: x
to the left arm, y to the feet, z to the back (McSharry et al., IEEE Trans Biomed Eng 50:289, 2003; Sameni et al.,
EURASIP J Adv Signal Process 2007:043407). Dower's matrix turns dipoles into leads I, II, V1..V6; every patient's matrix
and waves differ a little. Disease is data: other tables of waves.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NORMAL, LBBB, RBBB, PACED = range(4)
_SHARES = (0.80, 0.06, 0.09, 0.05)

# Dower, Machado and Osborne, Clin Cardiol 3:97, 1980: rows I, II, V1..V6 from Frank's x, y, z.
_DOWER = np.array(
  [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
  ],
  np.float32,
)

# Per wave: centre, width before and after it in ms from the R wave; x, y, z in mV. Rows are the waves of _NAMES.
_NAMES = ('P right', 'P left', 'septum', 'early', 'main', 'base', 'end', 'notch', 'ST', 'T', 'T late', 'U', 'spike')
_P_RIGHT, _P_LEFT = (-155, 17, 17, 0.05, 0.09, -0.05), (-125, 18, 20, 0.06, 0.05, 0.04)
_NOTCH, _WIDE_NOTCH, _U = (0, 4, 4, 0, 0, 0), (0, 9, 9, 0, 0, 0), (440, 35, 45, 0.01, 0.01, -0.02)
_SEPTUM, _EARLY = (-19, 5.5, 6.5, -0.12, -0.06, -0.25), (-8.5, 6.5, 7.5, 0.4, 0.15, -0.35)
_MAIN = (0, 8, 8.5, 1.05, 0.45, 0.2)
# fmt: off
_WAVES = np.array([
  [_P_RIGHT, _P_LEFT, _SEPTUM, _EARLY, _MAIN, (18, 7.5, 9, -0.15, -0.12, 0.65), (31, 8, 12, 0.0, -0.08, 0.08), _NOTCH,
   (110, 30, 60, 0.03, 0.02, -0.04), (250, 60, 40, 0.1, 0.05, -0.1), (290, 55, 33, 0.2, 0.1, -0.1), _U,
   (-50, 1.2, 1.2, 0.0, 0.0, 0.0)],
  # The left ventricle is reached late and through muscle: wide, leftwards and backwards, T and ST against it.
  [_P_RIGHT, _P_LEFT, (-45, 12, 12, 0.25, 0.1, 0.1), (-22, 15, 14, 0.5, 0.3, 0.55), (12, 20, 16, 0.7, 0.15, 0.9),
   (50, 14, 14, 0.3, -0.1, 0.45), (70, 14, 16, 0.0, 0.0, 0.1), _WIDE_NOTCH, (140, 40, 70, -0.1, -0.03, -0.2),
   (290, 60, 45, -0.1, -0.02, -0.2), (330, 60, 40, -0.2, -0.03, -0.25), _U, (-80, 1.2, 1.2, 0.0, 0.0, 0.0)],
  # The right ventricle comes last: a slow end to the right and forwards.
  [_P_RIGHT, _P_LEFT, _SEPTUM, _EARLY, _MAIN, (18, 8, 10, -0.1, -0.1, 0.4), (54, 16, 20, -0.5, 0.0, -0.7), _NOTCH,
   (130, 40, 60, 0.02, 0.0, 0.05), (270, 60, 40, 0.1, 0.1, 0.1), (310, 55, 35, 0.2, 0.12, 0.2), _U,
   (-50, 1.2, 1.2, 0.0, 0.0, 0.0)],
  # Paced at the right apex: as in left bundle branch block, but upwards.
  [_P_RIGHT, _P_LEFT, (-48, 12, 12, 0.1, -0.2, 0.2), (-20, 18, 16, 0.3, -0.6, 0.45), (15, 22, 20, 0.25, -0.9, 0.7),
   (55, 16, 18, 0.1, -0.4, 0.4), (78, 15, 18, 0.0, -0.1, 0.1), _WIDE_NOTCH, (145, 40, 70, -0.03, 0.12, -0.15),
   (300, 60, 45, -0.05, 0.25, -0.2), (345, 60, 42, -0.08, 0.35, -0.2), _U, (-88, 1.2, 1.2, 0.0, 0.0, 0.0)],
], np.float32)
# fmt: on
# A ventricular premature beat: times as above, and the length of each wave along one drawn direction.
_ECTOPIC = np.array([(-28, 18, 22, 0.5), (15, 27, 25, 1.3), (60, 20, 30, 0.5), (310, 75, 50, -0.5)], np.float32)
_ST, _SPIKE = _NAMES.index('ST'), _NAMES.index('spike')
_IS_SPIKE = np.arange(len(_NAMES) + 4) == _SPIKE
IS_P = np.array([n.startswith('P ') for n in _NAMES] + 4 * [False])
_IS_QRS = np.array([n in ('septum', 'early', 'main', 'base', 'end', 'notch') for n in _NAMES] + 4 * [False])
IS_T = np.array([n.startswith(('T', 'U')) for n in _NAMES] + [False, False, False, True])
IS_ECTOPIC = np.arange(len(_NAMES) + 4) >= len(_NAMES)


class Waves(NamedTuple):
  """One patient's waves, K of them: those of a conducted beat, then those of a ventricular premature beat.

  Attributes:
    centre_s: (K,) time after the R wave.
    width_s: (2, K) standard deviations before and after the centre.
    mv: (K, 8) height in leads I, II, V1..V6.
  """

  centre_s: jax.Array
  width_s: jax.Array
  mv: jax.Array


def draw(key, *, conduction=None) -> Waves:
  """Draws one patient's waves.

  Args:
    key: PRNG key.
    conduction: NORMAL, LBBB, RBBB or PACED; drawn where None.

  Returns:
    The Waves.
  """
  k = jax.random.split(key, 8)
  if conduction is None:
    conduction = jax.random.choice(k[0], jnp.arange(4), p=jnp.array(_SHARES))
  table = jnp.asarray(_WAVES)[conduction]
  xyz = _repolarise(k[1], _turn(k[2], table[:, 3:]))
  xyz = jnp.concatenate([xyz, _ectopic(k[3])])
  mv = _seen_by_leads(k[4], xyz)
  mv = mv.at[_SPIKE].set(jnp.where(conduction == PACED, _spike(k[5]), 0.0))
  times_s = jnp.concatenate([table[:, :3], jnp.asarray(_ECTOPIC[:, :3])]) / 1000
  centre_s, before_s, after_s = _stretch(k[6], times_s, conduction).T
  return Waves(centre_s, jnp.stack([before_s, after_s]), mv * _size(k[7])[:, None])


def _turn(key, xyz):
  """Turns the heart in the chest: the axis in the frontal plane, then rotation around the body's long axis."""
  angles = jnp.array([0.45, 0.3]) * jax.random.truncated_normal(key, -2.5, 2.5, (2,))
  (c, d), (s, t) = jnp.cos(angles), jnp.sin(angles)
  frontal = jnp.stack([jnp.array([c, s, 0.0]), jnp.array([-s, c, 0.0]), jnp.array([0.0, 0.0, 1.0])])
  across = jnp.stack([jnp.array([d, 0.0, t]), jnp.array([0.0, 1.0, 0.0]), jnp.array([-t, 0.0, d])])
  qrs = _IS_QRS[: len(_NAMES), None]
  return jnp.where(qrs, xyz @ frontal @ across, xyz)


def _repolarise(key, xyz):
  """Changes ST and T: mostly nothing; T flat, inverted or tall, ST raised or lowered towards a drawn direction."""
  k = jax.random.split(key, 4)
  factors, shares = jnp.array([1.0, 0.3, -0.8, 2.2]), jnp.array([0.7, 0.12, 0.1, 0.08])
  t = jax.random.choice(k[0], factors, p=shares)
  xyz = jnp.where(IS_T[: len(_NAMES), None], t * xyz, xyz)
  size_mv = jnp.where(jax.random.bernoulli(k[1], 0.15), jax.random.uniform(k[2], minval=0.08, maxval=0.35), 0.02)
  return xyz.at[_ST].add(size_mv * _direction(k[3]))


def _ectopic(key):
  """Returns (4, 3) mV: a premature beat runs along one direction, with its T wave against it."""
  way, size, bend = jax.random.split(key, 3)
  along = _direction(way) * jax.random.uniform(size, minval=0.7, maxval=1.6)
  return jnp.asarray(_ECTOPIC[:, 3:]) * (along + 0.25 * jax.random.normal(bend, (4, 3)))


def _seen_by_leads(key, xyz):
  """Returns (K, 8) mV. No patient is a dipole exactly: waves, leads and the chest wall get factors of their own."""
  k = jax.random.split(key, 5)
  waves = jnp.exp(0.3 * jax.random.normal(k[0], (len(xyz), 1)))
  bent = waves * (xyz + 0.15 * jnp.linalg.norm(xyz, axis=1, keepdims=True) * jax.random.normal(k[1], xyz.shape))
  matrix = _DOWER * (1 + 0.15 * jax.random.normal(k[2], (8, 3)))
  near = jnp.exp(0.15 * jax.random.normal(k[3], (8,)))
  mv = jnp.matmul(bent, matrix.T, precision='highest') * near
  notch = 0.09 * jnp.abs(mv).max(axis=0) * jax.random.normal(k[4], (8,))
  return mv.at[_NAMES.index('notch')].set(notch)


def _spike(key):
  """Returns (8,) mV of a pacemaker's pulse: 0.3 to 3 mV along some direction."""
  way, size = jax.random.split(key)
  length = 0.3 * 10 ** jax.random.uniform(size)
  return jnp.matmul(_DOWER, _direction(way) * length, precision='highest')


def _stretch(key, times_s, conduction):
  """Varies PQ time, QRS width, when the notch falls and how long each wave lasts; times_s is (K, 3)."""
  pq, late, qrs, notch, each = jax.random.split(key, 5)
  pq_s = 0.015 * jax.random.truncated_normal(pq, -2.0, 2.0) + jnp.where(jax.random.bernoulli(late, 0.06), 0.08, 0.0)
  shift = jnp.where(IS_P, -pq_s, 0.0)
  wide = jnp.exp(0.1 * jax.random.truncated_normal(qrs, -2.0, 2.5))
  scale = jnp.where(_IS_QRS, wide, 1.0)[:, None]
  last_s = jnp.where(conduction == NORMAL, 0.035, 0.06)
  times_s = times_s.at[_NAMES.index('notch'), 0].set(jax.random.uniform(notch, minval=-0.025, maxval=last_s))
  times_s = times_s * scale + shift[:, None] * jnp.array([1.0, 0.0, 0.0])
  widths = jnp.exp(0.12 * jax.random.truncated_normal(each, -2.0, 2.0, (len(times_s), 1)))
  return times_s * jnp.where(jnp.arange(3) == 0, 1.0, jnp.where(_IS_SPIKE[:, None], 1.0, widths))


def _size(key):
  """Returns (K,) factors of the waves: one for the record, low or tall in one of twelve, and the atria's own."""
  k = jax.random.split(key, 4)
  whole = jnp.exp(0.25 * jax.random.normal(k[0]))
  rare = jax.random.choice(k[1], jnp.array([1.0, 0.4, 2.2]), p=jnp.array([0.92, 0.04, 0.04]))
  atria, ventricles = jnp.exp(jnp.array([0.3, 0.2]) * jax.random.normal(k[2], (2,)))
  # A tall QRS does not come with an equally tall T or P.
  size = jnp.where(IS_P, atria * jnp.sqrt(whole), jnp.where(IS_T, whole * jnp.sqrt(rare), whole * rare * ventricles))
  return jnp.where(_IS_SPIKE, 1.0, size)


def _direction(key):
  vector = jax.random.normal(key, (3,))
  return vector / jnp.linalg.norm(vector)
