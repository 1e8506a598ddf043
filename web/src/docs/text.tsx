// The little of Markdown that the documents use: paragraphs, lists, and code.

import type { JSX } from 'preact'

/** A description. */
export function Text({ children }: { children: string | undefined }): JSX.Element | null {
  if (!children) return null
  return <>{children.split('\n\n').map(block)}</>
}

function block(text: string): JSX.Element {
  const lines = text.split('\n')
  if (lines.every((l) => l.startsWith('- '))) return <ul>{lines.map((l) => <li><Line>{l.slice(2)}</Line></li>)}</ul>
  return <p><Line>{text}</Line></p>
}

/** A line of it: every second piece between backticks is code. */
export function Line({ children }: { children: string }): JSX.Element {
  return <>{children.split('`').map((piece, i) => (i % 2 ? <code>{piece}</code> : piece))}</>
}
