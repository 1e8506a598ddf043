// Input, of text and of bytes, and its end.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'

export default async ({ session }) => {
  const given = await session.run('cat', { stdin: 'at once' }).result()
  assert.equal(given.stdout, 'at once')

  const cat = session.run('cat; echo end', { stdin: true })
  await cat.write('hällo ')
  await cat.write(new Uint8Array([0x77, 0xc3])) // the beginning of a character
  await cat.write(new Uint8Array([0xb6, 0xff, 0x00, 0x0a]))
  await cat.closeStdin()
  const echoed = await cat.result()
  assert.deepEqual([...echoed.stdoutBytes], [...Buffer.from('hällo wö'), 0xff, 0, 0x0a, ...Buffer.from('end\n')])
  await assert.rejects(cat.write('more'), (e) => e.code === 'NO_STDIN' && e.status === 409)

  // More than the window, of anything, without waiting in between.
  const bytes = new Uint8Array(5_000_000)
  for (let i = 0, x = 1; i < bytes.length; i++) bytes[i] = x = (x * 48271) % 2147483647
  const sum = session.run('sha256sum', { stdin: true })
  const writes = []
  for (let at = 0; at < bytes.length; at += 99_991) writes.push(sum.write(bytes.subarray(at, at + 99_991)))
  await sum.closeStdin()
  await Promise.all(writes)
  assert.equal((await sum.result()).stdout.split(' ')[0], createHash('sha256').update(bytes).digest('hex'))

  // Beside others, and by its id alone.
  const shared = session.run('head -n 2', { stdin: true })
  await session.stdin(shared.run_id, 'one\n')
  await session.stdin(shared.run_id, 'two\n')
  assert.equal((await shared.result()).stdout, 'one\ntwo\n')
}
