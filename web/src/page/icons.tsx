// The few pictures the page needs, drawn as lines in the color of the text around them.

const paths = {
  plus: 'M12 5v14M5 12h14',
  close: 'M6 6l12 12M18 6L6 18',
  menu: 'M4 7h16M4 12h16M4 17h16',
  runs: 'M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4',
  settings: 'M4 7h10M18 7h2M4 17h2M10 17h10M16 4.5v5M8 14.5v5',
  edit: 'M4 20h4L19 9l-4-4L4 16z',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  again: 'M20 11a8 8 0 1 0-2 6M20 5v6h-6',
  stop: 'M6 6h12v12H6z',
  up: 'M12 19V5M6 11l6-6 6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  code: 'M8 7l-5 5 5 5M16 7l5 5-5 5',
  eye: 'M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  output: 'M4 5h16v14H4zM8 10l2 2-2 2M13 14h3',
} as const

export type IconName = keyof typeof paths

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  )
}

interface ButtonProps {
  icon: IconName
  label: string
  onClick: (e: MouseEvent) => void
  disabled?: boolean
  pressed?: boolean
  class?: string
  testid?: string
}

/** A button with a picture on it; the label is its name and its tip. */
export function IconButton({ icon, label, onClick, disabled, pressed, class: extra, testid }: ButtonProps) {
  return (
    <button
      type="button" class={`icon-button ${extra ?? ''}`} aria-label={label} title={label} disabled={disabled} aria-pressed={pressed}
      onClick={onClick} data-testid={testid}
    >
      <Icon name={icon} />
    </button>
  )
}
