import { TandemError } from './types'
import type { Role, RunInfo, RunOutput, SessionInfo } from './types'

export interface RestOptions {
  /** The server's address with any path before its own, as "https://host/prefix/". */
  base: string | URL
  /** Empty or absent: none is sent. */
  token?: string
  fetch?: typeof fetch
}

/** The server's REST door, as far as a client beside a {@link Stream} needs it. Every method rejects with a {@link TandemError}. */
export class Rest {
  readonly base: URL
  readonly token: string
  private readonly fetch: typeof fetch

  constructor(options: RestOptions) {
    this.base = new URL(options.base)
    this.token = options.token ?? ''
    this.fetch = options.fetch ?? ((...a) => fetch(...a))
  }

  /** The sessions, and what this client may do. */
  list(): Promise<{ sessions: SessionInfo[]; role?: Role }> {
    return this.call('GET', 'session')
  }

  get(id: string): Promise<SessionInfo> {
    return this.call('GET', path(id))
  }

  /** Makes a session and returns its id. A missing cwd is made too. */
  async create(options: { cwd?: string; name?: string; env?: Record<string, string> } = {}): Promise<string> {
    const made = await this.call<{ session_id: string }>('POST', 'session', options)
    return made.session_id
  }

  rename(id: string, name: string): Promise<SessionInfo> {
    return this.call('PATCH', path(id), { name })
  }

  /** Ends a session; resolves when every process of it is gone. */
  remove(id: string): Promise<void> {
    return this.call('DELETE', path(id))
  }

  /** The runs that are remembered, newest first. */
  async runs(id: string): Promise<RunInfo[]> {
    return (await this.call<{ runs: RunInfo[] }>('GET', path(id, 'run'))).runs
  }

  run(id: string, run_id: string): Promise<RunInfo> {
    return this.call('GET', path(id, 'run', run_id))
  }

  /** What is kept of a run's output. */
  output(id: string, run_id: string): Promise<RunOutput> {
    return this.call('GET', path(id, 'run', run_id, 'output'))
  }

  interrupt(id: string, run_id?: string, force = false): Promise<void> {
    return this.call('POST', path(id, 'interrupt'), { force, ...(run_id && { run_id }) })
  }

  private async call<T>(method: string, where: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = { Accept: 'application/json' }
    if (this.token) headers['Authorization'] = `Bearer ${byteString(this.token)}`
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    let res: Response
    let text: string
    try {
      res = await this.fetch(new URL(where, this.base), { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) })
      text = await res.text()
    } catch (e) {
      throw new TandemError('NETWORK', `the server cannot be reached: ${e instanceof Error ? e.message : String(e)}`)
    }
    const answer = parse(text)
    if (res.ok) return answer as T
    const { code, message } = (answer ?? {}) as { code?: string; message?: string }
    throw new TandemError(code ?? 'NETWORK', message ?? `the server answered ${res.status}`, res.status)
  }
}

/** Text as a header can carry it: each byte of its UTF-8 as a character. */
export function byteString(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text))
}

function path(...parts: string[]): string {
  return ['session', ...parts.map(encodeURIComponent)].join('/')
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : undefined
  } catch {
    return undefined
  }
}
