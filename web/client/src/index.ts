/**
 * A client of tandem, a server for persistent bash sessions, for browsers and Node.
 *
 * @packageDocumentation
 */

export { Client } from './client.js'
export type { ClientOptions } from './client.js'
export type { Channel, Chunk } from './collect.js'
export { ClosedError, ConnectionError, RefusedError, TandemError } from './errors.js'
export type { ErrorCode } from './errors.js'
export { Rest } from './rest.js'
export type { FetchLike, RequestOptions, RestOptions, WaitOptions } from './rest.js'
export { Run } from './run.js'
export type { RunResult, SessionRunOptions } from './run.js'
export type { RunHandle, RunOptions } from './runs.js'
export { Session } from './session.js'
export type { SessionEnd, SessionOptions } from './session.js'
export type { SocketClass, SocketLike } from './socket.js'
export { Stream } from './stream.js'
export type { AttachOptions, ConnectionState, StateInfo, StreamOptions } from './stream.js'
export { positionAfter } from './types.js'
export type {
  Attached, Completions, CurrentRun, Gap, Output, Role, RunEnd, RunFinished, RunInfo, RunOutput, RunQueued, RunStarted, SessionClosed,
  SessionInfo, ShellRestarted, StreamEvent,
} from './types.js'
