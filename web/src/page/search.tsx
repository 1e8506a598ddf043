import { useEffect, useRef } from 'preact/hooks'
import { IconButton } from './icons'
import type { Found, View } from './terminal'

/** Searches in all that the terminal holds, upwards first: the newest is at the bottom. */
export function SearchBar({ view, found, onClose }: { view: View; found: Found | undefined; onClose: () => void }) {
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => input.current?.focus(), [])
  const find = (backward: boolean) => view.find(input.current?.value ?? '', backward)
  const count = !found || !input.current?.value ? '' : found.count === 0 ? 'not found' : found.index < 0 ? `${found.count}+` : `${found.index + 1} of ${found.count}`
  return (
    <div class="search" role="search" data-testid="search-bar">
      <input
        ref={input} placeholder="Search in the output" aria-label="Search in the output" spellcheck={false} data-testid="search-input"
        onInput={() => find(true)}
        onKeyDown={(e) => {
          if (e.key === 'Escape') onClose()
          else if (e.key === 'Enter' && !e.isComposing) find(!e.shiftKey)
        }}
      />
      <span class="count" role="status" data-testid="search-count">{count}</span>
      <IconButton icon="up" label="Before (Enter)" onClick={() => find(true)} />
      <IconButton icon="down" label="After (Shift+Enter)" onClick={() => find(false)} />
      <IconButton icon="close" label="Close (Esc)" onClick={onClose} />
    </div>
  )
}
