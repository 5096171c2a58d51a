"""Competition pages with their truth as a TFDS dataset: `python -m data_builders.ecg_pages --data DIR --out DIR`."""
