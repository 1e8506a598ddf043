// Runs are interrupted, signaled, canceled and given up; lines are completed; viewers look.
import assert from 'node:assert/strict'
import { ClosedError, RefusedError, TandemError } from 'tandem-client'

const ready = async (run) => {
  for await (const chunk of run) if (chunk.text.includes('ready')) return
}

export default async ({ client, session }) => {
  const loop = session.run('echo ready; while :; do :; done')
  await ready(loop)
  await loop.interrupt()
  assert.deepEqual(await loop.result().then((r) => [r.reason, r.exit_code, r.stdout]), ['interrupted', 130, 'ready\n'])
  await assert.rejects(loop.interrupt(), (e) => e instanceof RefusedError && e instanceof TandemError && e.code === 'RUN_NOT_RUNNING' && e.status === 409)

  const deaf = session.run("bash -c 'trap \"\" INT TERM; echo ready; while :; do sleep 1; done'")
  await ready(deaf)
  await deaf.interrupt({ force: true })
  assert.notEqual((await deaf.finished).exit_code, 0)

  const signaled = session.run("bash -c 'trap \"echo got; exit 7\" USR1; echo ready; while :; do sleep 0.05; done'")
  await ready(signaled)
  await signaled.signal('SIGUSR1')
  assert.deepEqual(await signaled.result().then((r) => [r.exit_code, r.stdout]), [7, 'ready\ngot\n'])

  const on = session.run('echo ready; sleep 60')
  const queued = session.run('echo never')
  await ready(on)
  await queued.cancel()
  assert.deepEqual(await queued.result().then((r) => [r.reason, r.exit_code, r.stdout]), ['canceled', null, ''])
  await assert.rejects(queued.started, (e) => e instanceof ClosedError && e.code === 'NOT_STARTED')
  await on.cancel()
  assert.equal((await on.finished).reason, 'canceled')

  // Given up, whoever waits for what.
  const abort = new AbortController()
  const given = session.run('echo ready; sleep 60', { signal: abort.signal })
  await ready(given)
  const reading = (async () => { for await (const _ of given); })()
  abort.abort(new Error('no more'))
  await assert.rejects(given.result(), /^Error: no more$/)
  await assert.rejects(reading, /^Error: no more$/)
  assert.equal((await client.runInfo(session.id, given.run_id, { wait: 20_000 })).reason, 'canceled')
  await assert.rejects(session.run('echo', { signal: abort.signal }).result(), /^Error: no more$/)
  await assert.rejects(client.list({ signal: AbortSignal.abort(new Error('not at all')) }), /^Error: not at all$/)

  await session.run('mkdir -p "$HOME/d" && cd "$HOME/d" && touch unmistakable').finished
  const found = await session.complete('cat unmis')
  assert.deepEqual([found.line, found.items], ['cat unmistakable ', ['unmistakable']])

  const viewer = client.attach(session.id, { role: 'view', tail: 1_000_000 })
  assert.equal((await viewer.attached).role, 'view')
  await assert.rejects(viewer.run('echo').result(), (e) => e.code === 'FORBIDDEN' && e.status === 403)
  await assert.rejects(viewer.interrupt(), (e) => e.code === 'FORBIDDEN')
  assert.ok((await viewer.ping()) >= 0)
  viewer.close()
  assert.deepEqual(await viewer.closed, {})
  await assert.rejects(viewer.run('echo').result(), (e) => e instanceof ClosedError && e.code === 'CLOSED')

  const nobody = client.attach('nobody')
  await assert.rejects(nobody.attached, (e) => e.code === 'CONTEXT_NOT_FOUND' && e.status === 404)
  assert.equal((await nobody.closed).error.code, 'CONTEXT_NOT_FOUND')
  await assert.rejects(client.get('nobody'), (e) => e.code === 'CONTEXT_NOT_FOUND')
}
