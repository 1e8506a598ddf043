import type { Signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Completions } from '../../client/src'
import { plain } from './format'

export interface CompletionState {
  items: readonly string[]
  index: number // of the one chosen; -1: none yet
  asked: string // the line that was completed
  line: string // what it became by that
  start: number // what an item takes the place of in asked, in code points
  end: number
  truncated: boolean
}

/** No completions. */
export const completionState: CompletionState = { items: [], index: -1, asked: '', line: '', start: 0, end: 0, truncated: false }

export function offer(c: Completions, asked: string): CompletionState {
  return { items: c.items, index: -1, asked, line: c.line, start: c.start, end: c.end, truncated: c.truncated }
}

// Positions count code points on the wire and UTF-16 units here.
export const toPoint = (text: string, unit: number): number => [...text.slice(0, unit)].length
export const fromPoint = (text: string, point: number): number => [...text].slice(0, point).join('').length

/** The candidates, above the line. Keys for it come from the prompt. */
export function CompletionList({ state, onChoose }: { state: Signal<CompletionState>; onChoose: (item: string) => void }) {
  const { items, index, truncated } = state.value
  const chosen = useRef<HTMLLIElement>(null)
  useEffect(() => chosen.current?.scrollIntoView({ block: 'nearest' }), [index])
  if (items.length === 0) return null
  return (
    <div class="completions" data-testid="completions">
      <ul role="listbox" aria-label="Completions">
        {items.map((item, i) => (
          <li
            key={item} role="option" aria-selected={i === index} class={i === index ? 'chosen' : ''} ref={i === index ? chosen : null}
            onMouseDown={(e) => {
              e.preventDefault() // the prompt keeps the keys
              onChoose(item)
            }}
          >
            <bdi>{plain(lastPart(item))}</bdi>
          </li>
        ))}
      </ul>
      {truncated && <p>There are more.</p>}
    </div>
  )
}

/** A path is listed by its last part, as a shell does. */
function lastPart(item: string): string {
  const cut = item.replace(/\/$/, '').lastIndexOf('/')
  return cut < 0 ? item : item.slice(cut + 1)
}
