import type { ComponentChildren } from 'preact'
import { useLayoutEffect, useRef } from 'preact/hooks'

interface DialogProps {
  title: string
  onClose: () => void
  children: ComponentChildren
  testid?: string
}

/** Puts the focus on the command line, or where one can be had, for when what had it goes. */
export function focusLine(): void {
  const line = document.querySelector<HTMLElement>('[data-testid=prompt]') ?? document.querySelector<HTMLElement>('.new-session')
  line?.focus()
}

/** A question that is put before everything else. Escape closes it, and the focus returns to where it was. */
export function Dialog({ title, onClose, children, testid }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => { // its end comes while the dialog is still there: closed, it gives the focus back
    const dialog = element.current
    dialog?.showModal()
    return () => {
      dialog?.close()
      if (document.activeElement === document.body) focusLine() // what had it is gone
    }
  }, [])
  return (
    <dialog
      ref={element} aria-label={title} data-testid={testid}
      onCancel={(e) => {
        e.preventDefault()
        onClose()
      }}
      onClick={(e) => {
        if (e.target === element.current) onClose()
      }}
    >
      <div class="dialog-body">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  )
}
