// The line that is typed in: an editor that knows bash's keys.

import { defaultKeymap, history, historyKeymap, deleteToLineEnd, deleteToLineStart, deleteGroupBackward, deleteGroupForward, cursorGroupLeft, cursorGroupRight, cursorLineStart, cursorLineEnd, insertNewline, transposeChars } from '@codemirror/commands'
import { HighlightStyle, StreamLanguage, bracketMatching, syntaxHighlighting } from '@codemirror/language'
import { shell } from '@codemirror/legacy-modes/mode/shell'
import { Compartment, EditorState, Prec } from '@codemirror/state'
import { EditorView, drawSelection, keymap, placeholder } from '@codemirror/view'
import type { Command } from '@codemirror/view'
import { tags } from '@lezer/highlight'
import { nonce } from './nonce'
import { incomplete } from './shell'

export interface Actions {
  /** Enter, with what the line holds; it is cleared if this returns true. */
  enter(text: string): boolean
  /** Alt-Enter: the line as the next run, whatever is on. */
  queue(text: string): boolean
  /** Whether Enter may leave a command unfinished, as lines of input are. */
  takesInput(): boolean
  interrupt(): void
  endInput(): void
  complete(text: string, point: number): void
  search(): void
  /** What Up leads to, oldest first. */
  entries(): string[]
  /** A key that the list of completions may want first. */
  listKey(key: 'up' | 'down' | 'enter' | 'tab' | 'escape'): boolean
  /** Anything else has been typed. */
  changed(): void
  clearScreen(): void
}

// After Escape, Tab leaves the line for so many ms.
const tabLeaves = 2000

const colors = HighlightStyle.define([
  { tag: tags.keyword, color: 'var(--code-keyword)' },
  { tag: tags.string, color: 'var(--code-string)' },
  { tag: tags.comment, color: 'var(--faint)', fontStyle: 'italic' },
  { tag: [tags.variableName, tags.definition(tags.variableName)], color: 'var(--code-variable)' },
  { tag: tags.number, color: 'var(--code-number)' },
  { tag: tags.standard(tags.variableName), color: 'var(--code-builtin)' },
  { tag: tags.attributeName, color: 'var(--code-option)' },
])

/** The editor, with its own history of what was entered. */
export class Prompt {
  readonly view: EditorView
  private readonly hint = new Compartment()
  private readonly language = new Compartment()
  private readonly access = new Compartment()
  private entries: string[] = [] // as they were when Up was first pressed
  private index = 0 // of the entry shown; entries.length: none
  private draft = ''

  constructor(parent: HTMLElement, private readonly actions: Actions) {
    this.view = new EditorView({
      parent,
      state: EditorState.create({
        extensions: [
          nonce ? EditorView.cspNonce.of(nonce) : [],
          Prec.highest(keymap.of(this.keys())),
          history(),
          keymap.of([...historyKeymap, ...defaultKeymap]),
          drawSelection(),
          bracketMatching(),
          EditorView.lineWrapping,
          // Names in scripts that run from right to left keep to their own line.
          EditorView.perLineTextDirection.of(true),
          EditorView.contentAttributes.of({
            'aria-label': 'Command line', autocapitalize: 'off', autocorrect: 'off', spellcheck: 'false', enterkeyhint: 'send', 'data-testid': 'prompt',
          }),
          syntaxHighlighting(colors),
          this.language.of(StreamLanguage.define(shell)),
          this.hint.of(placeholder('')),
          this.access.of([]),
          EditorView.updateListener.of((u) => {
            if (u.docChanged) this.actions.changed()
          }),
        ],
      }),
    })
  }

  get text(): string {
    return this.view.state.doc.toString()
  }

  /** Puts text in place of what is there, the cursor at point or the end. */
  replace(text: string, point = text.length): void {
    this.view.dispatch({
      changes: { from: 0, to: this.view.state.doc.length, insert: text },
      selection: { anchor: Math.min(point, text.length) },
      scrollIntoView: true,
    })
  }

  /** Empties the line; Up begins with the latest entry again. */
  clear(): void {
    this.replace('')
    this.draft = ''
    this.index = this.entries.length
  }

  /** Puts back what was entered and refused, unless something else has been typed since. */
  giveBack(text: string): void {
    if (this.text === '') this.replace(text)
  }

  insert(text: string): void {
    this.view.dispatch(this.view.state.replaceSelection(text), { scrollIntoView: true })
    this.focus()
  }

  /** For input of a run there is no language and another hint. */
  mode(hint: string, code: boolean): void {
    this.view.dispatch({
      effects: [
        this.hint.reconfigure(placeholder(hint)),
        this.language.reconfigure(code ? StreamLanguage.define(shell) : []),
      ],
    })
  }

  enable(on: boolean): void {
    this.view.dispatch({ effects: this.access.reconfigure(on ? [] : [EditorState.readOnly.of(true), EditorView.editable.of(false)]) })
  }

