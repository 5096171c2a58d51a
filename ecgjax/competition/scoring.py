"""The competition's score, and per-lead numbers without its cap and alignment.

Leads in mV, time in samples at fs (Hz), lag k > 0 when the prediction comes k samples too early. An image's ratio is
linear, the pooled signal power over the pooled noise power of its 12 leads; a score is 10 log10 of a mean of ratios, in
dB. `power`, `ratio` and `score_db` run inside jit, vmap and grad; `reference_*` is the reference, in NumPy float64.

Source: the metric of Kaggle "PhysioNet - Digitization of ECG Images". It breaks ties between lags by equality of
floats, which is arbitrary after an FFT (a flat prediction correlates with nothing). Here correlations that differ by less
than their round-off are equal, and the smallest |lag| wins, the negative one first.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS

MAX_SHIFT_S = 0.2
CAP_PUBLISHED = 384.0  # linear, 25.8433 dB: the published metric
CAP_OPEN = 1e6  # linear, 60 dB: the copies of two gold teams
FLOOR_DB = -384.0  # the published score of images whose labels are all zero
_TIE_EPS = 32  # round-off of the longest correlation, in units of eps * |true| * |pred|

Leads = Mapping[str, np.ndarray]


class ImageReport(NamedTuple):
  """Scores of one page; dicts are keyed by lead name."""

  ratio: float  # linear, at CAP_PUBLISHED
  ratio_open: float  # linear, at CAP_OPEN
  db: float
  db_open: float
  lead_db: dict[str, float]  # each lead on its own, aligned as in the score, at CAP_OPEN
  lead_r: dict[str, float]  # of the raw samples: not aligned
  lead_rmse_uv: dict[str, float]  # of the raw samples: not aligned, offset not removed


def max_shift_samples(fs: float) -> int:
  """Returns the largest shift of a lead in samples at `fs` Hz: 0.2 s, rounded down."""
  return int(fs * MAX_SHIFT_S)


def power(true: jax.Array, pred: jax.Array, valid: jax.Array, *, max_shift: int) -> tuple[jax.Array, jax.Array]:
  """Returns signal and noise power of one image after the score's alignment; batch it with vmap.

  Differentiable except for the choice of the lag, which is held fixed. From `reference_ratio`, on real ECGs, float64 is
  within 1e-13 dB and float32 within 1e-6 dB (at 60 dB: 1e-4; where lags nearly tie, as in noise alone: 1e-3).

  Args:
    true: (L, T) mV, one lead a row, padded at its end with anything.
    pred: (L, T) mV. A nan or inf among the valid samples makes the noise non-finite.
    valid: (L, T) bool, a prefix of each row; a row with none adds nothing.
    max_shift: largest lag tried, in samples >= 0; `max_shift_samples(fs)`. Static.

  Returns:
    Two scalars in mV^2: the sums of true^2 and of (true - aligned prediction)^2 over all leads. ECGError if the
    shapes differ or are not (L, T), or max_shift is negative.
  """
  if not (true.ndim == 2 and true.shape == pred.shape == valid.shape):
    raise ECGError(f'power: true {true.shape}, pred {pred.shape}, valid {valid.shape} must be one shape (L, T)')
  if max_shift < 0:
    raise ECGError(f'power: max_shift={max_shift} must be >= 0; take it from max_shift_samples(fs)')
  signal, noise = jax.vmap(lambda *lead: _lead_power(*lead, max_shift=max_shift))(true, pred, valid)
  return signal.sum(), noise.sum()


def _lead_power(true: jax.Array, pred: jax.Array, valid: jax.Array, *, max_shift: int) -> tuple[jax.Array, jax.Array]:
  true, pred = jnp.where(valid, true, 0), jnp.where(valid, pred, 0)
  lag = _best_lag(jax.lax.stop_gradient(true), jax.lax.stop_gradient(pred), valid, max_shift=max_shift)
  source = jnp.arange(true.size) - lag
  overlap = valid & (source >= 0) & (source < valid.sum())
  shifted = jnp.take(pred, source, mode='clip')
  offset = jnp.where(overlap, shifted - true, 0).sum() / jnp.maximum(overlap.sum(dtype=true.dtype), 1)
  return jnp.sum(true**2), jnp.sum((true - jnp.where(overlap, shifted - offset, 0)) ** 2)


def _best_lag(true: jax.Array, pred: jax.Array, valid: jax.Array, *, max_shift: int) -> jax.Array:
  reach = min(max_shift, true.size - 1)
  size = 1 << (true.size + reach - 1).bit_length()  # a circle wide enough that no lag within reach wraps around
  true, pred = _centred(true, valid), _centred(pred, valid)
  circular = jnp.fft.irfft(jnp.fft.rfft(true, size) * jnp.fft.rfft(pred, size).conj(), size)
  lags = np.array(sorted(range(-reach, reach + 1), key=abs))
  correlation = circular[lags % size]
  tie = _TIE_EPS * jnp.finfo(true.dtype).eps * jnp.linalg.norm(true) * jnp.linalg.norm(pred)
  return jnp.asarray(lags)[jnp.argmax(correlation >= correlation.max() - tie)]


def _centred(x: jax.Array, valid: jax.Array) -> jax.Array:
  count = jnp.maximum(valid.sum(dtype=x.dtype), 1)
  for _ in range(2):  # one mean leaves a rest of a constant, which would correlate with something
    x = jnp.where(valid, x - x.sum() / count, 0)
  return x


def ratio(signal: jax.Array, noise: jax.Array, *, cap: float = CAP_PUBLISHED) -> jax.Array:
  """Returns min(signal / noise, cap), element-wise: cap without noise, else 0 for silence; no gradient at the cap."""
  noisy = noise != 0
  capped = jnp.minimum(signal / jnp.where(noisy, noise, 1), cap)
  return jnp.where(noisy, capped, cap)


def score_db(ratios: jax.Array, *, axis: int | tuple[int, ...] | None = None) -> jax.Array:
  """Returns 10 log10 of the mean of linear ratios over `axis`, in dB, not below FLOOR_DB (where the gradient is 0)."""
  mean = jnp.mean(ratios, axis=axis)
  silent = mean == 0
  return jnp.where(silent, FLOOR_DB, jnp.maximum(10 * jnp.log10(jnp.where(silent, 1, mean)), FLOOR_DB))


def reference_ratio(true: Leads, pred: Leads, *, fs: float, cap: float = CAP_PUBLISHED) -> float:
  """Returns the published linear ratio of one image, in [0, cap], in float64 and without an FFT.

  `true` and `pred` map the 12 names of LEADS to (n,) mV, each lead with its own n; `fs` in Hz is int(len(II) / 10).
  Without noise the ratio is `cap`, else 0 for an all-zero label.

  Raises:
    ECGError: for a missing or empty lead, unequal lengths, a nan or inf on either side, or fs that does not fit.
  """
  return _pooled(_powers(true, pred, fs=fs), cap=cap)


def reference_score(ratios: Iterable[float]) -> float:
  """Returns `score_db` of all ratios in float64; ECGError if there is none or one is negative or nan."""
  values = np.asarray(list(ratios), dtype=np.float64)
  if not values.size or not (values >= 0).all():
    raise ECGError(f'reference_score: got {values.size} ratios {values[:3]}; need at least one, all >= 0')
  return max(10 * float(np.log10(values.mean())), FLOOR_DB) if values.any() else FLOOR_DB


def image_report(true: Leads, pred: Leads, *, fs: float) -> ImageReport:
  """Scores one page as the competition does, and reports unaligned numbers of each lead.

  Args:
    true: lead name -> (n,) mV of all 12 leads, each with its own n.
    pred: the same, of the same lengths.
    fs: Hz, int(len(II) / 10).

  Returns:
    The report: linear ratio and dB at the published cap (25.84 dB) and at 60 dB, dB, correlation and rms error in uV of each lead.

  Raises:
    ECGError: for a missing or empty lead, unequal lengths, a nan or inf on either side, or fs that does not fit.
  """
  powers = _powers(true, pred, fs=fs)
  capped, opened = (_pooled(powers, cap=cap) for cap in (CAP_PUBLISHED, CAP_OPEN))
  return ImageReport(
    capped,
    opened,
    reference_score([capped]),
    reference_score([opened]),
    {lead: reference_score([_pooled([pair], cap=CAP_OPEN)]) for lead, pair in zip(LEADS, powers, strict=True)},
    {lead: pearson_r(true[lead], pred[lead]) for lead in LEADS},
    {lead: rmse_uv(true[lead], pred[lead]) for lead in LEADS},
  )


def pearson_r(true: np.ndarray, pred: np.ndarray) -> float:
  """Returns the correlation of two (n,) signals over the samples finite in both; nan if either is flat or none is."""
  y, p = _common(true, pred)
  return float(np.corrcoef(y, p)[0, 1]) if y.size and np.ptp(y) and np.ptp(p) else float('nan')


def rmse_uv(true: np.ndarray, pred: np.ndarray) -> float:
  """Returns the rms error in uV of two (n,) signals in mV over the samples finite in both; nan if none is."""
  y, p = _common(true, pred)
  return 1e3 * float(np.sqrt(np.mean((y - p) ** 2))) if y.size else float('nan')


def _common(true: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  y, p = np.asarray(true, dtype=np.float64), np.asarray(pred, dtype=np.float64)
  if y.ndim != 1 or y.shape != p.shape:
    raise ECGError(f'true {y.shape} and pred {p.shape} must be 1-D and of one length; resample the prediction to it')
  both = np.isfinite(y) & np.isfinite(p)
  return y[both], p[both]


def _powers(true: Leads, pred: Leads, *, fs: float) -> list[tuple[float, float]]:
  """Returns (signal, noise) of every lead after checking what the competition checks."""
  for lead in LEADS:
    for side, leads in (('true', true), ('pred', pred)):
      if lead not in leads:
        raise ECGError(f'{side} has no lead {lead}; the score needs all of {", ".join(LEADS)}')
      if not np.isfinite(leads[lead]).all():
        raise ECGError(f'{side} lead {lead} has a nan or inf; the competition refuses both, fill gaps before scoring')
    y, p = np.shape(true[lead]), np.shape(pred[lead])
    if len(y) != 1 or y != p or not y[0]:
      raise ECGError(f'lead {lead}: true {y} and pred {p} must be one shape (n,), n > 0; obey number_of_rows')
  if fs != len(true['II']) // 10:
    raise ECGError(f'fs={fs} must be int(len(II) / 10) = {len(true["II"]) // 10}; see fs in train.csv or test.csv')
  return [_reference_power(true[lead], pred[lead], max_shift=max_shift_samples(fs)) for lead in LEADS]


def _pooled(powers: Iterable[tuple[float, float]], *, cap: float) -> float:
  signal, noise = np.sum(list(powers), axis=0)
  return float(min(signal / noise, cap)) if noise else cap


def _reference_power(true: np.ndarray, pred: np.ndarray, *, max_shift: int) -> tuple[float, float]:
  true, pred = np.asarray(true, dtype=np.float64), np.asarray(pred, dtype=np.float64)
  count, reach = len(true), min(max_shift, len(true) - 1)
  # Entry k of the valid part is lag k - reach.
  correlation = np.correlate(np.pad(true - true.mean(), reach), pred - pred.mean(), 'valid')
  tie = _TIE_EPS * np.finfo(np.float64).eps * np.linalg.norm(true) * np.linalg.norm(pred)
  lag = min(np.flatnonzero(correlation >= correlation.max() - tie) - reach, key=abs)
  shifted, overlap = pred[max(-lag, 0) : count - max(lag, 0)], slice(max(lag, 0), count + min(lag, 0))
  aligned = np.zeros(count)
  aligned[overlap] = shifted - np.mean(shifted - true[overlap])
  return float(np.sum(true**2)), float(np.sum((true - aligned) ** 2))
