// A server for tests: a journal, and sockets that speak for it as the real one does.

import { outputHeader } from './wire.js'

export type Entry = { pos: number; size: number; message: Record<string, unknown> | Uint8Array; run?: number }

/** Keeps a journal and serves it to any number of sockets, within their windows. */
export class FakeServer {
  readonly entries: Entry[] = []
  readonly sockets: FakeSocket[] = []
  end = 0
  oldest = 0
  role = 'control'
  refuse = false // connections fail before they open
  readonly received: Record<string, unknown>[] = []
  onRequest: (socket: FakeSocket, m: Record<string, unknown>) => void = () => {}

  /** What is to be given to the client as WebSocket. */
  readonly socket = ((server: FakeServer) =>
    class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(server, url, protocols)
      }
    })(this) as unknown as typeof WebSocket

  get last(): FakeSocket {
    const socket = this.sockets.at(-1)
    if (!socket) throw new Error('nobody has connected')
    return socket
  }

  event(message: Record<string, unknown>): void {
    this.entries.push({ pos: this.end, size: 1, message: { ...message, pos: this.end } })
    this.end++
    this.flush()
  }

  output(bytes: Uint8Array | string, run = 1): void {
    const data = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes
    this.entries.push({ pos: this.end, size: data.length, message: data, run })
    this.end += data.length
    this.flush()
  }

  /** Drops what lies before pos. */
  forget(pos: number): void {
    this.oldest = pos
    while (this.entries[0] && this.entries[0].pos + this.entries[0].size <= pos) this.entries.shift()
  }

  flush(): void {
    for (const s of this.sockets) s.flush()
  }
}

export class FakeSocket {
  binaryType = ''
  onmessage: ((e: { data: string | ArrayBuffer }) => void) | null = null
  onclose: ((e: { code: number }) => void) | null = null
  readonly query: URLSearchParams
  open = false
  closed = false
  sent = 0 // position after what was sent
  acked = 0
  worst = 0 // most that was ever in flight
  frame = 7 // most bytes in an output frame
  private readonly window: number

  constructor(readonly server: FakeServer, readonly url: string, readonly protocols: string[]) {
    this.query = new URL(url).searchParams
    this.window = Number(this.query.get('window'))
    server.sockets.push(this)
    if (server.refuse) queueMicrotask(() => this.drop(1006))
  }

  /** Lets the connection begin. */
  accept(): void {
    if (this.closed) return
    this.open = true
    const { end, oldest, role } = this.server
    const tail = this.query.get('tail')
    const asked = this.query.get('after')
    this.sent = this.acked = asked !== null ? Number(asked) : tail !== null ? Math.max(oldest, end - Number(tail)) : end
    this.give({ type: 'attached', session_id: 's', pos: this.sent, state: 'idle', cwd: '/', role, oldest, stdin_window: 100, server: 'fake' })
    if (this.sent < oldest) {
      this.give({ type: 'gap', from: this.sent, to: oldest, finished: this.gapFinished })
      this.sent = this.acked = oldest
    }
    this.flush()
  }

  gapFinished: Record<string, unknown>[] = []

  flush(): void {
    for (const e of this.server.entries) {
      while (this.open && !this.closed && this.sent >= e.pos && this.sent < e.pos + e.size) {
        const room = this.window - (this.sent - this.acked)
        if (room <= 0) return
        if (!(e.message instanceof Uint8Array)) {
          this.sent++
          this.give(e.message)
          continue
        }
        const from = this.sent - e.pos
        const piece = e.message.subarray(from, from + Math.min(room, this.frame))
        this.sent += piece.length
        this.worst = Math.max(this.worst, this.sent - this.acked)
        this.raw(frame(1, e.pos + from, e.run ?? 0, piece))
      }
    }
  }

  give(message: Record<string, unknown>): void {
    if (!this.closed) this.onmessage?.({ data: JSON.stringify(message) })
  }

  raw(data: ArrayBuffer | string): void {
    if (!this.closed) this.onmessage?.({ data })
  }

  send(text: string): void {
    if (this.closed) throw new Error('sent on a closed socket')
    const m = JSON.parse(text) as Record<string, unknown>
    this.server.received.push(m)
    if (m['type'] === 'ack') {
      if (Number(m['pos']) > this.sent) throw new Error(`acknowledged ${String(m['pos'])} of ${this.sent}`)
      this.acked = Math.max(this.acked, Number(m['pos']))
      queueMicrotask(() => this.flush())
    } else if (m['type'] === 'ping') this.give({ type: 'pong', ref: m['ref'] })
    else this.server.onRequest(this, m)
  }

  close(): void {
    this.closed = true
  }

  /** The connection breaks. */
  drop(code = 1006): void {
    if (this.closed) return
    this.closed = true
    this.onclose?.({ code })
  }
}

export function frame(channel: number, pos: number, run: number, data: Uint8Array): ArrayBuffer {
  const buffer = new ArrayBuffer(outputHeader + data.length)
  const view = new DataView(buffer)
  view.setUint8(0, channel)
  view.setBigUint64(1, BigInt(pos))
  view.setUint32(9, run)
  new Uint8Array(buffer, outputHeader).set(data)
  return buffer
}
