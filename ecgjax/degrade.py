"""What happens to a page between printer and file. Pure functions (key, image, *, options) -> image, one example each."""

import jax
import jax.numpy as jnp


def photometric(key: jax.Array, image: jax.Array, *, strength: float) -> jax.Array:
  """Light photometric variation: exposure, contrast, colour cast, a touch of blur, sensor noise; some pages turn grey.

  Args:
    key: of this page.
    image: (H, W, 3) in 0..1.
    strength: 0 leaves the image as it is, 1 is a mediocre scanner.

  Returns:
    (H, W, 3) in 0..1.
  """
  ks = jax.random.split(key, 6)
  normal = lambda k, shape=(): jax.random.normal(k, shape)
  gain = 1 + strength * (0.06 * normal(ks[0]) + 0.03 * normal(ks[1], (3,)))
  lift = 0.04 * strength * jnp.abs(normal(ks[2]))
  image = image * gain * (1 - lift) + lift
  grey = jax.random.bernoulli(ks[3], 0.15 * strength)
  image = jnp.where(grey, jnp.broadcast_to(image.mean(-1, keepdims=True), image.shape), image)
  image = _soften(image, strength * jax.random.uniform(ks[4], maxval=0.35))
  # one value for the three colours: drawing normals is the dearest step of a page on a CPU
  noise = 0.02 * strength * jax.random.uniform(ks[5]) * normal(jax.random.fold_in(ks[5], 1), (*image.shape[:2], 1))
  return jnp.clip(image + noise, 0, 1)


def _soften(image: jax.Array, share: jax.Array) -> jax.Array:
  """Mixes each px with its neighbours: weights share/4, 1 - share/2, share/4 along either axis."""
  line = jnp.stack([share / 4, 1 - share / 2, share / 4])
  kernel = jnp.outer(line, line)[None, None]
  padded = jnp.pad(image.transpose(2, 0, 1)[:, None], ((0, 0), (0, 0), (1, 1), (1, 1)), mode='edge')
  return jax.lax.conv(padded, kernel, (1, 1), 'VALID')[:, 0].transpose(1, 2, 0)
