// Words for what happens in a session. Everything that comes from there is text and stays it.

/** Control characters, and those that turn the direction of what follows, made visible. */
export function plain(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => {
    const code = c.charCodeAt(0)
    if (code < 0x20) return String.fromCharCode(0x2400 + code)
    return code === 0x7f ? '\u2421' : '\ufffd'
  })
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${ms % 1000 === 0 ? ms / 1000 : (ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export function ago(then: number, now: number): string {
  const s = Math.max(0, Math.round((now - then) / 1000))
  if (s < 5) return 'now'
  if (s < 60) return `${s} s ago`
  if (s < 3600) return `${Math.floor(s / 60)} min ago`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`
  return `${Math.floor(s / 86_400)} d ago`
}

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`
  return `${(n / 1024 / 1024).toFixed(1)} MiB`
}

export interface End {
  reason: string
  exit_code?: number | null | undefined
  signal?: string | undefined
}

/** How a run ended, in a word or two. */
export function ending(end: End): string {
  const code = end.exit_code ?? ''
  switch (end.reason) {
    case 'exited':
      return code === 0 ? 'ok' : `exit ${code}`
    case 'interrupted':
      return code === 130 ? 'interrupted' : `interrupted, exit ${code}`
    case 'timed_out':
      return 'timed out'
    case 'canceled':
      return 'canceled'
    case 'shell_exited':
      return `shell lost${end.signal ? ` to ${end.signal}` : ''}, exit ${code}`
    case 'session_closed':
      return 'session closed'
    case 'refused':
      return 'refused'
    case 'lost': // the page's own word
      return 'connection lost, end unknown'
  }
  return plain(end.reason)
}

export function succeeded(end: End): boolean {
  return end.reason === 'exited' && end.exit_code === 0
}

/** The first line of some code, and how many more there are. */
export function firstLine(code: string): { line: string; more: number } {
  const lines = code.trim().split('\n')
  return { line: plain(lines[0] ?? ''), more: lines.length - 1 }
}

/** Where home is cannot be known here; a long path is shown by its end. */
export function shortPath(path: string, most = 40): string {
  const shown = plain(path)
  return shown.length <= most ? shown : '…' + shown.slice(shown.length - most + 1)
}

const askers: Record<string, string> = { rest: 'REST', ws: 'WebSocket' }

/** Who asked for a run. */
export function asker(by: string, mine: boolean): string {
  return mine ? 'you' : (askers[by] ?? plain(by))
}
