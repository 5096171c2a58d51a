"""`ecgjax serve`: authentication and request limits. Nothing is stored, nothing is sent to other hosts."""

import argparse
import asyncio
import contextlib
import hmac
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import BrokenExecutor

from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.jobs import page_job, process_pool
from ecgjax.jobs.notice import NOTICE
from ecgjax.serve import handlers

SHARED_MEMORY = '/dev/shm'
STALLED_S = 60.0  # without a byte of a body that is not at its end: it would hold a place for ever
LOOPBACK = ('127.0.0.1', 'localhost', '::1')
HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin',
}  # fmt: skip


def guarded(app, *, token: str, hosts: tuple[str, ...]):
  """Wraps an ASGI application: /api needs the token, and every answer has the headers above.

  Args:
    app: to be wrapped.
    token: required as `Authorization: Bearer TOKEN`.
    hosts: accepted names in the Host header, against foreign names that are rebound to this machine; empty for any.

  Returns:
    An ASGI application.
  """
  extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
  secret = f'Bearer {token}'.encode()

  async def guard(scope, receive, send):
    if scope['type'] != 'http':
      return await app(scope, receive, send)

    async def headed(message):
      await send({**message, 'headers': [*message['headers'], *extra]} if message['type'] == 'http.response.start' else message)

    given = {name: value.decode('latin-1') for name, value in scope['headers']}
    named = given.get(b'host', '')
    host = named[1:].partition(']')[0] if named.startswith('[') else named.partition(':')[0]
    if hosts and host not in hosts:
      return await _refuse(headed, 421, f'this is not {host}: ask for {hosts[0]}')
    if scope['path'].startswith('/api') and not hmac.compare_digest(given.get(b'authorization', '').encode(), secret):
      reason = 'the token is missing or wrong: send "Authorization: Bearer TOKEN", what `ecgjax serve` shows after #'
      return await _refuse(headed, 401, reason)
    await app(scope, receive, headed)

  return guard


def limited(app, *, max_bytes: Callable[[str], int], most: int):
  """Wraps an ASGI application: limits the size of bodies and the number of concurrent requests to /api, and so its memory.

  Args:
    app: to be wrapped.
    max_bytes: path -> maximum size of a request's body, counted as it arrives.
    most: number of requests; further ones are refused without storing their bodies.

  Returns:
    An ASGI application.
  """
  at_work = 0

  async def limit(scope, receive, send):
    nonlocal at_work
    if scope['type'] != 'http':
      return await app(scope, receive, send)
    counts, allowed = scope['path'].startswith('/api'), max_bytes(scope['path'])
    taken, more, started = 0, True, False
    wrong: tuple[int, str] | None = None

    async def counted():
      nonlocal taken, more, wrong
      try:
        message = await asyncio.wait_for(receive(), STALLED_S if more else None)
      except TimeoutError:
        wrong = 408, f'nothing came for {STALLED_S:g} s'
        return {'type': 'http.disconnect'}
      taken, more = taken + len(message.get('body', b'')), message.get('more_body', False)
      if taken > allowed:
        wrong = 413, f'the request is larger than {allowed >> 20} MiB'
      return {'type': 'http.disconnect'} if wrong else message

    async def sent(message):
      nonlocal started
      if not wrong or started:  # the application complains of half a body; what is wrong with it is said below
        started = True
        await send(message)

    if counts and at_work >= most:
      while (await counted()).get('more_body'):
        pass  # who still sends would not hear the answer
      return await _refuse(send, 503, 'too many requests are waiting; try again')
    at_work += counts
    try:
      await app(scope, counted, sent)
    except Exception:
      if not wrong:
        raise
    finally:
      at_work -= counts
    if wrong and not started:
      await _refuse(send, *wrong)

  return limit


async def _refuse(send, status: int, reason: str) -> None:
  await send({'type': 'http.response.start', 'status': status, 'headers': [(b'content-type', b'application/json')]})
  await send({'type': 'http.response.body', 'body': json.dumps({'detail': reason}).encode()})


def run(args: argparse.Namespace) -> int:
  """Runs `ecgjax serve` until it is interrupted; returns the exit code."""
  try:
    import python_multipart  # noqa: F401  # FastAPI misses it only when it makes the forms
    import uvicorn

    from ecgjax.serve import api
  except ModuleNotFoundError as error:
    raise MissingLibrary(f"serve needs {error.name}: pip install 'ecgjax[serve]'") from error
  token = args.token or secrets.token_urlsafe(24)
  defaults = handlers.DigitizeRequest(weights=args.weights, engine=args.engine, precision=args.precision)
  memory = SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None  # on Linux a signal on its way to be downloaded does not go to the disk
  with tempfile.TemporaryDirectory(dir=memory) as scratch, process_pool.Children(args.jobs) as children:
    listener = socket.create_server((args.host, args.port), family=socket.AF_INET6 if ':' in args.host else socket.AF_INET)
    app = api.make(children, limit_s=args.timeout, defaults=defaults, scratch=scratch)
    hosts = (args.host, *LOOPBACK) if args.host in LOOPBACK else ()
    app = guarded(limited(app, max_bytes=api.max_bytes, most=api.WAITING * args.jobs), token=token, hosts=hosts)
    server = uvicorn.Server(uvicorn.Config(app, log_level='warning', ws='none', timeout_graceful_shutdown=1))
    options = page_job.Options(weights=args.weights, engine=args.engine, precision=args.precision)
    checked = children.schedule(page_job.check, args=[options])
    failure = lambda: '' if not checked.done() or checked.cancelled() else str(checked.exception() or checked.result())
    checked.add_done_callback(lambda _: setattr(server, 'should_exit', server.should_exit or bool(failure())))
    host = f'[{args.host}]' if ':' in args.host else args.host
    print(f'http://{host}:{listener.getsockname()[1]}/#{token}', flush=True)  # what stands after # is not sent, no log holds it
    print(f'Open this address. Nothing is kept or sent anywhere; Ctrl-C ends it. {NOTICE}', file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that children and files go, too
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it anew when all is closed
      server.run(sockets=[listener])
    if wrong := failure():
      raise BrokenExecutor(wrong) if checked.exception() else ECGError(wrong)
  return 0
