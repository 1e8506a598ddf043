// What everybody does is followed, from any position on; runs are found again by their id; sessions come and go.
import assert from 'node:assert/strict'
import { positionAfter } from 'tandem-client'

const journal = (events) => {
  const text = { 1: '', 2: '' }
  const seen = []
  for (const e of events) {
    if (e.type === 'output') text[e.channel] += Buffer.from(e.data).toString()
    else if (e.type !== 'attached') seen.push(e.type)
  }
  return { seen, out: text[1], err: text[2] }
}

export default async ({ client, session }) => {
  const watcher = client.attach(session.id)
  await watcher.attached
  const events = watcher.events()
  const one = session.run('echo one; echo wrong >&2')
  await one.finished
  await session.run('exec true').finished
  const seen = []
  for await (const e of events) {
    seen.push(e)
    if (e.type === 'shell.restarted') break
  }
  assert.deepEqual(journal(seen), { seen: ['run.started', 'run.finished', 'run.started', 'run.finished', 'shell.restarted'], out: 'one\n', err: 'wrong\n' })
  watcher.close()

  // From each position on: no more and no less.
  for (const at of seen.map(positionAfter).slice(0, -1)) {
    const resumed = client.attach(session.id, { after: at })
    const rest = []
    for await (const e of resumed.events()) {
      rest.push(e)
      if (e.type === 'shell.restarted') break
    }
    assert.equal(rest.shift().pos, at)
    assert.deepEqual(journal(rest), journal(seen.filter((e) => e.pos >= at)))
    resumed.close()
  }

  // The same run by another who has its id, also if it has ended.
  const slow = session.run('echo begin; read -r _; echo end', { run_id: 'slow', stdin: true })
  for await (const _ of slow) break
  const other = client.attach(session.id)
  const same = other.run('echo begin; read -r _; echo end', { run_id: 'slow', stdin: true })
  for await (const chunk of same) {
    assert.equal(chunk.text, 'begin\n')
    break
  }
  await slow.write('\n')
  assert.equal((await same.result()).stdout, 'begin\nend\n')
  assert.equal((await slow.result()).stdout, 'begin\nend\n')
  const ended = await other.run('echo begin; read -r _; echo end', { run_id: 'slow', stdin: true }).result()
  assert.deepEqual([ended.stdout, ended.exit_code], ['begin\nend\n', 0])
  await assert.rejects(other.run('echo different', { run_id: 'slow' }).result(), (e) => e.code === 'RUN_EXISTS')

  // Stop waiting.
  const abort = new AbortController()
  const waiting = other.events({ signal: abort.signal })[Symbol.asyncIterator]().next()
  abort.abort(new Error('enough'))
  await assert.rejects(waiting, /^Error: enough$/)
  const gone = new AbortController()
  const aborted = client.attach(session.id, { signal: gone.signal })
  await aborted.attached
  gone.abort(new Error('gone'))
  await assert.rejects(aborted.run('echo').result(), /^Error: gone$/)
  other.close()

  // Sessions come and go.
  const id = await client.create({ name: 'another', env: { GREETING: 'hello' } })
  assert.equal((await client.get(id)).name, 'another')
  assert.equal((await client.rename(id, 'renamed')).name, 'renamed')
  assert.ok((await client.list()).sessions.some((s) => s.id === id && s.name === 'renamed'))
  const its = client.attach(id)
  const all = its.events()
  assert.equal((await its.run('echo $GREETING').result()).stdout, 'hello\n')
  const held = its.run('sleep 60')
  await held.started
  await client.delete(id)
  const types = []
  for await (const e of all) types.push(e.type)
  assert.equal(types.at(-1), 'session.closed')
  assert.equal((await held.finished.catch((e) => e)).reason ?? 'session_closed', 'session_closed')
  assert.ok((await its.closed).reason)
  await assert.rejects(client.get(id), (e) => e.status === 404)
}
