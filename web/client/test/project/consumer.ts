// A program in TypeScript for Node, which knows no browser. It is only compiled.
import { Client, ClosedError, ConnectionError, RefusedError, TandemError, positionAfter } from 'tandem-client'
import type { Chunk, ErrorCode, Run, RunResult, Session, SessionInfo, StreamEvent } from 'tandem-client'
import WebSocket from 'ws'

const client = new Client({ base: 'http://127.0.0.1:4477', token: 'secret', WebSocket, fetch })
const sessions: SessionInfo[] = (await client.list({ signal: AbortSignal.timeout(1_000) })).sessions
const session: Session = client.attach(sessions[0]?.id ?? (await client.create({ name: 'new' })), { tail: 1_000, onState: (state) => console.log(state) })
const run: Run = session.run('make', { cwd: '/src', env: { A: 'b' }, timeout_ms: 60_000, stdin: true, keep: 1 << 20 })
for await (const chunk of run) {
  const { channel, data, text }: Chunk = chunk
  if (channel === 'stderr') process.stderr.write(data)
  else process.stdout.write(text)
}
await run.write(Buffer.from([0xff]))
await run.closeStdin()
await run.interrupt({ force: true })
await run.signal('SIGTERM')
const result: RunResult = await run.result()
const code: number | null = result.exit_code
const bytes: Uint8Array = result.stdoutBytes
console.log(code, bytes.length, result.stderr, result.truncated)

function tell(e: StreamEvent): number | undefined {
  switch (e.type) {
    case 'output':
      console.log(e.channel === 2, e.data.length, e.run)
      break
    case 'run.started':
      console.log(e.by, e.code, e.number)
      break
    case 'gap':
      console.log(e.to - e.from)
      break
  }
  return positionAfter(e)
}
for await (const e of session.events()) tell(e)

try {
  await session.complete('ec', 2)
} catch (e) {
  if (!(e instanceof TandemError)) throw e
  const why: ErrorCode = e.code
  console.log(why, e.status, e.message, e instanceof RefusedError, e instanceof ConnectionError, e instanceof ClosedError)
}
session.close()

// @ts-expect-error: code is text
session.run(5)
// @ts-expect-error: there is no such role
client.attach('id', { role: 'owner' })
// @ts-expect-error: a session's id cannot be changed
session.id = 'other'
