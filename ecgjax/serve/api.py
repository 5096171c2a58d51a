"""The JSON API and the files of the page, as a FastAPI application; the work is done by child processes."""

import asyncio
import concurrent.futures
import json
import logging
import pathlib
import tempfile
from collections.abc import Callable
from typing import Annotated, Any

import fastapi
import pebble
from fastapi import Body, Depends, File, Form, HTTPException, Query, Request, Response, UploadFile, responses, staticfiles
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.formparsers import MultiPartParser

from ecgjax.ecg.errors import ECGError
from ecgjax.io.formats import FORMATS
from ecgjax.serve import handlers

STATIC = pathlib.Path(__file__).with_name('static')
FORMATS_HERE = '<!-- formats -->'  # in index.html
WAITING = 8  # requests at work or in line, for each process
LOG = logging.getLogger('ecgjax.serve')
ABOUT = 'Reads pictures of paper ECGs. Research software, not a medical device.'
MAX_BYTES, SIGNALS_BYTES = 100 << 20, 32 << 20  # of a request; of signals, numbers in JSON, which take ten times as much memory when parsed
MultiPartParser.spool_max_size = MAX_BYTES  # a picture of a patient's ECG does not go to the disk


def max_bytes(path: str) -> int:
  """Returns the maximum size in bytes of a request to a path."""
  return SIGNALS_BYTES if path == '/api/save' else MAX_BYTES


def make(children, *, limit_s: float, defaults: handlers.DigitizeRequest, scratch: str | None = None) -> fastapi.FastAPI:
  """Makes the application.

  Args:
    children: their `schedule(function, args=, kwargs=, timeout=)` returns a future; `process_pool.Children`.
    limit_s: for one request; its process is killed after it.
    defaults: weights and engine; the other options come with each request.
    scratch: folder for files to be downloaded; None for the system's temporary folder.

  Returns:
    The application, without authentication: see `app.guarded`.
  """
  secret = Depends(HTTPBearer(auto_error=False, description='what `ecgjax serve` shows after #'))  # said here, held by `app.guarded`
  app = fastapi.FastAPI(
    title='ecgjax', description=ABOUT, docs_url=None, redoc_url=None, openapi_url='/api/openapi.json', dependencies=[secret]
  )
  app.add_exception_handler(RequestValidationError, _refused)
  done = _runner(children, limit_s=limit_s)

  @app.post('/api/picture', responses={200: {'content': {'image/jpeg': {}}}}, response_class=Response)
  async def picture(request: Request, file: Annotated[UploadFile, File()], page: Annotated[int, Form(ge=1)] = 1):
    """Answers a page of a file as a JPEG to look at; x-pages, x-width and x-height tell of the file and the original picture."""
    result = await done(request, handlers.picture, await file.read(), page - 1)
    headers = {'x-pages': str(result.pages), 'x-width': str(result.width_px), 'x-height': str(result.height_px)}
    return Response(result.jpeg, media_type='image/jpeg', headers=headers)

  @app.post('/api/digitize')
  async def digitize(
    request: Request, file: Annotated[UploadFile, File(description='picture, PDF, DICOM')], page: Annotated[int, Form(ge=1)] = 1,
    fs: Annotated[float, Form(ge=50, le=10_000, description='Hz')] = 500.0,
    layout: Annotated[str, Form(description='auto, or a name of /api/layouts')] = 'auto',
    speed: Annotated[float, Form(description='mm/s')] = 25.0,
    gain: Annotated[float | None, Form(description='mm/mV; by the calibration pulses if left out, but needed with a lattice')] = None,
    corners: Annotated[str | None, Form(description='JSON: four [x, y], upper left, upper right, lower right, lower left')] = None,
    lattice: Annotated[str | None, Form(description='JSON: (45, 57, 2) picture px of the page, as an answer has it in lattice_px')] = None,
  ) -> dict[str, Any]:  # fmt: skip
    """Reads a page: status, warnings, quality, leads_mv (null where nothing was printed or seen) and std_mv, lattice_px, start_s, fs_hz."""
    how = defaults._replace(
      number=page - 1, fs=fs, layout=layout, speed_mm_s=speed, gain_mm_mv=gain, corners=_parsed('corners', corners),
      lattice=_parsed('lattice', lattice),
    )  # fmt: skip
    return await done(request, handlers.digitize, await file.read(), how)

  @app.get('/api/layouts')
  async def layouts(request: Request) -> list[str]:
    """Lists the layouts that the weights read."""
    return await done(request, handlers.layouts, defaults)

  @app.post('/api/save', response_class=Response, responses={200: {'content': {'application/octet-stream': {}}}})
  async def save(
    request: Request, leads_mv: Annotated[dict[str, list[float | None]], Body()], start_s: Annotated[dict[str, float], Body()],
    seconds: Annotated[float, Body(gt=0, le=60)], fs_hz: Annotated[float, Body(ge=50, le=10_000)], format: Annotated[str, Query()],
    name: Annotated[str, Query()] = 'ecg',
  ):  # fmt: skip
    """Writes leads as an answer of /api/digitize has them, perhaps corrected, as csv, wfdb (a zip), edf, parquet or dicom."""
    # of this process: a child may be killed and leave it, or just be ending and write in it; then `app.run` takes away what is left
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
      name, data = await done(request, handlers.save, leads_mv, start_s, name, format, folder, seconds=seconds, fs=fs_hz)
    return Response(data, media_type='application/octet-stream', headers={'content-disposition': f'attachment; filename="{name}"'})

  @app.get('/', include_in_schema=False)
  async def start():
    return responses.HTMLResponse(_index())

  app.mount('/static', staticfiles.StaticFiles(directory=STATIC))
  return app


