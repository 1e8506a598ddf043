// What can go wrong, as a program tells it apart.

/** What a refusal or failure is about. A server may know more of them than this client. */
export type ErrorCode =
  // The server's, with the status they have over REST.
  | 'INVALID_REQUEST_BODY' | 'UNAUTHORIZED' | 'FORBIDDEN' | 'CONTEXT_NOT_FOUND' | 'RUN_NOT_FOUND'
  | 'RUN_NOT_RUNNING' | 'RUN_EXISTS' | 'QUEUE_FULL' | 'NO_STDIN' | 'BUSY' | 'TOO_LARGE' | 'TOO_MANY'
  | 'UNKNOWN_TYPE' | 'RUNTIME_ERROR'
  // This client's, with status 0.
  | 'NETWORK' | 'CONNECTION_LOST' | 'PROTOCOL' | 'NO_WEBSOCKET' | 'CLOSED' | 'NOT_STARTED' | 'INPUT_SHARED'
  | (string & {})

/**
 * Everything that this package rejects with, but for the reason of an AbortSignal of yours.
 * It is always one of {@link RefusedError}, {@link ConnectionError} and {@link ClosedError}.
 */
export abstract class TandemError extends Error {
  readonly code: ErrorCode
  /** The HTTP status that goes with the code; 0 where no server has answered. */
  readonly status: number
  constructor(code: ErrorCode, message: string, status: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.status = status
  }
}

/** The server has understood and said no. The message says what would be right; asking again as before does not help. */
export class RefusedError extends TandemError {
  override readonly name = 'RefusedError'
  constructor(code: ErrorCode, message: string, status = statusOf(code)) {
    super(code, message, status)
  }
}

/** The server could not be asked, or what became of a request is not known. Trying again may help. */
export class ConnectionError extends TandemError {
  override readonly name = 'ConnectionError'
  constructor(code: ErrorCode, message: string, options: { status?: number; cause?: unknown } = {}) {
    super(code, message, options.status ?? 0, options.cause)
  }
}

/** What was asked for is over: the session has ended, was closed here, or a run ended before. */
export class ClosedError extends TandemError {
  override readonly name = 'ClosedError'
  constructor(code: ErrorCode, message: string) {
    super(code, message, 0)
  }
}

/** The status that an error has over REST, where a message of the WebSocket has none. */
function statusOf(code: string): number {
  const known: Record<string, number> = {
    UNAUTHORIZED: 401, FORBIDDEN: 403, CONTEXT_NOT_FOUND: 404, RUN_NOT_FOUND: 404, TOO_LARGE: 413, TOO_MANY: 429, RUNTIME_ERROR: 500,
    INVALID_REQUEST_BODY: 400, UNKNOWN_TYPE: 400,
  }
  return known[code] ?? 409
}
