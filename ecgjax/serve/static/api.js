// The server's API as functions. The token stands behind the address's #, which is never sent; it is kept for this tab alone.

addEventListener('hashchange', () => location.reload()); // a new address of a server that was started again
const given = location.hash.slice(1);
if (given) {
  sessionStorage.setItem('token', given);
  history.replaceState(null, '', location.pathname);
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, authorization: `Bearer ${sessionStorage.getItem('token') ?? ''}` };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const { detail } = await answer.json().catch(() => ({ detail: answer.statusText }));
  const told = typeof detail === 'string' ? detail : detail.map((part) => `${part.loc.at(-1)}: ${part.msg}`).join('; ');
  throw new Error(answer.status === 401 ? `${told} Open the whole address that it printed.` : told);
}

function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== '') body.append(name, typeof value === 'object' && !(value instanceof Blob) ? JSON.stringify(value) : value);
  }
  return body;
}

/** Returns { bitmap, page, width, height, pages }: a page as the browser shows it, its number, and the size of the original in px. */
export async function picture(file, page, signal) {
  const answer = await ask('api/picture', { method: 'POST', body: form({ file, page }), signal });
  const told = (name) => Number(answer.headers.get(name));
  const bitmap = await createImageBitmap(await answer.blob());
  signal.throwIfAborted();
  return { bitmap, page: Number(page), width: told('x-width'), height: told('x-height'), pages: told('x-pages') };
}

/** Returns the answer of /api/digitize; `how` are its fields. */
export async function digitize(file, how, signal) {
  return (await ask('api/digitize', { method: 'POST', body: form({ file, ...how }), signal })).json();
}

export async function layouts() {
  return (await ask('api/layouts')).json();
}

/** Returns { name, blob } of the leads in a format. */
export async function save(leads, format, name) {
  const query = new URLSearchParams({ format, name });
  const answer = await ask(`api/save?${query}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(leads) });
  return { name: /filename="(.+)"/.exec(answer.headers.get('content-disposition'))[1], blob: await answer.blob() };
}
