// The REST door.

import { byteString } from './bytes.js'
import { ConnectionError, RefusedError } from './errors.js'
import type { Role, RunInfo, RunOutput, SessionInfo } from './types.js'

/** What this client needs of fetch. */
export type FetchLike = (url: URL, init: {
  method: string
  headers: Record<string, string>
  body?: string
  signal?: AbortSignal
}) => Promise<{ ok: boolean; status: number; text(): Promise<string> }>

export interface RestOptions {
  /** The server's address with any path before its own, as "https://host/prefix/". */
  base: string | URL
  /** Empty or absent: none is sent. */
  token?: string
  /** In place of the platform's. */
  fetch?: FetchLike
}

/** Of every request: where signal aborts, the promise rejects with its reason. What the server was asked for may have been done. */
export interface RequestOptions {
  signal?: AbortSignal
}

/** Where more is to come: wait until there is some, or the run has ended, or so many ms have passed. */
export interface WaitOptions extends RequestOptions {
  wait?: number
}

/**
 * The server's REST door: sessions, and what can be done in them without being attached.
 * Every method rejects with a {@link RefusedError} or a {@link ConnectionError}. It holds
 * nothing that would have to be closed.
 */
export class Rest {
  readonly base: URL
  readonly token: string
  private readonly fetch: FetchLike

  /** Throws a TypeError where base is not an address. */
  constructor(options: RestOptions) {
    this.base = new URL(options.base)
    if (!this.base.pathname.endsWith('/')) this.base.pathname += '/'
    this.token = options.token ?? ''
    this.fetch = options.fetch ?? ((url, init) => fetch(url, init))
  }

  /** The sessions, and what this client may do. */
  list(options?: RequestOptions): Promise<{ sessions: SessionInfo[]; role?: Role }> {
    return this.call('GET', 'session', options)
  }

  get(id: string, options?: RequestOptions): Promise<SessionInfo> {
    return this.call('GET', path(id), options)
  }

  /** Makes a session and returns its id. A missing cwd is made too. */
  async create(wanted: { cwd?: string; name?: string; env?: Record<string, string> } = {}, options?: RequestOptions): Promise<string> {
    const made = await this.call<{ session_id: string }>('POST', 'session', options, wanted)
    return made.session_id
  }

  rename(id: string, name: string, options?: RequestOptions): Promise<SessionInfo> {
    return this.call('PATCH', path(id), options, { name })
  }

  /** Ends a session; resolves when every process of it is gone. */
  delete(id: string, options?: RequestOptions): Promise<void> {
    return this.call('DELETE', path(id), options)
  }

  /** The runs that are remembered, newest first. */
  async runs(id: string, options?: RequestOptions): Promise<RunInfo[]> {
    return (await this.call<{ runs: RunInfo[] }>('GET', path(id, 'run'), options)).runs
  }

  /** What is known of a run. */
  runInfo(id: string, run_id: string, options?: WaitOptions): Promise<RunInfo> {
    return this.call('GET', path(id, 'run', run_id) + query({ wait: options?.wait }), options)
  }

  /** What is kept of a run's output, from position after on; no more than its last 8 MiB. */
  output(id: string, run_id: string, options?: WaitOptions & { after?: number }): Promise<RunOutput> {
    return this.call('GET', path(id, 'run', run_id, 'output') + query({ after: options?.after, wait: options?.wait }), options)
  }

  /** Interrupts a run, or whichever is on, as Ctrl-C does; with force, TERM and KILL follow after a second each. */
  interrupt(id: string, what: { run_id?: string; force?: boolean } = {}, options?: RequestOptions): Promise<void> {
    return this.call('POST', path(id, 'interrupt'), options, what)
  }

  /** Sends what a run has started a signal, as "SIGTERM". */
  signal(id: string, what: { signal: string; run_id?: string }, options?: RequestOptions): Promise<void> {
    return this.call('POST', path(id, 'signal'), options, what)
  }

  /** Takes a run out of the queue, or ends it. */
  cancel(id: string, run_id: string, options?: RequestOptions): Promise<void> {
    return this.call('DELETE', path(id, 'run', run_id), options)
  }

  private async call<T>(method: string, where: string, options: RequestOptions | undefined, body?: unknown): Promise<T> {
    const headers: Record<string, string> = { Accept: 'application/json' }
    if (this.token) headers['Authorization'] = `Bearer ${byteString(this.token)}`
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    const signal = options?.signal
    let res: { ok: boolean; status: number }
    let text: string
    try {
      const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }), ...(signal && { signal }) }
      const answer = await this.fetch(new URL(where, this.base), init)
      res = answer
      text = await answer.text()
    } catch (cause) {
      if (signal?.aborted) throw signal.reason
      throw new ConnectionError('NETWORK', `the server cannot be reached: ${why(cause)}`, { cause })
    }
    const answer = parse(text)
    if (res.ok) return answer as T
    const { code, message } = (answer ?? {}) as { code?: string; message?: string }
    // Whatever stands before the server does not speak as it does.
    if (code === undefined) throw new ConnectionError('NETWORK', `the server answered ${res.status}`, { status: res.status })
    throw new RefusedError(code, message ?? `the server answered ${res.status}`, res.status)
  }
}

/** Node's fetch says only "fetch failed", and in its cause why. */
function why(e: unknown): string {
  if (!(e instanceof Error)) return String(e)
  return e.cause instanceof Error && e.cause.message ? e.cause.message : e.message
}

function path(...parts: string[]): string {
  return ['session', ...parts.map(encodeURIComponent)].join('/')
}

function query(fields: Record<string, number | undefined>): string {
  const given = Object.entries(fields).flatMap(([k, v]) => (v === undefined ? [] : [`${k}=${v}`]))
  return given.length > 0 ? '?' + given.join('&') : ''
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : undefined
  } catch {
    return undefined
  }
}
