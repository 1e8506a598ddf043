// The connection breaks, again and again; whoever runs this breaks it when it is told to.
import assert from 'node:assert/strict'

let cuts = 0
const cut = () => console.log(`!cut ${['browser', 'server'][cuts++ % 2]}`)
const pause = () => new Promise((resolve) => setTimeout(resolve, 10))

async function cutAndBack(session) {
  const isThere = () => session.ping().then(() => true, () => false)
  cut()
  while (await isThere()) await pause()
  while (!(await isThere())) await pause()
}

/** Output, as it is read, collected, and followed. */
async function output(session) {
  const events = session.events()
  const run = session.run('for i in {1..400}; do echo "item $i"; sleep 0.01; done')
  const wanted = Array.from({ length: 400 }, (_, i) => `item ${i + 1}\n`).join('')
  let read = ''
  for await (const chunk of run) {
    const before = read.length
    read += chunk.text
    if (Math.floor(before / 600) < Math.floor(read.length / 600) && cuts < 3) await cutAndBack(session)
  }
  assert.equal(read, wanted)
  assert.equal((await run.result()).stdout, wanted)
  let followed = ''
  let connections = 0
  for await (const e of events) {
    if (e.type === 'attached') connections++
    if (e.type === 'output') followed += Buffer.from(e.data).toString()
    if (e.type === 'run.finished') break
  }
  assert.equal(followed, wanted)
  assert.equal(connections, cuts + 1)
  assert.equal(cuts, 3)
}

/** Runs that are asked for while it breaks are made once each. */
async function runs(session) {
  const many = []
  for (let i = 0; i < 30; i++) {
    many.push(session.run(`echo run ${i} | tee -a "$HOME/made"`))
    if (i % 10 === 5) {
      cut()
      await pause()
    }
  }
  const results = await Promise.all(many.map((r) => r.result()))
  assert.deepEqual(results.map((r) => r.stdout), results.map((_, i) => `run ${i}\n`))
  const made = await session.run('cat "$HOME/made"').result()
  assert.equal(made.stdout, results.map((r) => r.stdout).join(''))
}

/** Input arrives once, and so does its end. */
async function input(session) {
  const bytes = new Uint8Array(6_000_000)
  for (let i = 0, x = 7; i < bytes.length; i++) bytes[i] = x = (x * 48271) % 2147483647
  const cat = session.run('cat', { stdin: true })
  const writes = []
  for (let at = 0; at < bytes.length; at += 50_021) {
    writes.push(cat.write(bytes.subarray(at, at + 50_021)))
    if (writes.length % 40 === 20) {
      cut()
      await writes.at(-10)
    }
  }
  const closed = cat.closeStdin()
  cut()
  await Promise.all([...writes, closed])
  const echoed = await cat.result()
  assert.equal(Buffer.compare(echoed.stdoutBytes, bytes), 0, `${echoed.stdoutBytes.length} bytes of ${bytes.length}`)
}

/** What is given up while there is no connection is canceled with the next. */
async function given(session, client) {
  const abort = new AbortController()
  const run = session.run('sleep 60', { signal: abort.signal })
  await run.started
  cut()
  abort.abort()
  await assert.rejects(run.result(), { name: 'AbortError' })
  await session.run('echo after').finished
  assert.equal((await client.runInfo(session.id, run.run_id)).reason, 'canceled')
}

export default async ({ client, session }) => {
  for (const part of [output, runs, input, given]) {
    // Each with a client of its own: who is cut off often waits longer each time.
    const own = client.attach(session.id)
    await part(own, client)
    own.close()
  }
}
