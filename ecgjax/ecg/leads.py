"""The twelve standard leads: their names and order, and the limb leads as combinations of I and II."""


LEADS = ('I', 'II', 'III', 'aVR', 'aVL', 'aVF', 'V1', 'V2', 'V3', 'V4', 'V5', 'V6')
LIMBS = {'I': (1.0, 0.0), 'II': (0.0, 1.0), 'III': (-1.0, 1.0), 'aVR': (-0.5, -0.5), 'aVL': (1.0, -0.5), 'aVF': (-0.5, 1.0)}  # of I, II


def twelve(eight):
  """Derives the four dependent limb leads, by Einthoven's and Goldberger's formulas.

  Args:
    eight: (..., 8, T) leads I, II, V1..V6, numpy or JAX, floating point.

  Returns:
    (..., 12, T) in the order of LEADS, same unit, same kind of array: III = II - I, aVR = -(I + II)/2,
    aVL = I - II/2, aVF = II - I/2.
  """
  xp = eight.__array_namespace__()
  i, ii = eight[..., :1, :], eight[..., 1:2, :]
  return xp.concat([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, eight[..., 2:, :]], axis=-2)
