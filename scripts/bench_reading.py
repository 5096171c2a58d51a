"""Benchmarks of what reading does: a page by its stages, the local page under requests, an archive by its readers."""

import concurrent.futures
import io
import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

import httpx
import jax
import measure
import numpy as np
from PIL import Image

from ecgjax.competition import scoring
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import digitizer, path_decoder, strip_cutting
from ecgjax.geometry import lattices
from ecgjax.io import images
from ecgjax.locate import find_page
from ecgjax.simulate import validation_set

FS = 500


def jpeg(image: np.ndarray) -> bytes:
  """Returns a picture's file."""
  out = io.BytesIO()
  Image.fromarray(image).save(out, 'JPEG', quality=92)
  return out.getvalue()


def digitize_pages(
  names: list[str], *, weights: str, engine: str, precision: str, pages: int, against: str, repeats: int, profile: str
) -> dict[str, float | str]:
  """Times the stages of reading simulated pages, and scores them.

  Args:
    names: variants of `validation_set`.
    weights: a name or a path.
    engine: of the network; of JAX's it is said, too, how near it comes to what the device could do.
    precision: of the network.
    pages: of each.
    against: another program's command, with {image} and {out}, which writes a CSV with a header of lead names, mV, at 500 Hz; read side by
      side where it is not empty.
    repeats: of the network's time.
    profile: folder for a trace of one page; none where it is empty.

  Returns:
    Medians over all pages: ms of each stage, and scores in dB.
  """
  reader = digitizer.cached(weights, engine=engine, precision=precision)
  network, decoded = digitizer.engines.load(weights, engine=engine, precision=precision)[0], jax.jit(path_decoder.soft_argmax)
  layout, frame = reader.layout, reader.frame
  cut, begins = strip_cutting.make_cut(layout=layout, frame=frame, cell=network.cell), lattices.begins(layout, frame)
  cases = [validation_set.case(mv, name, n) for name in names for n, mv in enumerate(validation_set.recordings('', count=pages))]
  rows = []
  for case in [cases[0], *cases]:  # the first twice: it compiles
    took = {}

    def stage(name, call, took=took):
      wall, core = time.perf_counter(), time.process_time()
      result = jax.block_until_ready(call())
      took[f'{name} ms'], took[f'{name} core-ms'] = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - core)
      return result

    data = jpeg(case.image)
    image = stage('opening', lambda data=data: images.open_bytes(data).read(0))
    found = stage('finding', lambda image=image: find_page.find_page(image))
    strips = stage('cutting', lambda image=image, found=found: cut(image, found.lattice))
    scores = stage('network', lambda strips=strips: network.scores(strips))
    stage('decoding', lambda scores=scores: decoded(scores, begins=begins))
    read = stage('all', lambda image=image: digitizer.digitize(image, reader=reader, fs=FS))
    took['score dB'] = _score(read.leads, case.leads)
    if against:
      start = time.perf_counter()
      took['other score dB'] = _score(_by(against, data), case.leads)
      took['other ms'] = 1e3 * (time.perf_counter() - start)
    rows.append(took)
  if profile:
    with jax.profiler.trace(profile):
      digitizer.digitize(cases[0].image, reader=reader, fs=FS)
  medians: dict[str, float | str] = {name: float(np.median([row[name] for row in rows[1:]])) for name in rows[0]}
  medians |= {'engine': reader.engine, 'precision': reader.precision}
  if reader.engine != 'jax':
    return medians
  best, run = measure.peaks('float32'), jax.jit(lambda x: network.scores(x))
  seconds, _ = measure.timed(lambda: run(strips), repeats=repeats)
  near = measure.roofline(run.lower(strips).compile(), seconds, best)
  return medians | {'peak GFLOP/s': best['flops_per_s'] / 1e9, **{f'network {k}': v for k, v in near.items()}}


def _score(found: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray]) -> float:
  """The competition's score of a page in dB, uncapped; what is missing is 0 mV, as it has it."""
  padded = {lead: np.nan_to_num(np.pad(np.asarray(found.get(lead, ()), float), (0, len(mv)))[: len(mv)]) for lead, mv in true.items()}
  return 10 * float(np.log10(scoring.reference_ratio(true, padded, fs=FS, cap=1e6)))


