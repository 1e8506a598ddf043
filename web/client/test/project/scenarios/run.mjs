// Code is run and its result awaited.
import assert from 'node:assert/strict'
import { RefusedError } from 'tandem-client'

export default async ({ client, session }) => {
  const { session_id, role } = await session.attached
  assert.equal(session_id, session.id)
  assert.equal(role, 'control')
  assert.equal(session.state, 'open')

  const first = await session.run('cd /tmp; x=41; echo hällo; echo no >&2; printf "\\xff\\x00"; exit 3').result()
  assert.equal(first.exit_code, 3)
  assert.equal(first.reason, 'exited')
  assert.equal(first.stdout, 'hällo\n\ufffd\0')
  assert.equal(first.stderr, 'no\n')
  assert.deepEqual([...first.stdoutBytes], [...Buffer.from('hällo\n'), 0xff, 0])
  assert.equal(first.truncated, false)

  const all = await Promise.all(Array.from({ length: 20 }, (_, i) => session.run(`echo $((x + ${i})) $PWD $E`, { env: { E: `e${i}` } }).result()))
  assert.deepEqual(all.map((r) => r.stdout), all.map((_, i) => `${41 + i} /tmp e${i}\n`))

  const late = session.run('sleep 60', { timeout_ms: 50 })
  assert.equal((await late.started).run_id, late.run_id)
  assert.deepEqual(await late.result().then((r) => [r.exit_code, r.reason]), [124, 'timed_out'])
  assert.equal((await client.runInfo(session.id, late.run_id)).reason, 'timed_out')

  await assert.rejects(session.run('').result(), (e) => e instanceof RefusedError && e.code === 'INVALID_REQUEST_BODY' && e.status === 400 && /code is empty/.test(e.message))
  const nowhere = await session.run('echo', { cwd: '/not/there' }).result()
  assert.equal(nowhere.reason, 'refused')
  assert.equal(nowhere.exit_code, null)

  // The last of much output is kept.
  const much = await session.run('seq 1 200000', { keep: 10_000 }).result()
  assert.equal(much.truncated, true)
  assert.ok(much.stdout.endsWith('199999\n200000\n') && much.stdout.length >= 10_000 && much.stdout.length < 100_000, `${much.stdout.length}`)

  // What a job of its own writes after its end is not a run's.
  const early = await session.run('(sleep 0.2; echo late) & echo early').result()
  assert.equal(early.stdout, 'early\n')
  const next = await session.run('wait; echo next').result()
  assert.equal(next.stdout, 'next\n')
}
