// The documents that describe the server, to be read. Everything is on one page, so that a
// browser's own search finds it.

import { render } from 'preact'
import type { JSX } from 'preact'
import { operationsOf, rest, sockets } from './documents'
import { Rest, operationID } from './rest'
import { Sockets, messageID } from './sockets'
import './style.css'

function Contents(): JSX.Element {
  return (
    <nav aria-label="Contents">
      <p class="brand"><a href="./">tandem</a></p>
      <h2><a href="#rest">REST</a></h2>
      <ul>
        {operationsOf(rest).map(({ path, method, operation }) => (
          <li><a href={`#${operationID(operation)}`}><span class={`method ${method}`}>{method.toUpperCase()}</span> {path}</a></li>
        ))}
        <li><a href="#rest-schemas">Objects</a></li>
      </ul>
      <h2><a href="#sockets">WebSocket</a></h2>
      <ul>
        {Object.entries(sockets.operations).map(([name, o]) => <li><a href={`#sockets-${name}`}>{o.title}</a></li>)}
      </ul>
      <h2><a href="#sockets-messages">Messages</a></h2>
      <ul>
        {Object.entries(sockets.components.messages).map(([name, m]) => <li><a href={`#${messageID(name)}`}>{m.title}</a></li>)}
        <li><a href="#sockets-schemas">Objects</a></li>
      </ul>
      <p>For programs, and with the token, they are <code>/openapi.json</code> and <code>/asyncapi.json</code>.</p>
    </nav>
  )
}

const root = document.getElementById('app')
if (root) {
  render(<div class="docs"><Contents /><main><Rest /><Sockets /></main></div>, root)
  // What the address points at was not there when the browser looked for it.
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView()
}
