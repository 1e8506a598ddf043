// A client of tandem's REST and WebSocket protocols, for browsers and Node.

export { Rest } from './rest'
export type { RestOptions } from './rest'
export { Stream } from './stream'
export type { ConnectionState, StateInfo, StreamOptions } from './stream'
export type { RunHandle, RunOptions } from './runs'
export { TandemError } from './types'
export type {
  Attached, Completions, CurrentRun, Gap, Output, Role, RunFinished, RunInfo, RunOutput, RunQueued, RunStarted, SessionClosed, SessionInfo,
  ShellRestarted, StreamEvent,
} from './types'
