// A page in TypeScript, which knows no Node. It is only compiled.
import { Client } from 'tandem-client'

const client = new Client({ base: location.href, token: sessionStorage.getItem('token') ?? '', WebSocket, fetch: (...a) => fetch(...a) })
const session = client.attach('id', { role: 'view', after: 0 })
addEventListener('online', () => session.wake())
for await (const e of session.events()) if (e.type === 'output') document.body.append(new TextDecoder().decode(e.data))
