// Input on its way to runs.

import { wholeCharacters } from './bytes.js'
import { ConnectionError } from './errors.js'
import { deferred } from './runs.js'
import type { Deferred } from './runs.js'

interface Piece {
  bytes: Uint8Array
  end: number // of the flow, after it
  taken: Deferred<void>
}

/** The input of one run from here. Positions count the bytes that were written here. */
interface Flow {
  exact: boolean // nobody else writes to the run
  written: number
  sent: number // on this connection, or taken before
  reached: number // the most that was ever sent
  taken: number // by the run
  before: number // bytes that the run had taken when the flow began
  pieces: Piece[] // not taken, oldest first
  next: number // index of the first piece that is not wholly sent
  drained: Deferred<void>[] // wait for all to be sent
}

/**
 * Keeps what is sent to each run within the window that the server has room for. What was
 * sent when a connection is lost may or may not have arrived. Where nobody else writes to the
 * run, each piece says where it belongs, and what is not known to have been taken is sent
 * again. Else it must not be repeated, and is reported as lost.
 */
export class Input {
  private readonly flows = new Map<string, Flow>()
  private readonly before = new Map<string, number>()
  private window = 0

  /** send puts bytes into the input of a run, after so many others if that is given. */
  constructor(private readonly send: (run_id: string, bytes: Uint8Array, offset: number | undefined) => void) {}

  /**
   * Begins anew on a connection whose server holds this many bytes of each run's input. Half
   * of that is used: what an earlier connection sent may lie there too.
   */
  open(window: number): void {
    this.window = Math.ceil(window / 2)
    for (const run_id of this.flows.keys()) this.pump(run_id)
  }

  /** Resolves when the run has taken the bytes, which must not change until then. */
  write(run_id: string, bytes: Uint8Array, exact: boolean): Promise<void> {
    if (bytes.length === 0) return Promise.resolve()
    const flow = this.flow(run_id, exact)
    flow.written += bytes.length
    const taken = deferred<void>()
    flow.pieces.push({ bytes, end: flow.written, taken })
    this.pump(run_id)
    return taken.promise
  }

  /** Resolves once everything that was written to the run has been sent on this connection. */
  afterAll(run_id: string): Promise<void> {
    const flow = this.flows.get(run_id)
    if (!flow || flow.sent === flow.written) return Promise.resolve()
    const sent = deferred<void>()
    flow.drained.push(sent)
    return sent.promise
  }

  /** bytes counts all that the run has taken, from whomever. */
  acked(run_id: string, bytes: number): void {
    const flow = this.flows.get(run_id)
    if (!flow) return
    const taken = bytes - flow.before
    if (flow.exact && taken > flow.reached) {
      // Where the others' bytes lie among these is not known: this goes on without places.
      this.drop(run_id, shared())
      this.flow(run_id, false).before = bytes
      return
    }
    flow.taken = Math.max(flow.taken, Math.min(taken, flow.reached))
    flow.sent = Math.max(flow.sent, flow.taken)
    while (flow.pieces[0] && flow.pieces[0].end <= flow.taken) {
      flow.pieces.shift()?.taken.resolve()
      flow.next = Math.max(0, flow.next - 1)
    }
    this.pump(run_id)
  }

  /** Ends the input of a run that has ended or takes none. */
  end(run_id: string, reason: unknown): void {
    this.drop(run_id, reason)
    this.before.delete(run_id)
  }

  /** The connection is lost, and with it what was on its way. */
  lost(): void {
    this.window = 0
    for (const [run_id, flow] of [...this.flows]) {
      if (flow.exact) {
        flow.sent = flow.taken
        flow.next = 0
      } else this.drop(run_id, new ConnectionError('CONNECTION_LOST', 'the connection was lost before the run had taken its input'))
    }
  }

  /** There will be no other connection. */
  closed(error: unknown): void {
    for (const run_id of [...this.flows.keys()]) this.end(run_id, error)
  }

  private drop(run_id: string, reason: unknown): void {
    const flow = this.flows.get(run_id)
    if (!flow) return
    this.flows.delete(run_id)
    this.before.set(run_id, flow.before + flow.taken)
    for (const p of flow.pieces) p.taken.reject(reason)
    for (const d of flow.drained) d.reject(reason)
  }

  private flow(run_id: string, exact: boolean): Flow {
    let flow = this.flows.get(run_id)
    if (!flow) {
      const before = this.before.get(run_id) ?? 0
      flow = { exact, written: 0, sent: 0, reached: 0, taken: 0, before, pieces: [], next: 0, drained: [] }
      this.flows.set(run_id, flow)
    }
    return flow
  }

  private pump(run_id: string): void {
    const flow = this.flows.get(run_id)
    if (!flow) return
    for (let piece = flow.pieces[flow.next]; piece; piece = flow.pieces[flow.next]) {
      const room = this.window - (flow.sent - flow.taken)
      const rest = piece.bytes.subarray(piece.bytes.length - (piece.end - flow.sent))
      const cut = wholeCharacters(rest, Math.max(0, Math.min(room, maxPiece)))
      if (cut === 0) return
      const offset = flow.exact ? flow.before + flow.sent : undefined
      flow.sent += cut
      flow.reached = Math.max(flow.reached, flow.sent)
      if (flow.sent === piece.end) flow.next++
      this.send(run_id, rest.subarray(0, cut), offset)
    }
    for (const d of flow.drained.splice(0)) d.resolve()
  }
}

function shared(): ConnectionError {
  return new ConnectionError('INPUT_SHARED', "another client has written to this run too, and what of this input has arrived is not known: write with the session's stdin, which goes after whatever has come")
}

// Input is sent in pieces of this many bytes, so that an interrupt need not wait for more.
const maxPiece = 64 << 10
