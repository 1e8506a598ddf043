import { useSignal } from '@preact/signals'
import type { Prompt } from './prompt'

type Key = Parameters<Prompt['press']>[0]

const keys: { key: Key; label: string; name: string }[] = [
  { key: 'escape', label: 'Esc', name: 'Escape' },
  { key: 'tab', label: 'Tab', name: 'Tab' },
  { key: 'left', label: '←', name: 'Left' },
  { key: 'right', label: '→', name: 'Right' },
  { key: 'up', label: '↑', name: 'Up' },
  { key: 'down', label: '↓', name: 'Down' },
]

/** Keys that a keyboard on a touch screen does not have. */
export function KeyRow({ prompt }: { prompt: Prompt }) {
  const ctrl = useSignal(false)
  // The keyboard stays open only if the line keeps the focus.
  const keep = (e: Event) => e.preventDefault()
  return (
    <div class="keyrow" role="toolbar" aria-label="Keys" data-testid="keyrow" onPointerDown={keep} onMouseDown={keep}>
      <button type="button" aria-pressed={ctrl.value} class={ctrl.value ? 'held' : ''} onClick={() => (ctrl.value = !ctrl.value)}>Ctrl</button>
      {ctrl.value
        ? ['c', 'd', 'r', 'a', 'e', 'u', 'k', 'w', 'l'].map((letter) => (
            <button
              type="button" key={letter} aria-label={`Control ${letter.toUpperCase()}`}
              onClick={() => {
                prompt.control(letter)
                ctrl.value = false
              }}
            >
              {letter.toUpperCase()}
            </button>
          ))
        : keys.map(({ key, label, name }) => (
            <button type="button" key={key} aria-label={name} onClick={() => prompt.press(key)}>{label}</button>
          ))}
    </div>
  )
}
