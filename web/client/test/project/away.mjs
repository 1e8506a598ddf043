// The server cannot be reached: what waits is given up, and the process ends.
import { Client } from 'tandem-client'

const client = new Client({ base: process.env.BASE })
await client.list().catch((e) => console.log(e.name, e.code, e.status))
const abort = new AbortController()
const session = client.attach('any', { signal: abort.signal })
const run = session.run('echo')
setTimeout(() => abort.abort(), 300)
await run.result().catch((e) => console.log(e.name))
await session.attached.catch((e) => console.log(e.name))
console.log(JSON.stringify(await session.closed), session.state)