def _by(command: str, data: bytes) -> dict[str, np.ndarray]:
  with tempfile.TemporaryDirectory() as folder:
    image, out = pathlib.Path(folder) / 'page.jpg', pathlib.Path(folder) / 'page.csv'
    image.write_bytes(data)
    subprocess.run([word.format(image=image, out=out) for word in shlex.split(command)], check=True, capture_output=True)
    table = np.genfromtxt(out, delimiter=',', names=True)
  return {lead: table[lead][~np.isnan(table[lead])] for lead in LEADS if lead in (table.dtype.names or ())}


def serve_requests(*, clients: int, requests: int, jobs: int) -> dict[str, float | str]:
  """Times requests of several clients to `ecgjax serve`: pages to be read, pictures to be shown, the page itself."""
  page = jpeg(validation_set.case(validation_set.recordings('', count=1)[0], '0003', 0).image)
  command = [sys.executable, '-m', 'ecgjax', 'serve', '--port', '0', '--jobs', str(jobs)]
  numbers: dict[str, float | str] = {}
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
    url, token = re.findall(r'(http://\S+)/#(\S+)', server.stdout.readline() if server.stdout else '')[0]
    ask = httpx.Client(base_url=url, headers={'authorization': f'Bearer {token}'}, timeout=600)
    calls = {
      'start': lambda: ask.get('/'), 'picture': lambda: ask.post('/api/picture', files={'file': page}),
      'digitize': lambda: ask.post('/api/digitize', files={'file': page}),
    }  # fmt: skip

    def once(call) -> float:
      start = time.perf_counter()
      call().raise_for_status()
      return 1e3 * (time.perf_counter() - start)

    with ask, concurrent.futures.ThreadPoolExecutor(clients) as pool:
      for name, call in calls.items():
        list(pool.map(once, [call] * 2 * jobs))  # compiles
        start = time.perf_counter()
        took = list(pool.map(once, [call] * requests))
        numbers[f'{name} requests/s'] = requests / (time.perf_counter() - start)
        numbers |= {f'{name} p{share} ms': float(np.percentile(took, share)) for share in (50, 95)}
    server.terminate()
  return numbers


def archive_pages(*, pages: int, jobs: list[int], with_ray: bool) -> dict[str, float | str]:
  """Times `ecgjax archive` over clean pages by its readers: pages a second once all are at work, and how that grows with them."""
  from ecgjax.archive import listing, local_runner, parquet_store, partition, ray_pipeline
  from ecgjax.jobs import page_job

  none, settings = parquet_store.CompletedPages(np.zeros(0, 'S16'), {}), partition.ReadSettings(page_job.Options(), 300.0, '')
  numbers: dict[str, float | str] = {}
  with tempfile.TemporaryDirectory() as folder:
    for n, mv in enumerate(validation_set.recordings('', count=pages)):
      (pathlib.Path(folder) / f'{n}.jpg').write_bytes(jpeg(validation_set.case(mv, '0001', n).image))
    units = partition.parted(list(listing.listed([folder], exclude='/nowhere')))
    for count, ray in itertools.product(jobs, [False, True] if with_ray else [False]):
      if ray:
        with ray_pipeline.connected():
          rate = _rate(ray_pipeline.read(units, lambda: none, settings, jobs=count), skip=2 * count)
      else:
        rate = _rate(local_runner.read(units, none, settings, jobs=count), skip=2 * count)
      name = f'{"Ray" if ray else "alone"}, {count} readers'
      numbers[f'{name} pages/s'] = rate
      first = numbers[f'{name.split(",")[0]}, {jobs[0]} readers pages/s']
      numbers[f'{name} efficiency'] = rate / float(first) * jobs[0] / count
  return numbers | {'cores': float(len(os.sched_getaffinity(0)))}


def _rate(tables, *, skip: int) -> float:
  """Pages a second after the first `skip`, for which readers compile."""
  at = []
  for table in tables:
    at += [time.perf_counter()] * len(table)
  return (len(at) - skip) / (at[-1] - at[skip - 1])
