import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { firstLine } from './format'

const mostShown = 50

interface HistoryProps {
  entries: readonly string[] // oldest first
  onClose: (chosen: string | undefined) => void
}

/** Ctrl-R: searches backwards in what was run in the session. */
export function HistorySearch({ entries, onClose }: HistoryProps) {
  const wanted = useSignal('')
  const index = useSignal(0)
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => input.current?.focus(), [])
  const matches = [...new Set([...entries].reverse())].filter((e) => e.includes(wanted.value)).slice(0, mostShown)
  const step = (by: number) => {
    if (matches.length > 0) index.value = (index.value + by + matches.length) % matches.length
  }
  const onKey = (e: KeyboardEvent) => {
    const key = e.key.toLowerCase()
    if (e.isComposing) return
    if (key === 'enter' || key === 'tab') onClose(matches[index.value])
    else if (key === 'escape' || (e.ctrlKey && (key === 'c' || key === 'g'))) onClose(undefined)
    else if (key === 'arrowup' || (e.ctrlKey && key === 'r')) step(1)
    else if (key === 'arrowdown' || (e.ctrlKey && key === 's')) step(-1)
    else return
    e.preventDefault()
    e.stopPropagation()
  }
  return (
    <div class="completions history" data-testid="history-search">
      <ul role="listbox" aria-label="History">
        {matches.slice().reverse().map((m, i) => (
          <Match key={m} text={m} chosen={matches.length - 1 - i === index.value} onChoose={() => onClose(m)} />
        ))}
        {matches.length === 0 && <li class="none">Nothing like that was run here.</li>}
      </ul>
      <label>
        Search in history
        <input
          ref={input} value={wanted.value} autocomplete="off" spellcheck={false} onKeyDown={onKey} onBlur={() => onClose(undefined)} data-testid="history-input"
          onInput={(e) => {
            wanted.value = e.currentTarget.value
            index.value = 0
          }}
        />
      </label>
    </div>
  )
}

function Match({ text, chosen, onChoose }: { text: string; chosen: boolean; onChoose: () => void }) {
  const element = useRef<HTMLLIElement>(null)
  useEffect(() => {
    if (chosen) element.current?.scrollIntoView({ block: 'nearest' })
  }, [chosen])
  const { line, more } = firstLine(text)
  return (
    <li
      ref={element} role="option" aria-selected={chosen} class={chosen ? 'chosen' : ''}
      onMouseDown={(e) => {
        e.preventDefault()
        onChoose()
      }}
    >
      <bdi>{line}</bdi>{more > 0 && <small> … {more} more lines</small>}
    </li>
  )
}
