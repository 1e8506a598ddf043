// Where a WebSocket comes from, and how one is let go.

import { ConnectionError } from './errors.js'

/** What this client needs of a WebSocket: a browser's, Node's and the one of the package "ws" have it. */
export interface SocketLike {
  binaryType: string
  readonly readyState: number
  onmessage: ((event: any) => void) | null
  onclose: ((event: any) => void) | null
  onerror: ((event: any) => void) | null
  send(text: string): void
  close(): void
  /** Of "ws": ends the connection without waiting for the other side. */
  terminate?(): void
}

export type SocketClass = new (url: string, protocols: string[]) => SocketLike

// A bundler that knew this name would want to have it in a browser too.
const peer: string = 'ws'

/** The class that was given; else the platform's; else that of the package "ws", which must be loaded. */
export function socketClass(given: SocketClass | undefined): SocketClass | Promise<SocketClass> {
  return given ?? (globalThis as { WebSocket?: SocketClass }).WebSocket ?? loaded()
}

async function loaded(): Promise<SocketClass> {
  try {
    return ((await import(/* @vite-ignore */ /* webpackIgnore: true */ peer)) as { WebSocket: SocketClass }).WebSocket
  } catch (cause) {
    throw new ConnectionError('NO_WEBSOCKET', 'there is no WebSocket here: use Node 22 or newer, install the package "ws", or give a class as the option WebSocket', { cause })
  }
}

// How long "ws" may wait for the other side to say goodbye. Its own limit is half a minute,
// in which a process could not end.
const goodbye = 1_000

const closed = 3 // of readyState

/** Ends a connection after what was sent on it, and hears nothing more of it. */
export function release(socket: SocketLike): void {
  socket.onmessage = socket.onclose = null // onerror stays: "ws" throws what nobody listens to
  if (socket.terminate && socket.readyState !== closed) {
    const timer = setTimeout(() => socket.terminate?.(), goodbye)
    socket.onclose = () => clearTimeout(timer)
  }
  try {
    socket.close()
  } catch {} // it is closed, or was never open
}