async def _refused(_, error) -> Response:
  """Says what is wrong without what was given: FastAPI's own answer repeats it, which JSON cannot where it is Infinity, nor should."""
  detail = [{key: each[key] for key in ('loc', 'msg', 'type')} for each in error.errors()]
  return responses.JSONResponse({'detail': detail}, 422)


def _runner(children, *, limit_s: float) -> Callable:
  """Returns the function (request, function, its arguments) -> its result, run in a child; errors are raised as HTTP errors."""

  async def done(request: Request, function, *args, **options) -> Any:
    try:
      future = children.schedule(function, args=args, kwargs=options, timeout=limit_s)
      ended = asyncio.wrap_future(future)
      while not ended.done():
        await asyncio.wait([ended], timeout=0.5)
        if not ended.done() and await request.is_disconnected():
          future.cancel()  # kills the process: nobody waits for what it would find
      return ended.result()
    except concurrent.futures.TimeoutError as error:
      raise HTTPException(504, f'given up after {limit_s:g} s') from error
    except asyncio.CancelledError as error:
      raise HTTPException(499, 'the request was withdrawn') from error
    except ECGError as error:
      raise HTTPException(422, str(error)) from error
    except concurrent.futures.BrokenExecutor as error:
      raise HTTPException(503, str(error)) from error
    except pebble.ProcessExpired as error:  # memory, a decoder's crash
      raise HTTPException(500, f'the process that read it ended ({error})') from error
    except Exception as error:
      LOG.exception('a request failed')
      raise HTTPException(500, f'an error of the program, not of the picture ({type(error).__name__}: {error})') from error

  return done


def _index() -> str:
  """Returns the page, with a button for every format."""
  buttons = (f'<button type="button" value="{name}">{one.title}</button>' for name, one in FORMATS.items())
  return (STATIC / 'index.html').read_text(encoding='utf-8').replace(FORMATS_HERE, ''.join(buttons))


def _parsed(name: str, text: str | None):
  try:
    return None if text is None else json.loads(text)
  except (ValueError, RecursionError) as error:
    raise HTTPException(422, f'{name} is no JSON: {error}') from error
