// Frames and messages: decoding what a server sends, and the parts of what it is sent.

import { base64, byteString } from './bytes.js'
import type { Output } from './types.js'

/** The subprotocol with output in binary frames. */
export const protocol = 'tandem.v1'

/** Length of what precedes the bytes of an output frame: channel, position, number of the run. */
export const outputHeader = 1 + 8 + 4

/** What a server must not send. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

export function decodeOutput(frame: ArrayBuffer): Output {
  if (frame.byteLength < outputHeader) throw new ProtocolError(`an output frame of ${frame.byteLength} bytes`)
  const view = new DataView(frame)
  const channel = view.getUint8(0)
  if (channel !== 1 && channel !== 2 && channel !== 3) throw new ProtocolError(`output on channel ${channel}`)
  const pos = Number(view.getBigUint64(1))
  const data = new Uint8Array(frame, outputHeader)
  if (!Number.isSafeInteger(pos + data.length)) throw new ProtocolError(`position ${pos}`)
  return { type: 'output', channel, pos, run: view.getUint32(9), data }
}

/** A text frame. Of its fields only those are checked that everything else depends on. */
export interface Message {
  type: string
  ref?: string
  pos?: number
  from?: number
  to?: number
  [field: string]: unknown
}

export function decodeMessage(text: string): Message {
  let message: Message | null
  try {
    message = JSON.parse(text) as Message | null
  } catch {
    throw new ProtocolError('text that is not JSON')
  }
  if (message === null || typeof message !== 'object' || typeof message.type !== 'string') throw new ProtocolError('a message without a type')
  for (const field of ['pos', 'from', 'to'] as const) {
    const value = message[field]
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= 0)) throw new ProtocolError(`${field} ${String(value)}`)
  }
  if (message.type === 'gap' && !((message.from ?? NaN) <= (message.to ?? NaN))) throw new ProtocolError('a gap without its ends')
  return message
}

/** How a client that cannot set headers shows its token: as a subprotocol. */
export function bearer(token: string): string {
  return 'bearer.' + btoa(byteString(token)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Input for a run. offset is how many bytes of the run's input come before it: the server
 * leaves out what it has already. Without, it is added to whatever has come.
 */
export function stdin(run_id: string, bytes: Uint8Array, offset: number | undefined): Record<string, unknown> {
  const message = { type: 'stdin', run_id, ref: `stdin ${run_id}`, ...(offset !== undefined && { offset }) }
  try {
    return { ...message, text: decoder.decode(bytes) }
  } catch {
    return { ...message, base64: base64(bytes) }
  }
}

/** The address of a session's WebSocket. */
export function socketURL(base: URL, session: string, query: Record<string, string>): string {
  const url = new URL(`session/${encodeURIComponent(session)}/ws`, base)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  url.search = new URLSearchParams(query).toString()
  return url.href
}