  focus(): void {
    this.view.focus()
  }

  dispose(): void {
    this.view.destroy()
  }

  /** Acts as if a key had been pressed, for keys on the screen. */
  press(key: 'up' | 'down' | 'left' | 'right' | 'tab' | 'escape' | 'home' | 'end'): void {
    const commands: Record<typeof key, Command> = {
      up: () => this.up(), down: () => this.down(), tab: () => this.tab(), escape: () => this.escape(),
      left: (v) => this.move(v, -1), right: (v) => this.move(v, 1), home: cursorLineStart, end: cursorLineEnd,
    }
    commands[key](this.view)
    this.focus()
  }

  /** Control and a letter, from keys on the screen. False where it means nothing. */
  control(letter: string): boolean {
    const command = this.controls()[letter]
    if (!command) return false
    command(this.view)
    this.focus()
    return true
  }

  private controls(): Record<string, Command> {
    return {
      a: cursorLineStart, e: cursorLineEnd, u: deleteToLineStart, k: deleteToLineEnd, w: deleteGroupBackward, t: transposeChars,
      b: (v) => this.move(v, -1), f: (v) => this.move(v, 1),
      c: () => this.copyOrInterrupt(), d: (v) => this.endOrDelete(v), p: () => this.up(), n: () => this.down(),
      l: () => (this.actions.clearScreen(), true), r: () => (this.actions.search(), true),
    }
  }

  private keys() {
    const controls = Object.entries(this.controls()).map(([letter, run]) => ({ key: `Ctrl-${letter}`, run, preventDefault: true }))
    return [
      { key: 'Enter', run: () => this.enter() },
      { key: 'Shift-Enter', run: insertNewline },
      { key: 'Alt-Enter', run: () => this.submit((text) => this.actions.queue(text)) },
      { key: 'Ctrl-Enter', run: () => this.submit((text) => this.actions.queue(text)) },
      { key: 'Tab', run: () => this.tab() },
      { key: 'ArrowUp', run: () => this.up() },
      { key: 'ArrowDown', run: () => this.down() },
      { key: 'Alt-b', run: cursorGroupLeft, preventDefault: true },
      { key: 'Alt-f', run: cursorGroupRight, preventDefault: true },
      { key: 'Alt-d', run: deleteGroupForward, preventDefault: true },
      { key: 'Alt-Backspace', run: deleteGroupBackward },
      { key: 'Escape', run: () => this.escape() },
      ...controls,
    ]
  }

  private enter(): boolean {
    // While a character is composed, Enter is the input method's.
    if (this.view.composing) return false
    if (this.actions.listKey('enter')) return true
    const { state } = this.view
    const atEnd = state.selection.main.head === state.doc.length
    const lastLineEmpty = state.doc.lines > 1 && state.doc.line(state.doc.lines).length === 0
    if (!this.actions.takesInput() && atEnd && !lastLineEmpty && incomplete(this.text)) return insertNewline(this.view)
    return this.submit((text) => this.actions.enter(text))
  }

  private submit(to: (text: string) => boolean): boolean {
    if (to(this.text)) this.clear()
    return true
  }

  private tab(): boolean {
    if (this.actions.listKey('tab')) return true
    this.actions.complete(this.text, this.view.state.selection.main.head)
    return true
  }

  private escape(): boolean {
    this.view.setTabFocusMode(tabLeaves)
    return this.actions.listKey('escape')
  }

  private up(): boolean {
    if (this.actions.listKey('up')) return true
    const { state } = this.view
    if (state.doc.lineAt(state.selection.main.head).number > 1) return false
    return this.browse(-1)
  }

  private down(): boolean {
    if (this.actions.listKey('down')) return true
    const { state } = this.view
    if (state.doc.lineAt(state.selection.main.head).number < state.doc.lines) return false
    return this.browse(1)
  }

  private browse(step: number): boolean {
    if (this.index === this.entries.length) {
      this.entries = this.actions.entries()
      this.index = this.entries.length
      this.draft = this.text
    }
    const next = this.index + step
    if (next < 0 || next > this.entries.length) return true
    this.index = next
    this.replace(this.entries[next] ?? this.draft)
    return true
  }

  private move(view: EditorView, by: number): boolean {
    const head = view.state.selection.main
    view.dispatch({ selection: view.moveByChar(head, by > 0), scrollIntoView: true })
    return true
  }

  private copyOrInterrupt(): boolean {
    if (!this.view.state.selection.main.empty) {
      // The browser copies what is selected; the key then means nothing else.
      document.execCommand('copy')
      return true
    }
    this.actions.interrupt()
    return true
  }

  private endOrDelete(view: EditorView): boolean {
    if (view.state.doc.length === 0) this.actions.endInput()
    else {
      const { head } = view.state.selection.main
      const to = view.moveByChar(view.state.selection.main, true).head
      if (to > head) view.dispatch({ changes: { from: head, to } })
    }
    return true
  }
}
