import { Rest } from './rest.js'
import type { RestOptions } from './rest.js'
import { Session } from './session.js'
import type { SessionOptions } from './session.js'
import type { SocketClass } from './socket.js'

export interface ClientOptions extends RestOptions {
  /** In place of the platform's, or of the package "ws" where it has none. */
  WebSocket?: SocketClass
}

/** A server: its sessions over REST, and the way to attach to one. */
export class Client extends Rest {
  private readonly server: ClientOptions

  constructor(options: ClientOptions) {
    super(options)
    this.server = options
  }

  /**
   * Attaches to a session. It returns at once: {@link Session.attached} tells when, or why
   * not. Without after or tail, what is told begins now.
   */
  attach(id: string, options: SessionOptions = {}): Session {
    const { base, token, fetch, WebSocket } = { ...this.server, base: this.base }
    return new Session({ base, ...(token && { token }), ...(fetch && { fetch }) }, id, { ...(WebSocket && { WebSocket }), ...options })
  }
}
