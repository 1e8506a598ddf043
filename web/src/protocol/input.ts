// Input on its way to runs.

import { TandemError } from './types'
import { deferred } from './runs'

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

interface Piece {
  end: number // of the run's input by this connection, once the piece is in it
  resolve: () => void
  reject: (reason: unknown) => void
}

interface Flow {
  sent: number // bytes given to the connection
  taken: number // bytes the run has taken
  waiting: { bytes: Uint8Array; piece: Piece }[]
  pieces: Piece[] // sent and not yet taken
  closing: { resolve: () => void; reject: (reason: unknown) => void }[] // wait for all to be sent
}

/**
 * Keeps what is sent to each run within the window that the server has room for. What was
 * sent when a connection is lost may or may not have arrived, and a protocol that cannot
 * tell must not repeat it: it is reported as lost instead.
 */
export class Input {
  private readonly flows = new Map<string, Flow>()
  private readonly before = new Map<string, number>() // bytes a run had taken when its flow began
  private window = 0

  /** send puts text into the input of a run. */
  constructor(private readonly send: (run_id: string, text: string) => void) {}

  /**
   * Begins anew on a connection whose server holds this many bytes of each run's input. Half
   * of that is used: what an earlier connection sent may lie there too.
   */
  open(window: number): void {
    this.window = Math.ceil(window / 2)
    for (const run_id of this.flows.keys()) this.pump(run_id)
  }

  write(run_id: string, bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return Promise.resolve()
    try {
      decoder.decode(bytes)
    } catch {
      return Promise.reject(new TandemError('INVALID_REQUEST_BODY', 'input must be UTF-8', 400))
    }
    const flow = this.flow(run_id)
    const { promise, resolve, reject } = deferred<void>()
    flow.waiting.push({ bytes, piece: { end: 0, resolve, reject } })
    this.pump(run_id)
    return promise
  }

  /** Resolves once everything that was written to the run has been sent. */
  afterAll(run_id: string): Promise<void> {
    const flow = this.flows.get(run_id)
    if (!flow || flow.waiting.length === 0) return Promise.resolve()
    const { promise, resolve, reject } = deferred<void>()
    flow.closing.push({ resolve, reject })
    return promise
  }

  /** bytes counts all that the run has taken, from whomever. */
  acked(run_id: string, bytes: number): void {
    const flow = this.flows.get(run_id)
    const taken = bytes - (this.before.get(run_id) ?? 0)
    if (!flow) return
    flow.taken = Math.max(flow.taken, Math.min(taken, flow.sent))
    while (flow.pieces[0] && flow.pieces[0].end <= flow.taken) flow.pieces.shift()?.resolve()
    this.pump(run_id)
  }

  /** Ends the input of a run that has ended or takes none. */
  end(run_id: string, error: TandemError): void {
    this.drop(run_id, error)
    this.before.delete(run_id)
  }

  private drop(run_id: string, error: TandemError): void {
    const flow = this.flows.get(run_id)
    this.flows.delete(run_id)
    if (flow) this.before.set(run_id, (this.before.get(run_id) ?? 0) + flow.taken)
    for (const p of flow?.pieces ?? []) p.reject(error)
    for (const w of flow?.waiting ?? []) w.piece.reject(error)
    for (const c of flow?.closing ?? []) c.reject(error)
  }

  /** The connection is lost, and with it what was on its way. */
  lost(): void {
    this.window = 0
    for (const run_id of [...this.flows.keys()]) {
      this.drop(run_id, new TandemError('CONNECTION_LOST', 'the connection was lost before the run had taken its input'))
    }
  }

  private flow(run_id: string): Flow {
    let flow = this.flows.get(run_id)
    if (!flow) this.flows.set(run_id, (flow = { sent: 0, taken: 0, waiting: [], pieces: [], closing: [] }))
    return flow
  }

  private pump(run_id: string): void {
    const flow = this.flows.get(run_id)
    if (!flow) return
    for (let next = flow.waiting[0]; next; next = flow.waiting[0]) {
      const room = this.window - (flow.sent - flow.taken)
      const cut = wholeCharacters(next.bytes, Math.min(room, maxPiece))
      if (cut <= 0) return
      flow.sent += cut
      const rest = next.bytes.subarray(cut)
      const text = decoder.decode(next.bytes.subarray(0, cut))
      if (rest.length > 0) next.bytes = rest
      else {
        flow.waiting.shift()
        next.piece.end = flow.sent
        flow.pieces.push(next.piece)
      }
      this.send(run_id, text)
    }
    for (const c of flow.closing.splice(0)) c.resolve()
  }
}

// Input is sent in pieces of this many bytes, so that an interrupt need not wait for more.
const maxPiece = 64 << 10

/** The largest length up to most at which no character is cut. */
function wholeCharacters(bytes: Uint8Array, most: number): number {
  if (bytes.length <= most) return bytes.length
  let cut = most
  while (cut > 0 && ((bytes[cut] ?? 0) & 0xc0) === 0x80) cut--
  return cut
}
